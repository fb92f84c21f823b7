"""What happened to which grant, when and why: append-only, and never a token."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Identity,
    Index,
    Integer,
    String,
    Table,
    Text,
    func,
    literal_column,
    select,
)

from models import webhooks
from models.grants import grants
from models.session import Instant, OwnerId, metadata, now

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy import Connection, Select

NO_REFRESH = literal_column("kind <> 'refreshed'", Boolean)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True),
    Column("at", Instant, nullable=False),
    Column("owner", OwnerId),  # none: it concerns all
    Column("kind", String(32), nullable=False),
    Column("reason", String(64)),  # the code of a cause in `fleet.errors`
    Column("detail", Text),  # in words, for people
    Column("generation", BigInteger),
    Column("correlation_id", String(32)),
    Column("late", Float),  # of a refresh: seconds after it fell due that its attempt began
    Column("access_expires_at", Instant),  # of the access token that came with it, where one did
    Index("ix_events_owner_id", "owner", "id"),
    # All but a few are refreshes: what else happened is found without passing them.
    Index("ix_events_kind_id", "kind", "id", postgresql_where=NO_REFRESH, sqlite_where=NO_REFRESH),
    Index("ix_events_rare_id", "id", postgresql_where=NO_REFRESH, sqlite_where=NO_REFRESH),
)


# Built once: it is part of every refresh.
_RECORD = events.insert().values(at=now()).inline()


class Kind(StrEnum):
    """What can happen to a grant."""

    CONNECTED = "connected"  # the owner signed in, for the first time or again
    REFRESHED = "refreshed"  # a rotation is in the table
    SPARE_KEPT = "spare_kept"  # an answer came after another had been stored
    SPARE_USED = "spare_used"  # the current refresh token was rejected, a spare was accepted
    WAITING = "waiting"  # an attempt failed in a way that passes
    NEEDS_CONSENT = "needs_consent"  # Tesla rejected every refresh token held
    REVIVED = "revived"  # a refresh token turned up that had not been tried yet
    DISCONNECTED = "disconnected"  # the owner ended it here
    OPERATOR_MUST_ACT = "operator_must_act"  # Tesla does not accept the app or the request
    NOTICED = "noticed"  # Tesla refuses something to a grant that is alive
    GOES_ON = "goes_on"  # Tesla accepts it again
    KEY_MADE = "key_made"  # a program was given an API key
    KEY_REVOKED = "key_revoked"
    PAUSED = "paused"  # by the operator
    RESUMED = "resumed"  # by the operator, or by a new sign-in
    BY_OPERATOR = "by_operator"  # the operator did something else; the detail says what
    ENDING = "ending"  # it was not refreshed for so long that Tesla will end it soon
    WEBHOOKS_OFF = "webhooks_off"  # an endpoint of the operator's takes no webhooks any more


_TOLD = {
    Kind.CONNECTED: "grant.connected",
    Kind.REVIVED: "grant.connected",
    Kind.NEEDS_CONSENT: "grant.needs_consent",
    Kind.ENDING: "grant.ending",
    Kind.DISCONNECTED: "grant.disconnected",
    Kind.OPERATOR_MUST_ACT: "operator.action_needed",
    Kind.WEBHOOKS_OFF: "operator.action_needed",
}
"""What the operator's programs are told of, and by which type of webhook."""


@dataclass(frozen=True, slots=True)
class Event:
    id: int
    at: datetime
    owner: str | None
    kind: str
    reason: str | None
    detail: str | None
    generation: int | None
    correlation_id: str | None
    late: float | None
    access_expires_at: datetime | None


def record(
    connection: Connection,
    kind: Kind,
    *,
    owner: str | None = None,
    reason: str | None = None,
    detail: str | None = None,
    generation: int | None = None,
    correlation_id: str | None = None,
    late: float | None = None,
    access_expires_at: datetime | now | None = None,
    ends_at: datetime | None = None,
) -> None:
    """Appends an event, in the caller's transaction: it is there exactly when the change is. So is the
    webhook that tells of it, for which `ends_at` is."""
    values = {
        "owner": owner,
        "kind": kind.value,
        "reason": reason,
        "detail": detail,
        "generation": generation,
        "correlation_id": correlation_id,
        "late": late,
    }
    if isinstance(access_expires_at, now):
        connection.execute(_RECORD.values(access_expires_at=access_expires_at), values)
    else:
        connection.execute(_RECORD, values | {"access_expires_at": access_expires_at})
    if (told := _TOLD.get(kind)) is not None:
        webhooks.say(
            connection,
            told,
            owner=owner,
            reason=reason,
            detail=detail,
            generation=generation,
            correlation_id=correlation_id,
            ends_at=ends_at,
        )


def latest(connection: Connection, owner: str, limit: int = 20) -> list[Event]:
    """The owner's last events, newest first."""
    rows = connection.execute(
        select(events).where(events.c.owner == owner).order_by(events.c.id.desc()).limit(limit)
    )
    return [Event(**row._mapping) for row in rows]


def latest_of(connection: Connection, owners: Collection[str], limit: int) -> dict[str, list[Event]]:
    """The last events of each of these owners, newest first, in one statement; its cost does not follow how
    long their histories are."""
    oldest_shown = (
        select(events.c.id)
        .where(events.c.owner == grants.c.owner)
        .order_by(events.c.id.desc())
        .limit(1)
        .offset(limit - 1)
        .correlate(grants)
        .scalar_subquery()
    )
    rows = connection.execute(
        select(events)
        .join(grants, events.c.owner == grants.c.owner)
        .where(grants.c.owner.in_(owners), events.c.id >= func.coalesce(oldest_shown, 0))
        .order_by(events.c.owner, events.c.id.desc())
    )
    found: dict[str, list[Event]] = {owner: [] for owner in owners}
    for row in rows:
        found[row.owner].append(Event(**row._mapping))
    return found


def page(
    connection: Connection,
    *,
    limit: int,
    before: int | None = None,
    owner: str | None = None,
    among: Select[Any] | None = None,
) -> list[Event]:
    """At most `limit` events, newest first, those older than `before`; `among` selects the only owners whose
    events may be among them."""
    query = select(events).order_by(events.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(events.c.id < before)
    if owner is not None:
        query = query.where(events.c.owner == owner)
    if among is not None:
        query = query.where(events.c.owner.in_(among))
    return [Event(**row._mapping) for row in connection.execute(query)]


def latest_for_all(connection: Connection) -> Event | None:
    """The last event that told whether refreshes go on for all owners, or None."""
    row = connection.execute(
        select(events)
        .where(events.c.owner.is_(None), events.c.kind.in_((Kind.OPERATOR_MUST_ACT, Kind.GOES_ON)))
        .order_by(events.c.id.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else Event(**row._mapping)
