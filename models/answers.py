"""Tesla's answers: what each becomes, whenever it comes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, bindparam, func, literal, select, update

from models import spares
from models.events import Kind, events, record
from models.grants import NO_ATTEMPT, State, grants, unless_paused
from models.session import Instant, now

if TYPE_CHECKING:
    from sqlalchemy import Connection, Update

    from models.attempts import Attempt
    from models.crypto import Keyring
    from models.session import Database


PREVIOUS_LIFE = 24 * 3600
"""Seconds that Tesla leaves the most recently used refresh token alive (its FAQ, "Why are my refresh tokens
suddenly invalid?")."""


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
    presented_attempt: int  # number of the attempt that the presented one came from
    access_token: str | None = field(
        repr=False
    )  # None: the answer broke off, only the refresh token is whole
    refresh_token: str = field(repr=False)  # the presented one again when Tesla sent none
    expires_in: int  # seconds
    scopes: str | None
    from_spare: bool = False
    late: float | None = None  # seconds after it fell due that the attempt began
    reason: str | None = None  # code of a cause: why the newest token was rejected and a spare was not

    @classmethod
    def to(
        cls,
        attempt: Attempt,
        *,
        presented: str,
        presented_attempt: int | None = None,
        access_token: str | None,
        refresh_token: str | None,
        expires_in: int,
        scopes: str | None,
        from_spare: bool = False,
        reason: str | None = None,
    ) -> Answer:
        return cls(
            owner=attempt.owner,
            consent_id=attempt.consent_id,
            generation=attempt.generation,
            attempt_id=attempt.id,
            attempt_number=attempt.number,
            started_at=attempt.started_at,
            presented=presented,
            presented_attempt=attempt.token_attempt if presented_attempt is None else presented_attempt,
            access_token=access_token,
            refresh_token=refresh_token or presented,
            expires_in=expires_in,
            scopes=scopes,
            from_spare=from_spare,
            late=attempt.late,
            reason=reason,
        )

    @property
    def correlation_id(self) -> str:
        """What its events carry."""
        return self.attempt_id

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
    DROPPED = (
        "dropped"  # the owner has signed in again, disconnected or erased since, or it was settled before
    )


def settle(database: Database, keyring: Keyring, answer: Answer, *, due_after: float) -> Settled:
    """Puts an answer where it belongs; may be called any number of times, at once or much later.

    The answer to the latest attempt is the grant's current generation, whoever brings it and whenever;
    any other is a spare. `due_after` is in seconds since the attempt started. Raises SQLAlchemy's errors.
    """
    at_once = database.changes_join and answer.access_token is not None and not answer.from_spare
    if at_once and _store_at_once(database, keyring, answer, due_after):
        return Settled.STORED
    with database.write() as connection:
        if not at_once and _store(connection, keyring, answer, answer.generation, due_after, _AT_THE_FENCE):
            return Settled.STORED
        return _settle_late(connection, keyring, answer, due_after)


# Built once: they are part of every refresh.
_LATE = (
    update(grants)
    .where(grants.c.owner == bindparam("of_owner"), grants.c.generation == bindparam("of_generation"))
    .values(refresh_at=unless_paused(bindparam("due_at", type_=Instant())))
)
_AT_THE_FENCE = _LATE.where(
    grants.c.consent_id == bindparam("of_consent"), grants.c.attempt_id == bindparam("of_attempt")
)


_ALIVE: dict[str, Any] = {"state": State.ALIVE.value, "reason": None, "claimed_until": None}
_WELL: dict[str, Any] = {"retry_at": None, "failures": 0, "last_error": None, "last_error_at": None}
"""What a row holds once any answer, and once a whole one is stored."""


def _place(answer: Answer, generation: int) -> dict[str, Any]:
    """Which row it is, as the statements above ask."""
    return {
        "of_owner": answer.owner,
        "of_generation": generation,
        "of_consent": answer.consent_id,
        "of_attempt": answer.attempt_id,
    }


def _tokens(keyring: Keyring, answer: Answer, generation: int) -> dict[str, Any]:
    """What every answer brings to the row."""

    def sealed(column: str, plaintext: str) -> bytes:
        return keyring.seal(plaintext, owner=answer.owner, column=column, generation=generation + 1)

    rotated = answer.refresh_token != answer.presented
    return {
        "generation": generation + 1,
        "refresh_token": sealed("refresh_token", answer.refresh_token),
        "previous_refresh_token": sealed("previous_refresh_token", answer.presented) if rotated else None,
        "previous_until": answer.started_at + timedelta(seconds=PREVIOUS_LIFE) if rotated else None,
        "previous_attempt": answer.presented_attempt if rotated else None,
        "token_attempt": answer.attempt_number,
    }


def _access(keyring: Keyring, answer: Answer, generation: int, access_token: str) -> dict[str, Any]:
    """What a whole answer brings besides. Times are counted from the start of the attempt: never later than
    Tesla counts."""
    return {
        "access_token": keyring.seal(
            access_token, owner=answer.owner, column="access_token", generation=generation + 1
        ),
        "refreshed_at": answer.started_at,
        "access_expires_at": answer.started_at + timedelta(seconds=answer.expires_in),
    }


def _store(
    connection: Connection,
    keyring: Keyring,
    answer: Answer,
    generation: int,
    due_after: float,
    statement: Update,
    *,
    ends_attempt: bool = True,
) -> bool:
    values = _ALIVE | _tokens(keyring, answer, generation)
    if answer.access_token is not None:
        values |= _WELL | _access(keyring, answer, generation, answer.access_token)
        values["due_at"] = answer.started_at + timedelta(seconds=due_after)
    else:
        # The access token held stays, moved to the new generation, and the grant is due at once.
        values["due_at"] = answer.started_at
        here = (grants.c.owner == answer.owner) & (grants.c.generation == generation)
        held = connection.execute(select(grants.c.access_token).where(here))
        if (token := held.scalar_one_or_none()) is not None:
            place = {"owner": answer.owner, "column": "access_token"}
            opened = keyring.open(token, generation=generation, **place)
            values["access_token"] = keyring.seal(opened, generation=generation + 1, **place)
    if ends_attempt:
        values |= NO_ATTEMPT
    if answer.scopes is not None:
        values["scopes"] = answer.scopes
    values |= _place(answer, generation)
    if connection.execute(statement, values).rowcount == 0:
        return False
    if answer.from_spare:
        # The newer ones were rejected, and the older ones are superseded by what this one brought.
        spares.erase(connection, answer.owner)
    record(
        connection,
        Kind.SPARE_USED if answer.from_spare else Kind.REFRESHED,
        owner=answer.owner,
        reason=answer.reason,
        generation=generation + 1,
        correlation_id=answer.attempt_id,
        late=answer.late,
        access_expires_at=values.get("access_expires_at"),
    )
    return True


_TOKENS = ["access_token", "refresh_token", "previous_refresh_token"]
_TIMES = ["refreshed_at", "access_expires_at", "previous_until"]
_NUMBERS = ["generation", "token_attempt", "previous_attempt"]
_GIVEN = {name: bindparam(f"new_{name}", type_=grants.c[name].type) for name in _TOKENS + _TIMES + _NUMBERS}
_STORED = (
    _AT_THE_FENCE.values(
        **_GIVEN,
        **_ALIVE,
        **_WELL,
        **NO_ATTEMPT,
        scopes=func.coalesce(bindparam("new_scopes", type_=Text()), grants.c.scopes),
    )
    .returning(grants.c.owner, grants.c.generation, grants.c.access_expires_at)
    .cte("stored")
)
_STORE_AT_ONCE = (
    events.insert()
    .from_select(
        ["at", "kind", "owner", "generation", "access_expires_at", "correlation_id", "late"],
        select(
            now(),
            literal(Kind.REFRESHED.value),
            *_STORED.c,
            bindparam("correlation_id", type_=events.c.correlation_id.type),
            bindparam("late", type_=events.c.late.type),
        ),
    )
    .execution_options(preserve_rowcount=True)
)


def _store_at_once(database: Database, keyring: Keyring, answer: Answer, due_after: float) -> bool:
    """What `_store` does for nearly every answer, in one statement that is its own transaction: one trip to
    PostgreSQL instead of four."""
    assert answer.access_token is not None  # noqa: S101 - the caller has looked
    new = _tokens(keyring, answer, answer.generation)
    new |= _access(keyring, answer, answer.generation, answer.access_token)
    with database.write_once() as connection:
        stored = connection.execute(
            _STORE_AT_ONCE,
            {
                **{f"new_{name}": value for name, value in new.items()},
                "new_scopes": answer.scopes,
                "due_at": answer.started_at + timedelta(seconds=due_after),
                **_place(answer, answer.generation),
                "correlation_id": answer.attempt_id,
                "late": answer.late,
            },
        )
    return stored.rowcount > 0


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
        connection.execute(update(grants).where(grants.c.owner == answer.owner).values(**NO_ATTEMPT))
    if row.consent_id != answer.consent_id:
        return Settled.DROPPED
    if row.token_attempt == answer.attempt_number:
        return Settled.STORED  # before; the word of it was lost on the way
    if answer.attempt_number > row.token_attempt:
        _displace(connection, keyring, answer.owner, row, answer)
        # Another attempt may be in flight meanwhile; that one keeps its place on the row.
        ended = row.attempt_id in {None, answer.attempt_id}
        _store(connection, keyring, answer, row.generation, due_after, _LATE, ends_attempt=ended)
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
            .values(state=State.ALIVE.value, reason=None, refresh_at=unless_paused(now()))
        )
        record(connection, Kind.REVIVED, owner=answer.owner, generation=row.generation)
    return Settled.SPARE


def _displace(connection: Connection, keyring: Keyring, owner: str, row: Any, answer: Answer) -> None:
    """Keeps the refresh token that a later attempt's answer replaces, unless that one was got with it."""
    current = keyring.open(row.refresh_token, owner=owner, column="refresh_token", generation=row.generation)
    if current not in {answer.presented, answer.refresh_token}:
        spares.keep(connection, keyring, owner, row.token_attempt, current)
