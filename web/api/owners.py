"""The owners, and what may be done to their grants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import g

from models import consent, grants
from models.api_keys import Scope, of_key
from web.api.fresh import alive, not_now, read
from web.api.operations import operation
from web.api.parts import api_parts
from web.api.problems import disconnected, needs_consent, no_grant
from web.api.shapes import Owner, OwnersPage, OwnersQuery, RefreshBody, Refreshed
from web.sentence import BY_OPERATOR
from web.wiring import wiring
from workers.refresh import Result

if TYPE_CHECKING:
    from web.api.access import Call


@operation(
    "GET", "/owners", Scope.OWNERS_READ, "The owners, a page at a time", answer=OwnersPage, query=OwnersQuery
)
def page(call: Call, query: OwnersQuery) -> OwnersPage:
    """In the order of their ids. A key that was made for some owners sees those only."""
    with wiring().parts.database.read() as connection:
        found = grants.page(
            connection,
            limit=query.limit + 1,
            after=query.after,
            state=query.state,
            region=query.region,
            among=of_key(call.key),
        )
    more = len(found) > query.limit
    shown = found[: query.limit]
    return OwnersPage(owners=[Owner.of(grant) for grant in shown], next=shown[-1].owner if more else None)


@operation("GET", "/owners/{owner}", Scope.OWNERS_READ, "One owner", answer=Owner, problems=(404,))
def one(call: Call) -> Owner:
    """The owner's grant: its state, since when, what happens next."""
    if call.grant is None:
        raise no_grant(call.owner)
    return Owner.of(call.grant)


@operation(
    "POST",
    "/owners/{owner}/refresh",
    Scope.OWNERS_WRITE,
    "Refresh now",
    answer=Refreshed,
    body=RefreshBody,
    problems=(400, 404, 409, 413, 415),
)
def refresh(call: Call, body: RefreshBody) -> Refreshed:
    """Refreshes the grant although it is not due. It is never necessary: Evergrant does it by itself, and the
    token call before it is too late."""
    grant = alive(call.owner, call.grant)
    stale = grant.generation if body.generation is None else min(body.generation, grant.generation)
    parts = api_parts()
    with parts.seats:
        outcome = parts.together.refresh(call.owner, stale)
    match outcome.result:
        case Result.REFRESHED | Result.FRESH:
            pass
        case Result.NEEDS_CONSENT:
            raise needs_consent(call.owner, outcome.cause)
        case Result.NOT_CONNECTED:
            raise disconnected(call.owner)
        case _:
            raise not_now(call.owner, outcome)
    return Refreshed(result=outcome.result.value, owner=Owner.of(alive(call.owner, read(call.owner))))


@operation(
    "POST",
    "/owners/{owner}/disconnect",
    Scope.OWNERS_WRITE,
    "Disconnect",
    answer=Owner,
    problems=(404,),
)
def disconnect(call: Call) -> Owner:
    """Erases the owner's tokens and keeps the history. Once more changes nothing. The consent at Tesla stays
    until the owner withdraws it there."""
    if call.grant is None:
        raise no_grant(call.owner)
    consent.disconnect(
        wiring().parts.database, call.owner, correlation_id=g.correlation_id, detail=BY_OPERATOR
    )
    grant = read(call.owner)
    if grant is None:
        raise no_grant(call.owner)
    return Owner.of(grant)
