"""What happened, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models import events
from models.api_keys import Scope, of_key
from web.api.operations import operation
from web.api.shapes import Event, EventsPage, EventsQuery
from web.wiring import wiring

if TYPE_CHECKING:
    from web.api.access import Call


@operation(
    "GET",
    "/events",
    Scope.OWNERS_READ,
    "What happened, a page at a time",
    answer=EventsPage,
    query=EventsQuery,
)
def page(call: Call, query: EventsQuery) -> EventsPage:
    """Newest first. A key that was made for some owners sees their events only. To be told of them, use
    webhooks instead of asking again and again."""
    with wiring().parts.database.read() as connection:
        found = events.page(
            connection,
            limit=query.limit + 1,
            before=query.before,
            owner=query.owner,
            among=of_key(call.key),
        )
    more = len(found) > query.limit
    shown = found[: query.limit]
    return EventsPage(events=[Event.of(event) for event in shown], next=shown[-1].id if more else None)
