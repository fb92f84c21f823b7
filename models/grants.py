"""The token table: one row is one owner's grant. Every change to it is in this file, and is a compare-and-set.

Three columns are the fence that keeps an owner's refreshes apart, whatever Redis says:

* ``generation`` counts the grant's rotations; each stored answer and each new sign-in adds one.
* ``attempt_id``, ``attempt_number``, ``attempt_deadline`` are the attempt that is under way. It is committed before
  anything is sent, and whoever finds one waits for its deadline. Numbers only grow, so of two answers
  it is known which was asked for later.
* ``consent_id`` changes when the owner signs in, disconnects or erases: an answer to an older consent is
  never stored.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    and_,
    case,
    delete,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from models import spares
from models.events import Kind, events, record
from models.session import Instant, metadata, now

if TYPE_CHECKING:
    from sqlalchemy import Connection, ColumnElement, Row

    from models.crypto import Keyring
    from models.session import Database

PREVIOUS_LIFE = 24 * 3600
"""Seconds that Tesla leaves the most recently used refresh token alive (its FAQ, "Why are my refresh tokens
suddenly invalid?")."""

grants = Table(
    "grants",
    metadata,
    Column("owner", Text, primary_key=True),  # the `sub` of Tesla's tokens
    Column("state", String(16), nullable=False),
    Column("reason", String(64)),  # why it is not alive: the code of a cause in `fleet.errors`
    Column("consent_id", String(32), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("access_token", LargeBinary),
    Column("refresh_token", LargeBinary),
    Column("previous_refresh_token", LargeBinary),
    Column("previous_until", Instant),
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
    Index("ix_grants_refresh_at", "refresh_at"),  # what is due, in order, without a look at the others
)


_NO_ATTEMPT: dict[str, Any] = {"attempt_id": None, "attempt_started_at": None, "attempt_deadline": None}


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
    attempt_deadline: datetime | None
    read_at: datetime
    sealed_access_token: bytes | None = field(repr=False)

    @property
    def in_flight(self) -> bool:
        """Whether an attempt may still be under way."""
        return self.attempt_deadline is not None and self.attempt_deadline > self.read_at

    def access_token(self, keyring: Keyring) -> str | None:
        """The access token in the clear. Raises `models.crypto.Unopenable`."""
        if self.sealed_access_token is None:
            return None
        return keyring.open(
            self.sealed_access_token, owner=self.owner, column="access_token", generation=self.generation
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call to the token endpoint that has been committed to the row; nothing has been sent yet."""

    owner: str
    consent_id: str
    generation: int
    id: str
    number: int
    started_at: datetime
    sealed_refresh_token: bytes = field(repr=False)

    def refresh_token(self, keyring: Keyring) -> str:
        """The grant's current refresh token in the clear. Raises `models.crypto.Unopenable`."""
        return keyring.open(
            self.sealed_refresh_token, owner=self.owner, column="refresh_token", generation=self.generation
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What Tesla answered to an attempt, with all that storing it takes, at once or much later."""

    owner: str
    consent_id: str
    generation: int
    attempt_id: str
    attempt_number: int
    started_at: datetime
    presented: str = field(repr=False)  # the refresh token that was presented
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)  # the presented one again when Tesla sent none
    expires_in: int  # seconds
    scopes: str | None
    from_spare: bool = False

    @classmethod
    def to(
        cls,
        attempt: Attempt,
        *,
        presented: str,
        access_token: str,
        refresh_token: str | None,
        expires_in: int,
        scopes: str | None,
        from_spare: bool = False,
    ) -> Answer:
        return cls(
            owner=attempt.owner,
            consent_id=attempt.consent_id,
            generation=attempt.generation,
            attempt_id=attempt.id,
            attempt_number=attempt.number,
            started_at=attempt.started_at,
            presented=presented,
            access_token=access_token,
            refresh_token=refresh_token or presented,
            expires_in=expires_in,
            scopes=scopes,
            from_spare=from_spare,
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"started_at": self.started_at.isoformat()})

    @classmethod
    def from_json(cls, text: str) -> Answer:
        values = json.loads(text)
        return cls(**values | {"started_at": datetime.fromisoformat(values["started_at"])})


class Settled(StrEnum):
    """What became of an answer."""

    STORED = "stored"  # it is the grant's current generation
    SPARE = "spare"  # a later attempt's answer is; this one is kept beside it
    DROPPED = "dropped"  # the owner has signed in again, disconnected or erased since, or it was settled before


# --- reading ------------------------------------------------------------------------------------------

_READ = (
    *(grants.c[name] for name in Grant.__slots__ if name in grants.c),
    now().label("read_at"),
    grants.c.access_token.label("sealed_access_token"),
)


def read(connection: Connection, owner: str) -> Grant | None:
    """The owner's grant, or None."""
    row = connection.execute(select(*_READ).where(grants.c.owner == owner)).one_or_none()
    return None if row is None else Grant(**row._mapping)


# --- the owner's word ---------------------------------------------------------------------------------


def connect(
    database: Database,
    keyring: Keyring,
    *,
    owner: str,
    access_token: str,
    refresh_token: str,
    expires_in: float,
    due_in: float,
    requested_scopes: str,
    scopes: str,
    region: str,
    fleet_url: str,
    correlation_id: str,
) -> int:
    """Stores what a sign-in brought and returns the generation. It replaces all that was held before.

    `expires_in` and `due_in` are seconds from now. An attempt that is in flight keeps its place on the row,
    so that no other begins beside it, but its answer belongs to the older consent and will be dropped.
    """
    values: dict[str, Any] = {
        "state": State.ALIVE.value,
        "reason": None,
        "consent_id": secrets.token_hex(16),
        "previous_refresh_token": None,
        "previous_until": None,
        "requested_scopes": requested_scopes,
        "scopes": scopes,
        "region": region,
        "fleet_url": fleet_url,
        "connected_at": now(),
        "refreshed_at": now(),
        "access_expires_at": now(expires_in),
        "refresh_at": now(due_in),
        "claimed_until": None,
        "retry_at": None,
        "failures": 0,
        "last_error": None,
        "last_error_at": None,
    }

    def sealed(generation: int) -> dict[str, Any]:
        return {
            "generation": generation,
            "access_token": keyring.seal(
                access_token, owner=owner, column="access_token", generation=generation
            ),
            "refresh_token": keyring.seal(
                refresh_token, owner=owner, column="refresh_token", generation=generation
            ),
        }

    while True:
        try:
            with database.write() as connection:
                found = connection.execute(
                    select(grants.c.generation, grants.c.attempt_number)
                    .where(grants.c.owner == owner)
                    .with_for_update()
                ).one_or_none()
                if found is None:
                    generation = 0
                    connection.execute(
                        grants.insert().values(
                            owner=owner, attempt_number=0, token_attempt=0, **values, **sealed(0)
                        )
                    )
                else:
                    generation = found.generation + 1
                    connection.execute(
                        update(grants)
                        .where(grants.c.owner == owner)
                        .values(token_attempt=found.attempt_number, **values, **sealed(generation))
                    )
                    spares.erase(connection, owner)
                record(
                    connection,
                    Kind.CONNECTED,
                    owner=owner,
                    generation=generation,
                    correlation_id=correlation_id,
                )
            return generation
        except IntegrityError:
            continue  # the same owner's first sign-in, twice at once: the row is there now


def disconnect(database: Database, owner: str, *, correlation_id: str) -> bool:
    """Erases the owner's tokens and keeps the history. False when there is nothing to disconnect."""
    with database.write() as connection:
        generation = connection.execute(
            update(grants)
            .where(grants.c.owner == owner, grants.c.state != State.DISCONNECTED)
            .values(
                state=State.DISCONNECTED.value,
                reason=None,
                consent_id=secrets.token_hex(16),
                access_token=None,
                refresh_token=None,
                previous_refresh_token=None,
                previous_until=None,
                access_expires_at=None,
                refresh_at=None,
                claimed_until=None,
                retry_at=None,
                failures=0,
                last_error=None,
                last_error_at=None,
            )
            .returning(grants.c.generation)
        ).scalar_one_or_none()
        if generation is None:
            return False
        spares.erase(connection, owner)
        record(
            connection, Kind.DISCONNECTED, owner=owner, generation=generation, correlation_id=correlation_id
        )
        return True


def erase(database: Database, owner: str) -> bool:
    """Erases everything about the owner: the grant, its spares and its events. False when there is nothing."""
    with database.write() as connection:
        spares.erase(connection, owner)
        connection.execute(delete(events).where(events.c.owner == owner))
        return connection.execute(delete(grants).where(grants.c.owner == owner)).rowcount > 0


# --- the sweep's claim --------------------------------------------------------------------------------


def _passed(column: Column[Any]) -> ColumnElement[bool]:
    return or_(column.is_(None), column <= now())


def claim_due(connection: Connection, *, limit: int, seconds: float) -> list[str]:
    """Claims at most `limit` grants that are due, for `seconds`, and returns their owners, those nearest
    to the end of their access token first.

    What another sweep is claiming is skipped, not waited for. A claim is only a hint that a task is on
    its way: when it runs out, the grant is claimed again.
    """
    due = (
        select(grants.c.owner)
        .where(
            grants.c.refresh_at <= now(),
            _passed(grants.c.claimed_until),
            _passed(grants.c.retry_at),
            _passed(grants.c.attempt_deadline),
        )
        .order_by(grants.c.access_expires_at)
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


def release_claim(connection: Connection, owner: str) -> None:
    """Gives a claim back, so that the next sweep may take the grant."""
    connection.execute(update(grants).where(grants.c.owner == owner).values(claimed_until=None))


# --- an attempt ---------------------------------------------------------------------------------------


def begin_attempt(
    connection: Connection,
    owner: str,
    *,
    seconds: float,
    stale: int | None,
    instead_of: Attempt | None = None,
) -> Attempt | None:
    """Writes down an attempt that may be made for `seconds`; None when none may be made now.

    `stale` is the generation that the caller wants replaced; without it only a grant that is due is taken.
    `instead_of` is the caller's own attempt that ended: the next one, with a spare, takes its place.
    The caller commits before it sends anything.
    """
    if instead_of is not None:
        may = and_(
            grants.c.generation == instead_of.generation,
            grants.c.attempt_id == instead_of.id,
        )
    elif stale is not None:
        may = and_(grants.c.generation <= stale, _passed(grants.c.attempt_deadline))
    else:
        may = and_(
            grants.c.refresh_at <= now(), _passed(grants.c.retry_at), _passed(grants.c.attempt_deadline)
        )
    attempt_id = secrets.token_hex(8)
    row = connection.execute(
        update(grants)
        .where(
            grants.c.owner == owner,
            grants.c.state == State.ALIVE,
            grants.c.refresh_token.is_not(None),
            may,
        )
        .values(
            attempt_id=attempt_id,
            attempt_number=grants.c.attempt_number + 1,
            attempt_started_at=now(),
            attempt_deadline=now(seconds),
            previous_refresh_token=case(
                (grants.c.previous_until > now(), grants.c.previous_refresh_token), else_=null()
            ),
        )
        .returning(
            grants.c.consent_id,
            grants.c.generation,
            grants.c.attempt_number,
            grants.c.attempt_started_at,
            grants.c.refresh_token,
        )
    ).one_or_none()
    if row is None:
        return None
    return Attempt(
        owner=owner,
        consent_id=row.consent_id,
        generation=row.generation,
        id=attempt_id,
        number=row.attempt_number,
        started_at=row.attempt_started_at,
        sealed_refresh_token=row.refresh_token,
    )


def end_attempt(
    connection: Connection,
    attempt: Attempt,
    *,
    error: str,
    detail: str,
    retry_in: float,
    outcome_unknown: bool,
    kind: Kind = Kind.WAITING,
) -> bool:
    """Notes that an attempt brought nothing, and that the next may be made `retry_in` seconds from now.

    An attempt whose outcome is unknown may still be at work at Tesla: it keeps its place on the row until
    its deadline. False when the attempt had lost its place; then nothing is changed.
    """
    place = {} if outcome_unknown else _NO_ATTEMPT
    ours = connection.execute(
        update(grants)
        .where(grants.c.owner == attempt.owner, grants.c.attempt_id == attempt.id)
        .values(
            failures=grants.c.failures + 1,
            last_error=error,
            last_error_at=now(),
            retry_at=now(retry_in),
            claimed_until=None,
            **place,
        )
    ).rowcount
    if ours:
        record(
            connection,
            kind,
            owner=attempt.owner,
            reason=error,
            detail=detail,
            generation=attempt.generation,
            correlation_id=attempt.id,
        )
    return bool(ours)


def give_up_attempt(connection: Connection, attempt: Attempt) -> None:
    """Takes an attempt off the row that was never made: nothing was sent."""
    connection.execute(
        update(grants)
        .where(grants.c.owner == attempt.owner, grants.c.attempt_id == attempt.id)
        .values(claimed_until=None, **_NO_ATTEMPT)
    )


def candidates(
    connection: Connection, keyring: Keyring, attempt: Attempt, tried: set[str]
) -> list[str]:
    """The refresh tokens held beside the current one that are not among `tried`, newest first.

    Raises `models.crypto.Unopenable`.
    """
    held = spares.held(connection, keyring, attempt.owner)
    row = connection.execute(
        select(grants.c.previous_refresh_token, grants.c.generation, grants.c.token_attempt).where(
            grants.c.owner == attempt.owner,
            grants.c.consent_id == attempt.consent_id,
            grants.c.previous_refresh_token.is_not(None),
            grants.c.previous_until > now(),
        )
    ).one_or_none()
    if row is not None:
        token = keyring.open(
            row.previous_refresh_token,
            owner=attempt.owner,
            column="previous_refresh_token",
            generation=row.generation,
        )
        # It was presented by the attempt that brought the current tokens, so it is older than any answer
        # that was asked for later, and newer than any that was asked for before.
        held.append((row.token_attempt - 0.5, token))
    return [token for _, token in sorted(held, reverse=True) if token not in tried]


def end_consent(
    connection: Connection, keyring: Keyring, attempt: Attempt, *, reason: str, detail: str, tried: set[str]
) -> bool:
    """Marks the grant as needing the owner's consent: Tesla has rejected every refresh token held.

    False, and nothing is changed, when the attempt has lost its place or a refresh token is held that has not
    been tried.
    """
    locked = connection.execute(
        select(grants.c.owner)
        .where(
            grants.c.owner == attempt.owner,
            grants.c.generation == attempt.generation,
            grants.c.attempt_id == attempt.id,
        )
        .with_for_update()
    ).one_or_none()
    if locked is None or candidates(connection, keyring, attempt, tried):
        return False
    connection.execute(
        update(grants)
        .where(grants.c.owner == attempt.owner)
        .values(
            state=State.NEEDS_CONSENT.value,
            reason=reason,
            refresh_at=None,
            claimed_until=None,
            retry_at=None,
            previous_refresh_token=None,
            previous_until=None,
            last_error=reason,
            last_error_at=now(),
            **_NO_ATTEMPT,
        )
    )
    spares.erase(connection, attempt.owner)
    record(
        connection,
        Kind.NEEDS_CONSENT,
        owner=attempt.owner,
        reason=reason,
        detail=detail,
        generation=attempt.generation,
        correlation_id=attempt.id,
    )
    return True


# --- an answer ----------------------------------------------------------------------------------------


def settle(connection: Connection, keyring: Keyring, answer: Answer, *, due_after: float) -> Settled:
    """Puts an answer where it belongs; may be called any number of times, at once or much later.

    The answer to the latest attempt is the grant's current generation, whoever brings it and whenever;
    any other is a spare. `due_after` is in seconds since the attempt started.
    """
    the_fence = and_(
        grants.c.consent_id == answer.consent_id,
        grants.c.generation == answer.generation,
        grants.c.attempt_id == answer.attempt_id,
    )
    if _store(connection, keyring, answer, answer.generation, due_after, the_fence):
        return Settled.STORED
    return _settle_late(connection, keyring, answer, due_after)


def _store(
    connection: Connection,
    keyring: Keyring,
    answer: Answer,
    generation: int,
    due_after: float,
    where: ColumnElement[bool],
    *,
    ends_attempt: bool = True,
) -> bool:
    def sealed(column: str, plaintext: str) -> bytes:
        return keyring.seal(plaintext, owner=answer.owner, column=column, generation=generation + 1)

    rotated = answer.refresh_token != answer.presented
    values: dict[str, Any] = {
        "state": State.ALIVE.value,
        "reason": None,
        "generation": generation + 1,
        "access_token": sealed("access_token", answer.access_token),
        "refresh_token": sealed("refresh_token", answer.refresh_token),
        "previous_refresh_token": sealed("previous_refresh_token", answer.presented) if rotated else None,
        "previous_until": now(PREVIOUS_LIFE) if rotated else None,
        "refreshed_at": now(),
        # Counted from the start of the attempt: never later than Tesla counts.
        "access_expires_at": answer.started_at + timedelta(seconds=answer.expires_in),
        "refresh_at": answer.started_at + timedelta(seconds=due_after),
        "claimed_until": None,
        "retry_at": None,
        "failures": 0,
        "last_error": None,
        "last_error_at": None,
        "token_attempt": answer.attempt_number,
    }
    if ends_attempt:
        values |= _NO_ATTEMPT
    if answer.scopes is not None:
        values["scopes"] = answer.scopes
    stored = connection.execute(update(grants).where(grants.c.owner == answer.owner, where).values(**values))
    if stored.rowcount == 0:
        return False
    if answer.from_spare:
        # The newer ones were rejected, and the older ones are superseded by what this one brought.
        spares.erase(connection, answer.owner)
    record(
        connection,
        Kind.SPARE_USED if answer.from_spare else Kind.REFRESHED,
        owner=answer.owner,
        generation=generation + 1,
        correlation_id=answer.attempt_id,
    )
    return True


def _settle_late(connection: Connection, keyring: Keyring, answer: Answer, due_after: float) -> Settled:
    """The attempt lost its place: its process was stalled, SQL was away, or the owner has acted."""
    row = connection.execute(
        select(
            grants.c.state,
            grants.c.consent_id,
            grants.c.generation,
            grants.c.token_attempt,
            grants.c.attempt_id,
            grants.c.refresh_token,
        )
        .where(grants.c.owner == answer.owner)
        .with_for_update()
    ).one_or_none()
    if row is None:
        return Settled.DROPPED
    if row.attempt_id == answer.attempt_id:
        # The owner acted while it was in flight: now it has ended, and others need not wait for it.
        connection.execute(update(grants).where(grants.c.owner == answer.owner).values(**_NO_ATTEMPT))
    if row.consent_id != answer.consent_id:
        return Settled.DROPPED
    if row.token_attempt == answer.attempt_number:
        return Settled.STORED  # before; the word of it was lost on the way
    if answer.attempt_number > row.token_attempt:
        _displace(connection, keyring, answer.owner, row, answer)
        # Another attempt may be in flight meanwhile; that one keeps its place on the row.
        ended = row.attempt_id in {None, answer.attempt_id}
        here = grants.c.generation == row.generation
        _store(connection, keyring, answer, row.generation, due_after, here, ends_attempt=ended)
        return Settled.STORED
    if spares.keep(connection, keyring, answer.owner, answer.attempt_number, answer.refresh_token):
        record(
            connection,
            Kind.SPARE_KEPT,
            owner=answer.owner,
            generation=row.generation,
            correlation_id=answer.attempt_id,
            detail="An answer of Tesla's came after a later one had been stored; it is kept beside it.",
        )
    if row.state == State.NEEDS_CONSENT:
        # Tesla has not been asked about this one yet.
        connection.execute(
            update(grants)
            .where(grants.c.owner == answer.owner)
            .values(state=State.ALIVE.value, reason=None, refresh_at=now())
        )
        record(connection, Kind.REVIVED, owner=answer.owner, generation=row.generation)
    return Settled.SPARE


def _displace(
    connection: Connection, keyring: Keyring, owner: str, row: Row[Any], answer: Answer
) -> None:
    """Keeps the refresh token that a later attempt's answer replaces, unless it is the one it was got with."""
    current = keyring.open(
        row.refresh_token, owner=owner, column="refresh_token", generation=row.generation
    )
    if current not in {answer.presented, answer.refresh_token}:
        spares.keep(connection, keyring, owner, row.token_attempt, current)
