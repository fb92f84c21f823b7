"""The token table: one row is one owner's grant.

It is changed by `models.consent` (the owner's word), `models.pausing` (the operator's), `models.attempts`
and `models.answers`, and by the sweep's claim below; each change is a compare-and-set.

Three columns are the fence that keeps an owner's refreshes apart, whatever Redis says:

* ``generation`` counts the grant's rotations; each stored answer and each new sign-in adds one.
* ``attempt_id``, ``attempt_number``, ``attempt_deadline`` are the attempt that is under way. It is committed
  before anything is sent, and whoever finds one waits for its deadline. Numbers only grow, so of two
  answers it is known which was asked for later.
* ``consent_id`` changes when the owner signs in, disconnects or erases: an answer to an older consent is
  never stored, nor is a sign-in that the owner began before ``said_at``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    bindparam,
    case,
    func,
    literal_column,
    null,
    or_,
    select,
    update,
)

from models.session import Instant, OwnerId, metadata, now

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, Select

    from models.crypto import Keyring


NOT_ALIVE = literal_column("state <> 'alive'", Boolean)
FAILING = literal_column("failures > 0", Boolean)
PAUSED = literal_column("paused_at IS NOT NULL", Boolean)
"""Conditions with an index of their own, which a refresh that goes well does not touch. Spelled out, since
such an index is found by its words."""


def _rare(name: str, *columns: str, where: ColumnElement[bool]) -> Index:
    return Index(name, *columns, postgresql_where=where, sqlite_where=where)


grants = Table(
    "grants",
    metadata,
    Column("owner", OwnerId, primary_key=True),  # the `sub` of Tesla's tokens
    Column("state", String(16), nullable=False),
    Column("reason", String(64)),  # why it is not alive: the code of a cause in `fleet.errors`
    Column("consent_id", String(32), nullable=False),
    Column("said_at", Instant, nullable=False),  # when the owner's last word was said: sign-in, disconnect
    Column("generation", BigInteger, nullable=False),
    Column("access_token", LargeBinary),
    Column("refresh_token", LargeBinary),
    Column("previous_refresh_token", LargeBinary),
    Column("previous_until", Instant),
    Column("previous_attempt", BigInteger),  # number of the attempt that the previous one came from
    Column("requested_scopes", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("region", String(8), nullable=False),
    Column("fleet_url", Text, nullable=False),
    Column("connected_at", Instant, nullable=False),
    Column("refreshed_at", Instant, nullable=False),
    Column("access_expires_at", Instant),
    Column("refresh_at", Instant),  # when it falls due; none: never
    Column("claimed_until", Instant),  # a sweep has sent it to its lane
    Column("retry_at", Instant),  # after a failure: not before
    Column("failures", Integer, nullable=False),  # attempts that failed since the last that did not
    Column("last_error", String(64)),
    Column("last_error_at", Instant),
    Column("attempt_id", String(32)),
    Column("attempt_number", BigInteger, nullable=False),  # of the last attempt begun
    Column("attempt_started_at", Instant),
    Column("attempt_deadline", Instant),
    Column("token_attempt", BigInteger, nullable=False),  # number of the attempt that the tokens came from
    Column("paused_at", Instant),  # by the operator; then `refresh_at` is none
    Column("client_id", Text),  # the app that Tesla gave the tokens to; none: unknown
    Index("ix_grants_refresh_at", "refresh_at"),  # what is due, in order, without a look at the others
    # The console's lists, in order; each of these two costs every refresh an entry.
    Index("ix_grants_state_access_expires_at_owner", "state", "access_expires_at", "owner"),
    Index("ix_grants_state_refreshed_at_owner", "state", "refreshed_at", "owner"),
    _rare("ix_grants_state_owner", "state", "owner", where=NOT_ALIVE),
    _rare("ix_grants_failures_owner", "failures", "owner", where=FAILING),
    _rare("ix_grants_paused_at_owner", "paused_at", "owner", where=PAUSED),
)


NO_ATTEMPT: dict[str, Any] = {"attempt_id": None, "attempt_started_at": None, "attempt_deadline": None}
"""What a row holds while no attempt is under way."""


class State(StrEnum):
    ALIVE = "alive"
    NEEDS_CONSENT = "needs_consent"  # Tesla rejected every refresh token held
    DISCONNECTED = "disconnected"  # the owner ended it here; the tokens are erased


@dataclass(frozen=True, slots=True)
class Grant:
    """A row as it was at ``read_at``; all times are the database's. The tokens stay sealed."""

    owner: str
    state: str
    reason: str | None
    consent_id: str
    generation: int
    requested_scopes: str
    scopes: str
    region: str
    fleet_url: str
    connected_at: datetime
    refreshed_at: datetime
    access_expires_at: datetime | None
    refresh_at: datetime | None
    retry_at: datetime | None
    failures: int
    last_error: str | None
    last_error_at: datetime | None
    attempt_id: str | None
    attempt_number: int
    attempt_started_at: datetime | None
    attempt_deadline: datetime | None
    paused_at: datetime | None
    client_id: str | None
    read_at: datetime
    sealed_access_token: bytes | None = field(repr=False)

    @property
    def in_flight(self) -> bool:
        """Whether an attempt is under way, as far as anyone knows."""
        return self.must_wait and not (
            self.last_error_at and self.attempt_started_at and self.last_error_at >= self.attempt_started_at
        )

    @property
    def must_wait(self) -> bool:
        """Whether an attempt has a place on the row: it is in flight, or its outcome is unknown and Tesla may
        still be at work on it."""
        return self.attempt_deadline is not None and self.attempt_deadline > self.read_at

    def access_token(self, keyring: Keyring) -> str | None:
        """The access token in the clear. Raises `models.crypto.Unopenable`."""
        if self.sealed_access_token is None:
            return None
        return keyring.open(
            self.sealed_access_token, owner=self.owner, column="access_token", generation=self.generation
        )


# --- reading ------------------------------------------------------------------------------------------

READ = (
    *(grants.c[name] for name in Grant.__slots__ if name in grants.c),
    now().label("read_at"),
    grants.c.access_token.label("sealed_access_token"),
)
"""The columns of a `Grant`, in the order of its fields."""

_READ_ONE = select(*READ).where(grants.c.owner == bindparam("of_owner"))


def read(connection: Connection, owner: str) -> Grant | None:
    """The owner's grant, or None."""
    row = connection.execute(_READ_ONE, {"of_owner": owner}).one_or_none()
    return None if row is None else Grant(**row._mapping)


def page(
    connection: Connection,
    *,
    limit: int,
    after: str | None = None,
    state: str | None = None,
    region: str | None = None,
    among: Select[Any] | None = None,
) -> list[Grant]:
    """At most `limit` grants in the order of their owners, those behind `after`; `among` selects the only
    owners that may be among them."""
    query = select(*READ).order_by(grants.c.owner).limit(limit)
    if after is not None:
        query = query.where(grants.c.owner > after)
    if state is not None:
        query = query.where(grants.c.state == state)
        if state != State.ALIVE:
            query = query.where(NOT_ALIVE)  # in the words of the index that holds these
    if region is not None:
        query = query.where(grants.c.region == region)
    if among is not None:
        query = query.where(grants.c.owner.in_(among))
    return [Grant(**row._mapping) for row in connection.execute(query)]


class Inside(NamedTuple):
    """What only the protocol goes by, for who wants the whole story."""

    said_at: datetime
    claimed_until: datetime | None
    previous_until: datetime | None
    token_attempt: int


def inside(connection: Connection, owner: str) -> Inside | None:
    """The owner's, or None."""
    columns = [grants.c[name] for name in Inside._fields]
    row = connection.execute(select(*columns).where(grants.c.owner == owner)).one_or_none()
    return None if row is None else Inside(*row)


# --- what Tesla says of the owner ----------------------------------------------------------------------


def correct_region(connection: Connection, grant: Grant, *, region: str, fleet_url: str) -> None:
    """Notes where the owner lives, unless the owner has signed in anew since `grant` was read."""
    connection.execute(
        update(grants)
        .where(grants.c.owner == grant.owner, grants.c.consent_id == grant.consent_id)
        .values(region=region, fleet_url=fleet_url)
    )


# --- what the doctor asks ------------------------------------------------------------------------------


def is_any_of_app(connection: Connection, client_id: str) -> bool:
    """Whether any grant was made with this app."""
    made = select(grants.c.owner).where(grants.c.client_id == client_id).limit(1)
    return connection.execute(made).first() is not None


def one_of_another_app(connection: Connection, client_id: str) -> Grant | None:
    """A grant that is alive and was made with another app than this one, if there is any."""
    another = (grants.c.state == State.ALIVE) & (grants.c.client_id != client_id)
    row = connection.execute(select(*READ).where(another).limit(1)).one_or_none()
    return None if row is None else Grant(**row._mapping)


# --- the sweep's claim --------------------------------------------------------------------------------


def passed(column: Column[Any]) -> ColumnElement[bool]:
    """This time is over, or was never set."""
    return or_(column.is_(None), column <= now())


def unless_paused(moment: Any) -> ColumnElement[Any]:
    """When a grant falls due, which a paused one never does."""
    return case((grants.c.paused_at.is_(None), moment), else_=null())


BACKLOG = 5_000
"""So many due at once are found by when they end: to sort a million for each batch takes half a second."""


def claim_due(connection: Connection, *, limit: int, seconds: float, well_first: bool = False) -> list[str]:
    """Claims at most `limit` grants that are due, for `seconds`, and returns their owners, those nearest
    to the end of their access token first; with `well_first`, before these those that have not failed.

    What another sweep is claiming is skipped, not waited for. A claim is only a hint that a task is on
    its way: when it runs out, the grant is claimed again.
    """
    in_order = not well_first and _is_backlog(connection)
    if in_order and connection.dialect.name == "postgresql":
        # Walk the index by expiry and stop at `limit`, instead of sorting all that are due.
        connection.exec_driver_sql("SET LOCAL enable_sort = off")
    due = (
        select(grants.c.owner)
        .where(
            grants.c.refresh_at <= now(),
            *([grants.c.state == State.ALIVE] if in_order else []),
            passed(grants.c.claimed_until),
            passed(grants.c.retry_at),
            passed(grants.c.attempt_deadline),
        )
        .order_by(*([grants.c.failures] if well_first else []), grants.c.access_expires_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    claimed = connection.execute(
        update(grants)
        .where(grants.c.owner.in_(select(due.c.owner)))
        .values(claimed_until=now(seconds))
        .returning(grants.c.owner, grants.c.access_expires_at)
    ).all()
    return [row.owner for row in sorted(claimed, key=lambda row: row.access_expires_at)]


def _is_backlog(connection: Connection) -> bool:
    some = select(grants.c.owner).where(grants.c.refresh_at <= now()).limit(BACKLOG).subquery()
    return connection.execute(select(func.count()).select_from(some)).scalar_one() == BACKLOG


def release_claim(connection: Connection, owner: str) -> None:
    """Gives a claim back, so that the next sweep may take the grant."""
    connection.execute(update(grants).where(grants.c.owner == owner).values(claimed_until=None))


def release_claims(connection: Connection) -> None:
    """Gives all claims back: their tasks are lost."""
    connection.execute(
        update(grants)
        .where(grants.c.refresh_at <= now(), grants.c.claimed_until > now())
        .values(claimed_until=None)
    )


def is_any_overdue(connection: Connection, seconds: float) -> bool:
    """Whether some grant should have been refreshed `seconds` ago, and nothing else makes it wait."""
    overdue = (
        select(grants.c.owner)
        .where(
            grants.c.refresh_at <= now(-seconds),
            passed(grants.c.retry_at),
            passed(grants.c.attempt_deadline),
        )
        .limit(1)
    )
    return connection.execute(overdue).first() is not None
