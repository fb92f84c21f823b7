"""The protocol with one part taken out: what shows that the simulation would notice."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select, update

import models.answers
import models.attempts
import models.consent
import models.grants
import models.spares
import workers.escrow
import workers.lock
import workers.refresh
from models.grants import grants
from models.session import now
from workers.lock import OwnerLock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from models.answers import Answer, Settled
    from models.attempts import Attempt
    from models.crypto import Keyring
    from models.session import Database

PARTS = ("fence", "write", "escrow", "spares", "lock", "word")


@contextmanager
def without(part: str) -> Iterator[None]:
    """The product without this part, in this process, within the block."""
    with ExitStack() as undo:
        for module, name, stand_in in _REPLACED[part]:
            undo.enter_context(replaced(module, name, stand_in))
        yield


@contextmanager
def replaced(module: Any, name: str, stand_in: object) -> Iterator[None]:
    """`module.name` is `stand_in` within the block."""
    before = getattr(module, name)
    setattr(module, name, stand_in)
    try:
        yield
    finally:
        setattr(module, name, before)


# --- the fence: begins whatever is under way, and whoever comes last overwrites -------------------------

_started = models.attempts._begin
_is_stale = models.attempts._IS_STALE
_any_due = _started(grants.c.refresh_at <= now(), models.grants.passed(grants.c.retry_at))
_any_stale = _started(_is_stale)
_any_stale_after = _started(_is_stale, grants.c.attempt_number == bindparam("after"))


def _overwrite(database: Database, keyring: Keyring, answer: Answer, *, due_after: float) -> Settled:
    anybody = update(grants).where(
        grants.c.owner == bindparam("of_owner"), grants.c.consent_id == bindparam("of_consent")
    )
    with database.write() as connection:
        generation = connection.execute(
            select(grants.c.generation).where(grants.c.owner == answer.owner)
        ).scalar_one_or_none()
        if generation is not None and models.answers._store(
            connection, keyring, answer, generation, due_after, anybody
        ):
            return models.answers.Settled.STORED
    return models.answers.Settled.DROPPED


# --- the write before the send: the attempt is written down only when it has ended -----------------------

_begin, _end, _end_consent = models.attempts.begin, models.attempts.end, models.attempts.end_consent
_settle = models.answers.settle


def _begin_unwritten(
    connection: Connection, owner: str, *, instead_of: Attempt | None = None, **kw: Any
) -> Attempt | None:
    if instead_of is not None:
        _write_late(connection, owner, instead_of.id, instead_of.number)
    savepoint = connection.begin_nested()
    attempt = _begin(connection, owner, instead_of=instead_of, **kw)
    savepoint.rollback()
    return attempt


def _write_late(connection: Connection, owner: str, attempt_id: str, number: int) -> None:
    connection.execute(
        update(grants)
        .where(grants.c.owner == owner, grants.c.attempt_number < number)
        .values(attempt_id=attempt_id, attempt_number=number, attempt_started_at=now())
    )


def _end_written_late(connection: Connection, attempt: Attempt, **kw: Any) -> bool:
    _write_late(connection, attempt.owner, attempt.id, attempt.number)
    return _end(connection, attempt, **kw)


def _end_consent_written_late(connection: Connection, keyring: Keyring, attempt: Attempt, **kw: Any) -> bool:
    _write_late(connection, attempt.owner, attempt.id, attempt.number)
    return _end_consent(connection, keyring, attempt, **kw)


def _settle_written_late(database: Database, keyring: Keyring, answer: Answer, **kw: Any) -> Settled:
    with database.write() as connection:
        _write_late(connection, answer.owner, answer.attempt_id, answer.attempt_number)
    return _settle(database, keyring, answer, **kw)


# --- the lock: everybody gets it -------------------------------------------------------------------------


@contextmanager
def _hold(locks: Any, _owner: str) -> Iterator[OwnerLock]:
    yield OwnerLock(None, locks._life)


_REPLACED: dict[str, tuple[tuple[Any, str, object], ...]] = {
    "fence": (
        (models.attempts, "_BEGIN_DUE", _any_due),
        (models.attempts, "_BEGIN_STALE", _any_stale),
        (models.attempts, "_BEGIN_STALE_AFTER", _any_stale_after),
        (workers.refresh, "settle", _overwrite),
    ),
    "write": (
        (models.attempts, "begin", _begin_unwritten),
        (models.attempts, "end", _end_written_late),
        (models.attempts, "end_consent", _end_consent_written_late),
        (workers.refresh, "settle", _settle_written_late),
    ),
    "escrow": ((workers.escrow.Escrow, "put", lambda _escrow, _answer: True),),
    "spares": (
        (models.spares, "keep", lambda *_: False),
        (models.attempts, "candidates", lambda *_: []),
    ),
    "lock": ((workers.lock.OwnerLocks, "hold", _hold),),
    # The owner's word: a sign-in overwrites whatever was said since.
    "word": ((models.consent, "_has_spoken_since", lambda *_: False),),
}
