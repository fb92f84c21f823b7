"""Refresh tokens that were kept elsewhere and move here: what became of each, so that none is spent twice.

A token is known by its digest, before any owner is known. An attempt is written down before it is made, as
`models.attempts` does it for a grant: who finds one that has not ended waits for its deadline, and then its
outcome is unknown and the same token is tried again. `models.consent.connect` ends it, in the transaction
that stores what Tesla gave.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, LargeBinary, String, Table, Text, delete, or_, select, update
from sqlalchemy.exc import IntegrityError

from models.session import Instant, OwnerId, metadata, now
from models.spares import LIFE

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from models.crypto import Keyring
    from models.session import Database


class Fate(StrEnum):
    """What became of a token."""

    WAITING = "waiting"  # it may be tried
    SENT = "sent"  # an attempt was written down, and has not ended
    IMPORTED = "imported"  # its owner has a grant by it
    BESIDE = "beside"  # its owner had a live grant: it is kept beside that as a spare
    DROPPED = "dropped"  # its owner has signed in, disconnected or erased here since, or had disconnected
    DEAD = "dead"  # Tesla does not take it

    @property
    def is_final(self) -> bool:
        return self not in {Fate.WAITING, Fate.SENT}


imports = Table(
    "imports",
    metadata,
    Column("token", String(64), primary_key=True),  # its SHA-256: it can't be used to refresh
    Column("fate", String(16), nullable=False),
    Column("at", Instant, nullable=False, index=True),
    Column("attempt_id", String(32)),
    Column("attempt_deadline", Instant),
    Column("owner", OwnerId, index=True),
    Column("reason", String(64)),
    Column("detail", Text),
    Column("newer", LargeBinary),  # a refresh token that Tesla gave for it before an owner was known
)


@dataclass(frozen=True, slots=True)
class Import:
    """A row as it was; `wait` is for how many seconds an attempt has a place on it."""

    fate: Fate
    owner: str | None
    reason: str | None
    detail: str | None
    wait: float


@dataclass(frozen=True, slots=True)
class Begun:
    """An attempt that has been committed; nothing has been sent yet."""

    token: str  # the digest
    id: str
    started_at: datetime
    sealed_newer: bytes | None = field(repr=False)

    def newer(self, keyring: Keyring) -> str | None:
        """The refresh token to present in the imported one's place. Raises `models.crypto.Unopenable`."""
        if self.sealed_newer is None:
            return None
        return keyring.open(self.sealed_newer, **_place(self.token))


def digest(token: str) -> str:
    """What the table knows a token by."""
    return hashlib.sha256(token.encode()).hexdigest()


def read(connection: Connection, token: str) -> Import | None:
    """What is known of the token with this digest."""
    row = connection.execute(
        select(
            imports.c.fate,
            imports.c.owner,
            imports.c.reason,
            imports.c.detail,
            imports.c.attempt_deadline,
            now().label("read_at"),
        ).where(imports.c.token == token)
    ).one_or_none()
    if row is None:
        return None
    wait = 0.0 if row.attempt_deadline is None else (row.attempt_deadline - row.read_at).total_seconds()
    return Import(Fate(row.fate), row.owner, row.reason, row.detail, max(wait, 0.0))


def begin(database: Database, token: str, *, seconds: float) -> Begun | None:
    """Writes down an attempt with this token that may be made for `seconds`; None when none may be made now.

    When it returns, the attempt is committed.
    """
    attempt_id = secrets.token_hex(8)
    values: dict[str, Any] = {
        "fate": Fate.SENT.value,
        "at": now(),
        "attempt_id": attempt_id,
        "attempt_deadline": now(seconds),
    }
    free = or_(imports.c.attempt_deadline.is_(None), imports.c.attempt_deadline <= now())
    may = imports.c.fate.in_([Fate.WAITING.value, Fate.SENT.value]) & free
    try:
        with database.write() as connection:
            row = connection.execute(
                update(imports)
                .where(imports.c.token == token, may)
                .values(**values)
                .returning(imports.c.at, imports.c.newer)
            ).one_or_none()
            if row is None:
                row = connection.execute(
                    imports.insert().values(token=token, **values).returning(imports.c.at, imports.c.newer)
                ).one()
    except IntegrityError:
        return None  # it is there and may not be tried, or another process was first
    return Begun(token, attempt_id, row.at, row.newer)


def put_back(connection: Connection, begun: Begun, *, reason: str, detail: str) -> None:
    """Ends an attempt that Tesla knows nothing of, or that it declined for now: another may be made."""
    _end(connection, begun, fate=Fate.WAITING, reason=reason, detail=detail)


def give_up(connection: Connection, begun: Begun, *, reason: str, detail: str) -> None:
    """Tesla does not take the token: it is never tried again."""
    _end(connection, begun, fate=Fate.DEAD, reason=reason, detail=detail)


def keep_newer(
    connection: Connection, keyring: Keyring, begun: Begun, newer: str, *, reason: str, detail: str
) -> None:
    """Keeps a refresh token that Tesla gave although it is not known to whom: it is the one to try next."""
    sealed = keyring.seal(newer, **_place(begun.token))
    _end(connection, begun, fate=Fate.WAITING, reason=reason, detail=detail, newer=sealed)


def _end(connection: Connection, begun: Begun, *, fate: Fate, **values: Any) -> None:
    connection.execute(
        update(imports)
        .where(imports.c.token == begun.token, imports.c.attempt_id == begun.id)
        .values(fate=fate.value, at=now(), attempt_id=None, attempt_deadline=None, **values)
    )


def settle(connection: Connection, token: str, fate: Fate, owner: str) -> None:
    """Notes whose it was and what became of it. The first word stays: a later answer to the same token
    is kept as well, and changes nothing about that."""
    connection.execute(
        update(imports)
        .where(imports.c.token == token, imports.c.fate.in_([Fate.WAITING.value, Fate.SENT.value]))
        .values(
            fate=fate.value,
            at=now(),
            owner=owner,
            attempt_id=None,
            attempt_deadline=None,
            reason=None,
            detail=None,
            newer=None,
        )
    )


def forget_owner(connection: Connection, owner: str) -> None:
    """Forgets whose a token was; that it is spent stays."""
    connection.execute(update(imports).where(imports.c.owner == owner).values(owner=None))


def purge(connection: Connection) -> None:
    """Forgets what is older than a refresh token can be: no file holds a token that still lives then."""
    connection.execute(delete(imports).where(imports.c.at <= now(-LIFE)))


def _place(token: str) -> dict[str, Any]:
    return {"owner": token, "column": "imports_newer", "generation": 0}
