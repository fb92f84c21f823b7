"""What goes in and what comes out; the OpenAPI document is made from it."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic needs it at run time
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from fleet.scopes import missing
from models.events import Kind
from models.grants import State
from web.api.problems import reconnect_url
from web.returning import URL
from web.sentence import cause_of
from web.troubleshooting import address_of
from web.wiring import wiring

if TYPE_CHECKING:
    from fleet.errors import Cause as FleetCause
    from models.events import Event as EventRow
    from models.grants import Grant
    from settings import Settings

MOST = 1000
"""Items of a page."""

MIN_TTL = 10
"""Seconds that a token must still live where a program does not say."""

OwnerId = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]
Turn = Literal["owner", "operator", "wait", "program"]


def _whole(value: object) -> object:
    # JSON knows whole numbers from texts and booleans, and 5.0 is one.
    if isinstance(value, (bool, str)):
        raise ValueError("must be a whole number")
    return value


Whole = Annotated[int, BeforeValidator(_whole)]
Generation = Annotated[int, Field(ge=0, lt=2**63), BeforeValidator(_whole)]


class _In(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Out(BaseModel):
    model_config = ConfigDict(extra="forbid")


# --- in -----------------------------------------------------------------------------------------------


class TokenQuery(_In):
    min_ttl: int = Field(
        MIN_TTL,
        ge=0,
        le=7_776_000,
        description="Seconds that the token should still live. If it has less left, it is refreshed first. "
        "A token that has nine tenths of its life left counts as fresh, however much is asked for.",
    )


class OwnersQuery(_In):
    state: Literal["alive", "needs_consent", "disconnected"] | None = Field(
        None, description="Only grants in this state."
    )
    region: Literal["NA", "EU", "CN"] | None = Field(None, description="Only owners of this region.")
    after: OwnerId | None = Field(None, description="`next` of the page before; without it, the first page.")
    limit: int = Field(100, ge=1, le=MOST, description="Owners a page.")


class EventsQuery(_In):
    owner: OwnerId | None = Field(None, description="Only this owner's events.")
    before: int | None = Field(
        None, ge=1, lt=2**63, description="`next` of the page before; without it, the newest events."
    )
    limit: int = Field(100, ge=1, le=MOST, description="Events a page.")


class RefreshBody(_In):
    generation: Generation | None = Field(
        None,
        description="The generation that you hold and want replaced. Where the grant is past it already, "
        "nothing is refreshed. Without it: the one that the table has now.",
    )


class SignInLinkBody(_In):
    owner: OwnerId | None = Field(
        None, description="The only owner who may sign in with it. Without it: whoever does."
    )
    return_url: str | None = Field(
        None, max_length=2000, pattern=URL, description="Where the browser goes after the sign-in."
    )
    lives: Whole = Field(3600, ge=60, le=604_800, description="Seconds in which the link may be opened.")


# --- out ----------------------------------------------------------------------------------------------


class Cause(_Out):
    """Why something did not work."""

    code: str
    title: str
    explanation: str
    repair: str
    turn: Turn = Field(description="Whose turn it is; `wait`: nobody's, it passes by itself.")
    entry: str = Field(default="", description="Where the whole story of it is, for people.")

    @classmethod
    def of(cls, code: str | None) -> Cause | None:
        cause: FleetCause | None = cause_of(code)
        if code is None:
            return None
        if cause is None:
            return cls(code=code, title=code, explanation="", repair="", turn="wait")
        return cls(
            code=cause.code,
            title=cause.title,
            explanation=cause.explanation,
            repair=cause.repair,
            turn=cause.actor.value,
            entry=address_of(cause.code) or "",
        )


class Token(_Out):
    """An owner's access token, and where to use it."""

    owner: str
    access_token: str = Field(description="For `Authorization: Bearer …` at `fleet_url`.")
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - no secret
    expires_at: datetime
    expires_in: int = Field(description="Seconds, rounded down.")
    min_ttl_met: bool = Field(
        description="False when the token lives less long than asked: tokens never live so long, or it could "
        "not be refreshed just now."
    )
    scopes: list[str] = Field(description="What the owner has granted.")
    region: str
    fleet_url: str = Field(description="Base URL of the Fleet API of the owner's region.")
    generation: int = Field(description="Counts the grant's refreshes.")

    @classmethod
    def of(cls, grant: Grant, access_token: str, *, min_ttl_met: bool, settings: Settings) -> Token:
        ends = grant.access_expires_at or grant.read_at
        return cls(
            owner=grant.owner,
            access_token=access_token,
            expires_at=ends,
            expires_in=int((ends - grant.read_at).total_seconds()),
            min_ttl_met=min_ttl_met,
            scopes=grant.scopes.split(),
            region=grant.region,
            fleet_url=_fleet_url(grant, settings),
            generation=grant.generation,
        )


class Owner(_Out):
    """An owner's grant, without its tokens. Times are UTC."""

    owner: str = Field(description="The `sub` of Tesla's tokens.")
    state: Literal["alive", "needs_consent", "disconnected"]
    reason: Cause | None = Field(description="Why consent is needed.")
    paused_at: datetime | None = Field(description="Since when it is paused by the operator.")
    generation: int
    scopes: list[str]
    requested_scopes: list[str]
    missing_scopes: list[str] = Field(description="What was asked for and is not granted.")
    region: str
    fleet_url: str
    connected_at: datetime
    refreshed_at: datetime
    access_expires_at: datetime | None
    refresh_at: datetime | None = Field(description="When the next refresh is due, by itself.")
    failures: int = Field(description="Attempts that failed since the last that did not.")
    last_error: Cause | None
    last_error_at: datetime | None
    retry_at: datetime | None
    reconnect_url: str | None = Field(description="Where the owner signs in again, when that is needed.")

    @classmethod
    def of(cls, grant: Grant) -> Owner:
        return cls(
            owner=grant.owner,
            state=State(grant.state).value,
            reason=Cause.of(grant.reason),
            paused_at=grant.paused_at,
            generation=grant.generation,
            scopes=grant.scopes.split(),
            requested_scopes=grant.requested_scopes.split(),
            missing_scopes=list(missing(grant.requested_scopes.split(), grant.scopes.split())),
            region=grant.region,
            fleet_url=_fleet_url(grant, wiring().settings),
            connected_at=grant.connected_at,
            refreshed_at=grant.refreshed_at,
            access_expires_at=grant.access_expires_at,
            refresh_at=grant.refresh_at,
            failures=grant.failures,
            last_error=Cause.of(grant.last_error),
            last_error_at=grant.last_error_at,
            retry_at=grant.retry_at,
            reconnect_url=None if grant.state == State.ALIVE else reconnect_url(),
        )


class OwnersPage(_Out):
    owners: list[Owner]
    next: str | None = Field(description="Give it as `after` for the next page; null: this is the last.")


class Refreshed(_Out):
    result: Literal["refreshed", "fresh"] = Field(
        description="`fresh`: another had refreshed it meanwhile, so there was nothing to do."
    )
    owner: Owner


class SignInLink(_Out):
    url: str = Field(
        description="For the owner's browser. Who has it can sign in with it: show it to nobody else."
    )
    owner: str | None
    return_url: str | None
    expires_at: datetime


class Event(_Out):
    """Something that happened to a grant."""

    id: int
    at: datetime
    owner: str | None = Field(description="Null: it concerns all.")
    kind: str = Field(description="One of: " + ", ".join(f"`{kind}`" for kind in Kind) + ".")
    reason: Cause | None
    detail: str | None
    generation: int | None
    correlation_id: str | None

    @classmethod
    def of(cls, event: EventRow) -> Event:
        return cls(
            id=event.id,
            at=event.at,
            owner=event.owner,
            kind=event.kind,
            reason=Cause.of(event.reason),
            detail=event.detail,
            generation=event.generation,
            correlation_id=event.correlation_id,
        )


class EventsPage(_Out):
    events: list[Event]
    next: int | None = Field(description="Give it as `before` for older ones; null: there are none.")


class ParameterError(_Out):
    parameter: str
    message: str


class Problem(_Out):
    """Why there is no answer (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = Field(default="", description="In words, for people.")
    code: str = Field(description="For programs to compare.")
    turn: Turn = Field(description="Whose turn it is; `wait`: nobody's, it passes by itself.")
    repair: str = Field(default="", description="What to do.")
    entry: str = Field(default="", description="Where the whole story of the cause is, for people.")
    correlation_id: str = Field(description="For the operator, who finds it in the log.")
    owner: str = Field(default="", description="Whom it is about.")
    reason: str = Field(default="", description="With `needs_consent`: the code of the cause.")
    reconnect_url: str = Field(default="", description="Where the owner signs in.")
    scope: str = Field(default="", description="With `scope_missing`: the one.")
    errors: list[ParameterError] = Field(default=[], description="With `invalid`: what is wrong where.")


def _fleet_url(grant: Grant, settings: Settings) -> str:
    """The base URL that is configured for the owner's region."""
    return settings.fleet_urls.get(grant.region, grant.fleet_url)
