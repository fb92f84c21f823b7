"""The outbox: who wants to hear of what, what has been said to whom, and what not yet.

A delivery is one message for one endpoint. It is written in the transaction of the change that it tells of,
so it is there exactly when the change is, and it is tried until the endpoint has taken it. It carries
ids and words, never a token.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Column,
    Identity,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    and_,
    delete,
    func,
    literal,
    or_,
    select,
    text,
    update,
)

from models.session import Instant, OwnerId, metadata, now

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from models.crypto import Keyring

TYPES = {
    "grant.connected": "An owner has signed in, for the first time or again, or a grant is alive again.",
    "grant.needs_consent": "Tesla ended a grant: the owner has to sign in again.",
    "grant.ending": "A grant was not refreshed for so long that Tesla will end it soon.",
    "grant.disconnected": "A grant was ended here, and its tokens are erased.",
    "operator.action_needed": "Something stands still until the operator acts.",
}
"""The types of messages, and what each says."""

KEPT = 30 * 24 * 3600.0
"""Seconds that a delivery is kept, whatever became of it."""

ONCE_AN_HOUR = 3600.0
"""What needs the operator is said once within so many seconds, however many owners it concerns."""

BACK_AFTER = 60.0
"""When an endpoint that took nothing for so many seconds is back, all that waits for it is due at once. A
shorter silence may be about one message that it does not like."""

endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("url", Text, nullable=False),
    Column("types", Text, nullable=False),  # separated by spaces; empty: all
    Column("secret", LargeBinary, nullable=False),
    Column("rotation", Integer, nullable=False),  # how often the secret was changed
    Column("previous_secret", LargeBinary),
    Column("previous_until", Instant),
    Column("created_at", Instant, nullable=False),
    Column("off_because", String(16)),  # none: it is on
    Column("failing_since", Instant),  # none: what was tried last went well
    Column("claim", String(32)),  # whose turn it is to deliver to it
    Column("claimed_until", Instant),
)

_WAITS = text("next_at IS NOT NULL")

deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True),
    Column("endpoint", String(32), nullable=False),
    Column("message", String(40), nullable=False),  # the same for all endpoints, and however often it is sent
    Column("at", Instant, nullable=False),
    Column("type", String(32), nullable=False),
    Column("owner", OwnerId),
    Column("reason", String(64)),
    Column("detail", Text),
    Column("generation", BigInteger),
    Column("correlation_id", String(32)),
    Column("ends_at", Instant),  # of `grant.ending`
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("since", Instant, nullable=False),  # tried since then
    Column("next_at", Instant),  # none: it is not tried again
    Column("tried_at", Instant),
    Column("status", Integer),  # the last answer's
    Column("error", Text),
    # Most have been taken: what waits is found without passing them.
    Index(
        "ix_webhook_deliveries_endpoint_next_at",
        "endpoint",
        "next_at",
        postgresql_where=_WAITS,
        sqlite_where=_WAITS,
    ),
    Index("ix_webhook_deliveries_endpoint_id", "endpoint", "id"),
    Index("ix_webhook_deliveries_type_at", "type", "at"),
    Index("ix_webhook_deliveries_owner", "owner"),
)

WAITING, DELIVERED, GIVEN_UP = "waiting", "delivered", "given_up"
"""A delivery's states."""

GONE, FAILING = "gone", "failing"
"""Why an endpoint is off: it said so itself (410), or nothing came through for days. What an endpoint that
fails has missed waits for it; one that is gone misses nothing."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A row as it was at `read_at`, the database's time. The secrets stay sealed."""

    id: str
    url: str
    types: str
    rotation: int
    previous_until: datetime | None
    created_at: datetime
    off_because: str | None
    failing_since: datetime | None
    read_at: datetime
    secret: bytes = field(repr=False)
    previous_secret: bytes | None = field(repr=False)

    @property
    def failing_for(self) -> float:
        """Seconds for which it has taken nothing."""
        return 0 if self.failing_since is None else (self.read_at - self.failing_since).total_seconds()

    def secrets(self, keyring: Keyring) -> list[str]:
        """Those that sign, the newest first. Raises `models.crypto.Unopenable`."""
        found = [keyring.open(self.secret, **_place(self.id, "secret", self.rotation))]
        if self.previous_secret is not None and self.previous_until and self.previous_until > self.read_at:
            place = _place(self.id, "previous_secret", self.rotation)
            found.append(keyring.open(self.previous_secret, **place))
        return found


@dataclass(frozen=True, slots=True)
class Delivery:
    id: int
    endpoint: str
    message: str
    at: datetime
    type: str
    owner: str | None
    reason: str | None
    detail: str | None
    generation: int | None
    correlation_id: str | None
    ends_at: datetime | None
    state: str
    attempts: int
    since: datetime
    next_at: datetime | None
    tried_at: datetime | None
    status: int | None
    error: str | None


def _place(endpoint: str, column: str, rotation: int) -> dict[str, Any]:
    return {"owner": endpoint, "column": f"webhook_{column}", "generation": rotation}


# --- saying something ---------------------------------------------------------------------------------


def say(
    connection: Connection,
    kind: str,
    *,
    owner: str | None = None,
    reason: str | None = None,
    detail: str | None = None,
    generation: int | None = None,
    correlation_id: str | None = None,
    ends_at: datetime | None = None,
) -> None:
    """Writes a message of this type for each endpoint that wants it, in the caller's transaction."""
    wants = or_(
        endpoints.c.types == "", (" " + endpoints.c.types + " ").contains(f" {kind} ", autoescape=True)
    )
    takes = or_(endpoints.c.off_because.is_(None), endpoints.c.off_because == FAILING)
    values: dict[str, Any] = {
        "message": literal(f"msg_{secrets.token_hex(12)}"),
        "at": now(),
        "type": literal(kind),
        "owner": literal(owner, Text),
        "reason": literal(reason, String),
        "detail": literal(detail, Text),
        "generation": literal(generation, BigInteger),
        "correlation_id": literal(correlation_id, String),
        "ends_at": literal(ends_at, Instant),
        "state": literal(WAITING),
        "attempts": literal(0),
        "since": now(),
        "next_at": now(),
    }
    query = select(endpoints.c.id, *values.values()).where(wants, takes)
    if kind == "operator.action_needed" and owner is not None:
        # A missing key stops each grant by itself, and all of them at once.
        said = select(deliveries.c.id).where(
            deliveries.c.endpoint == endpoints.c.id,
            deliveries.c.type == kind,
            deliveries.c.at > now(-ONCE_AN_HOUR),
            deliveries.c.reason.is_not_distinct_from(reason),
        )
        query = query.where(~said.exists())
    connection.execute(deliveries.insert().from_select(["endpoint", *values], query))


def forget_owner(connection: Connection, owner: str) -> None:
    """Erases what was said of this owner, and what still would be."""
    connection.execute(delete(deliveries).where(deliveries.c.owner == owner))


# --- delivering ---------------------------------------------------------------------------------------


def claim_due(connection: Connection, *, slots: int, seconds: float) -> list[tuple[str, str]]:
    """Claims endpoints for which something is due, for `seconds`, so that at most `slots` are claimed at
    once; returns the id and the claim of each.

    When a claim runs out, whoever held it has gone, and the endpoint is claimed again.
    """
    held = select(func.count()).select_from(endpoints).where(endpoints.c.claimed_until > now())
    free = slots - connection.execute(held).scalar_one()
    if free <= 0:
        return []
    due = (
        select(deliveries.c.id)
        .where(deliveries.c.endpoint == endpoints.c.id, deliveries.c.next_at <= now())
        .exists()
    )
    ready = (
        select(endpoints.c.id)
        .where(
            endpoints.c.off_because.is_(None),
            or_(endpoints.c.claimed_until.is_(None), endpoints.c.claimed_until <= now()),
            due,
        )
        # Who had a turn last waits longest.
        .order_by(endpoints.c.claimed_until.asc().nulls_first())
        .limit(free)
        .with_for_update(skip_locked=True)
    )
    claims = [(row.id, secrets.token_hex(8)) for row in connection.execute(ready)]
    for endpoint, claim in claims:
        connection.execute(
            update(endpoints)
            .where(endpoints.c.id == endpoint)
            .values(claim=claim, claimed_until=now(seconds))
        )
    return claims


def take(connection: Connection, endpoint: str, claim: str, limit: int) -> tuple[Endpoint, list[Delivery]]:
    """The endpoint and at most `limit` deliveries that are due, those that wait longest first; only one while
    the endpoint is failing, to see whether it is back.

    Raises `LookupError` when the claim is no longer the endpoint's.
    """
    here = and_(endpoints.c.id == endpoint, endpoints.c.claim == claim, endpoints.c.off_because.is_(None))
    found = _read(connection, here)
    if not found:
        raise LookupError(endpoint)
    rows = connection.execute(
        select(*_DELIVERY)
        .where(deliveries.c.endpoint == endpoint, deliveries.c.next_at <= now())
        .order_by(deliveries.c.next_at, deliveries.c.id)
        .limit(1 if found[0].failing_since else limit)
    )
    return found[0], [Delivery(**row._mapping) for row in rows]


def release(connection: Connection, endpoint: str, claim: str) -> None:
    """Gives the claim back: it ends now."""
    connection.execute(
        update(endpoints)
        .where(endpoints.c.id == endpoint, endpoints.c.claim == claim)
        .values(claim=None, claimed_until=now())
    )


def delivered(connection: Connection, to: Endpoint, delivery: Delivery, status: int) -> None:
    """Notes that the endpoint has taken it."""
    _tried(connection, delivery, state=DELIVERED, next_at=None, status=status, error=None)
    if to.failing_since is None:
        return
    connection.execute(update(endpoints).where(endpoints.c.id == to.id).values(failing_since=None))
    if to.failing_for >= BACK_AFTER:
        connection.execute(
            update(deliveries)
            .where(deliveries.c.endpoint == to.id, deliveries.c.next_at > now())
            .values(next_at=now())
        )


def failed(
    connection: Connection,
    to: Endpoint,
    delivery: Delivery,
    *,
    status: int | None,
    error: str,
    retry_in: float,
    patience: float,
) -> bool:
    """Notes that the endpoint has not taken it, and that it is tried again `retry_in` seconds from now.

    After `patience` seconds a delivery is given up, and an endpoint that took nothing for so long is turned
    off. True when that has happened now; then what was for it waits.
    """
    hopeless = to.failing_for >= patience
    off = hopeless and _turn_off(connection, to.id, FAILING)
    if to.failing_since is None:
        connection.execute(
            update(endpoints)
            .where(endpoints.c.id == to.id, endpoints.c.failing_since.is_(None))
            .values(failing_since=now())
        )
    if not hopeless and (to.read_at - delivery.since).total_seconds() >= patience:
        _tried(connection, delivery, state=GIVEN_UP, next_at=None, status=status, error=error)
    else:
        _tried(connection, delivery, state=WAITING, next_at=now(retry_in), status=status, error=error)
    return off


def gone(connection: Connection, to: Endpoint, delivery: Delivery, *, status: int, error: str) -> bool:
    """Turns the endpoint off, because it said that it is gone. True when it was on."""
    _tried(connection, delivery, state=GIVEN_UP, next_at=None, status=status, error=error)
    return _turn_off(connection, to.id, GONE)


def _turn_off(connection: Connection, endpoint: str, because: str) -> bool:
    on = and_(endpoints.c.id == endpoint, endpoints.c.off_because.is_(None))
    return bool(connection.execute(update(endpoints).where(on).values(off_because=because)).rowcount)


def _tried(connection: Connection, delivery: Delivery, **values: Any) -> None:
    connection.execute(
        update(deliveries)
        .where(deliveries.c.id == delivery.id, deliveries.c.state == WAITING)
        .values(attempts=deliveries.c.attempts + 1, tried_at=now(), **values)
    )


def purge(connection: Connection, limit: int = 500) -> int:
    """Erases at most `limit` of the deliveries whose time is over; returns how many."""
    oldest = select(deliveries.c.id, deliveries.c.at).order_by(deliveries.c.id).limit(limit).subquery()
    over = select(oldest.c.id).where(oldest.c.at <= now(-KEPT))
    return connection.execute(delete(deliveries).where(deliveries.c.id.in_(over))).rowcount


# --- the operator's side ------------------------------------------------------------------------------


def new_secret() -> str:
    """A secret as the Standard Webhooks convention spells it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def add(connection: Connection, keyring: Keyring, url: str, types: Collection[str] = ()) -> tuple[str, str]:
    """A new endpoint's id and its secret. `types` are those of `TYPES` that it wants; none: all."""
    endpoint, secret = f"ep_{secrets.token_hex(8)}", new_secret()
    connection.execute(
        endpoints.insert().values(
            id=endpoint,
            url=url,
            types=" ".join(types),
            secret=keyring.seal(secret, **_place(endpoint, "secret", 0)),
            rotation=0,
            created_at=now(),
        )
    )
    return endpoint, secret


def remove(connection: Connection, endpoint: str) -> bool:
    """Forgets an endpoint and all that was for it. False when there is none."""
    connection.execute(delete(deliveries).where(deliveries.c.endpoint == endpoint))
    return bool(connection.execute(delete(endpoints).where(endpoints.c.id == endpoint)).rowcount)


def rotate(connection: Connection, keyring: Keyring, endpoint: str, overlap: float) -> str | None:
    """A new secret, which signs from now on; the one before it signs as well, for `overlap` more seconds.
    None when there is no such endpoint.

    Raises `models.crypto.Unopenable`.
    """
    found = connection.execute(
        select(endpoints.c.rotation, endpoints.c.secret).where(endpoints.c.id == endpoint).with_for_update()
    ).one_or_none()
    if found is None:
        return None
    rotation = found.rotation + 1
    secret = new_secret()
    old = keyring.open(found.secret, **_place(endpoint, "secret", found.rotation))
    connection.execute(
        update(endpoints)
        .where(endpoints.c.id == endpoint)
        .values(
            rotation=rotation,
            secret=keyring.seal(secret, **_place(endpoint, "secret", rotation)),
            previous_secret=keyring.seal(old, **_place(endpoint, "previous_secret", rotation)),
            previous_until=now(overlap),
        )
    )
    return secret


def replay(
    connection: Connection, endpoint: str, *, message: str | None = None, since: float | None = None
) -> int:
    """Has deliveries sent again, from now on, and turns the endpoint on; returns how many they are.

    `message` is one, and `since` all of the last so many seconds, taken or not; without both it is all that
    the endpoint has not taken.
    """
    if message is not None:
        which = deliveries.c.message == message
    elif since is not None:
        which = deliveries.c.at >= now(-since)
    else:
        which = deliveries.c.state != DELIVERED
    connection.execute(
        update(endpoints).where(endpoints.c.id == endpoint).values(off_because=None, failing_since=None)
    )
    return connection.execute(
        update(deliveries)
        .where(deliveries.c.endpoint == endpoint, which)
        .values(state=WAITING, attempts=0, since=now(), next_at=now())
    ).rowcount


def read(connection: Connection, endpoint: str) -> Endpoint | None:
    """The endpoint of this id, or None."""
    found = _read(connection, endpoints.c.id == endpoint)
    return found[0] if found else None


def read_all(connection: Connection) -> list[Endpoint]:
    """All of them, the oldest first."""
    return _read(connection)


def all_off(connection: Connection) -> list[Endpoint]:
    """Those that are turned off."""
    return _read(connection, endpoints.c.off_because.is_not(None))


def waiting(connection: Connection) -> dict[str, int]:
    """How many deliveries wait for each endpoint."""
    query = (
        select(deliveries.c.endpoint, func.count())
        .where(deliveries.c.next_at.is_not(None))
        .group_by(deliveries.c.endpoint)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def lag(connection: Connection) -> tuple[int, float]:
    """How many deliveries wait, and for how many seconds the oldest of them."""
    query = select(func.count(), func.min(deliveries.c.at), now()).where(deliveries.c.next_at.is_not(None))
    number, oldest, moment = connection.execute(query).one()
    return number, 0.0 if oldest is None else max((moment - oldest).total_seconds(), 0.0)


def latest(connection: Connection, endpoint: str, limit: int) -> list[Delivery]:
    """The endpoint's last deliveries, newest first."""
    rows = connection.execute(
        select(*_DELIVERY)
        .where(deliveries.c.endpoint == endpoint)
        .order_by(deliveries.c.id.desc())
        .limit(limit)
    )
    return [Delivery(**row._mapping) for row in rows]


_DELIVERY = tuple(deliveries.c[name] for name in Delivery.__slots__)
_ENDPOINT = (
    *(endpoints.c[name] for name in Endpoint.__slots__ if name in endpoints.c),
    now().label("read_at"),
)


def _read(connection: Connection, *where: Any) -> list[Endpoint]:
    rows: Sequence[Any] = connection.execute(
        select(*_ENDPOINT).where(*where).order_by(endpoints.c.created_at, endpoints.c.id)
    ).all()
    return [Endpoint(**row._mapping) for row in rows]
