"""An attempt: one call to the token endpoint, written down before it is made."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import Float, bindparam, case, null, select, update

from models import spares
from models.events import Kind, record
from models.grants import NO_ATTEMPT, State, grants, passed
from models.session import now

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection
    from sqlalchemy.sql.dml import ReturningUpdate

    from models.crypto import Keyring


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call to the token endpoint that has been committed to the row; nothing has been sent yet."""

    owner: str
    consent_id: str
    generation: int
    id: str
    number: int
    started_at: datetime
    late: float | None  # seconds since it fell due; None before
    failures: int  # attempts that failed since the last that did not
    token_attempt: int  # number of the attempt that the current tokens came from
    sealed_refresh_token: bytes = field(repr=False)
    client_id: str | None = None  # the app that the tokens were given to, where that is known

    @property
    def is_first(self) -> bool:
        """Whether it is the first since the tokens were stored: no other can have brought, or still bring,
        newer ones."""
        return self.number == self.token_attempt + 1

    def refresh_token(self, keyring: Keyring) -> str:
        """The grant's current refresh token in the clear. Raises `models.crypto.Unopenable`."""
        return keyring.open(
            self.sealed_refresh_token, owner=self.owner, column="refresh_token", generation=self.generation
        )


# The statements of every refresh are built once: building one costs several times what executing it does.


def _begin(*may: ColumnElement[bool]) -> ReturningUpdate[Any]:
    return (
        update(grants)
        .where(
            grants.c.owner == bindparam("of_owner"),
            grants.c.state == State.ALIVE,
            grants.c.paused_at.is_(None),
            grants.c.refresh_token.is_not(None),
            *may,
        )
        .values(
            attempt_id=bindparam("new_id"),
            attempt_number=grants.c.attempt_number + 1,
            attempt_started_at=now(),
            attempt_deadline=now(bindparam("seconds", type_=Float)),
            previous_refresh_token=case(
                (grants.c.previous_until > now(), grants.c.previous_refresh_token), else_=null()
            ),
        )
        .returning(
            grants.c.consent_id,
            grants.c.generation,
            grants.c.attempt_number,
            grants.c.attempt_started_at,
            grants.c.refresh_at,
            grants.c.failures,
            grants.c.token_attempt,
            grants.c.refresh_token,
            grants.c.client_id,
        )
    )


_NONE_UNDER_WAY = passed(grants.c.attempt_deadline)
_IS_STALE = grants.c.generation <= bindparam("stale")
_BEGIN_DUE = _begin(grants.c.refresh_at <= now(), passed(grants.c.retry_at), _NONE_UNDER_WAY)
_BEGIN_STALE = _begin(_IS_STALE, _NONE_UNDER_WAY)
_BEGIN_STALE_AFTER = _begin(_IS_STALE, _NONE_UNDER_WAY, grants.c.attempt_number == bindparam("after"))
_BEGIN_INSTEAD = _begin(
    grants.c.generation == bindparam("of_generation"), grants.c.attempt_id == bindparam("ended_id")
)


def begin(
    connection: Connection,
    owner: str,
    *,
    seconds: float,
    stale: int | None,
    after: int | None = None,
    instead_of: Attempt | None = None,
) -> Attempt | None:
    """Writes down an attempt that may be made for `seconds`; None when none may be made now.

    `stale` is the generation that the caller wants replaced; without it only a grant that is due is taken.
    `after` is the number of the last attempt that the caller knew of: when another was begun since, its end
    is the caller's too, good or bad.
    `instead_of` is the caller's own attempt that ended: the next one, with a spare, takes its place.
    The caller commits before it sends anything.
    """
    attempt_id = secrets.token_hex(8)
    values: dict[str, Any] = {"of_owner": owner, "new_id": attempt_id, "seconds": seconds}
    if instead_of is not None:
        statement = _BEGIN_INSTEAD
        values |= {"of_generation": instead_of.generation, "ended_id": instead_of.id}
    elif stale is not None:
        statement = _BEGIN_STALE if after is None else _BEGIN_STALE_AFTER
        values |= {"stale": stale, "after": after}
    else:
        statement = _BEGIN_DUE
    row = connection.execute(statement, values).one_or_none()
    if row is None:
        return None
    return Attempt(
        owner=owner,
        consent_id=row.consent_id,
        generation=row.generation,
        id=attempt_id,
        number=row.attempt_number,
        started_at=row.attempt_started_at,
        late=_since(row.refresh_at, row.attempt_started_at),
        failures=row.failures,
        token_attempt=row.token_attempt,
        sealed_refresh_token=row.refresh_token,
        client_id=row.client_id,
    )


def _since(due_at: datetime | None, started_at: datetime) -> float | None:
    if due_at is None or due_at > started_at:
        return None
    return (started_at - due_at).total_seconds()


def end(
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
    place = {} if outcome_unknown else NO_ATTEMPT
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


def give_up(connection: Connection, attempt: Attempt) -> None:
    """Takes an attempt off the row that was never made: nothing was sent."""
    connection.execute(
        update(grants)
        .where(grants.c.owner == attempt.owner, grants.c.attempt_id == attempt.id)
        .values(claimed_until=None, **NO_ATTEMPT)
    )


def candidates(
    connection: Connection, keyring: Keyring, attempt: Attempt, tried: Collection[str]
) -> list[tuple[int, str]]:
    """The refresh tokens held beside the current one that are not among `tried`, newest first, each with the
    number of the attempt that it came from.

    Raises `models.crypto.Unopenable`.
    """
    held = spares.held(connection, keyring, attempt.owner)
    row = connection.execute(
        select(grants.c.previous_refresh_token, grants.c.previous_attempt, grants.c.generation).where(
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
        held.append((row.previous_attempt, token))
    return [(number, token) for number, token in sorted(held, reverse=True) if token not in tried]


def end_consent(
    connection: Connection,
    keyring: Keyring,
    attempt: Attempt,
    *,
    reason: str,
    detail: str,
    tried: Collection[str],
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
            **NO_ATTEMPT,
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
