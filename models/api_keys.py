"""Keys that programs use: shown once, kept as a digest, good for what was chosen when they were made.

A key reads ``evergrant_`` id ``_`` secret. Only the secret's SHA-256 is kept. That is enough: the secret is
256 random bits, so there is nothing to guess, and a slow hash such as a password needs would only make each
request of a program slow.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Boolean,
    Column,
    Integer,
    String,
    Table,
    Text,
    bindparam,
    delete,
    not_,
    or_,
    select,
    update,
)

from models.events import Kind, record
from models.grants import READ, Grant, grants
from models.lookup import Lookup
from models.session import Instant, OwnerId, metadata, now

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import Connection, Select

    from models.session import Database

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(16), primary_key=True),  # the key's second part
    Column("digest", String(64), nullable=False),  # SHA-256 of its third
    Column("name", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("restricted", Boolean, nullable=False),  # to the owners in `api_key_owners`
    Column("rate", Integer, nullable=False),  # calls a second
    Column("created_at", Instant, nullable=False),
    Column("ends_at", Instant),
    Column("last_used_at", Instant),  # written once a minute at most
    Column("revoked_at", Instant),
)

api_key_owners = Table(
    "api_key_owners",
    metadata,
    Column("key", String(16), primary_key=True),
    Column("owner", OwnerId, primary_key=True),
)

RATE = 10_000
"""Calls a second that a key may make unless it was made with another rate: a limit for what runs wild."""

USED = 60
"""Seconds within which the last use is not written again."""

LONGEST_NAME = 100

_KEY = re.compile(r"evergrant_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class Scope(StrEnum):
    """What a key may be good for."""

    TOKENS_READ = "tokens:read"  # owners' access tokens
    OWNERS_READ = "owners:read"  # owners, their grants' states, their events
    OWNERS_WRITE = "owners:write"  # refresh, disconnect, sign-in links
    GATEWAY = "gateway"  # calls of the Fleet API in an owner's name


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it was at ``read_at``, without what opens anything."""

    id: str
    name: str
    scopes: str
    restricted: bool
    rate: int
    created_at: datetime
    ends_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    read_at: datetime

    @property
    def has_ended(self) -> bool:
        return self.ends_at is not None and self.ends_at <= self.read_at

    def may(self, scope: Scope) -> bool:
        """Whether it was made for this."""
        return scope in self.scopes.split()


def is_name(text: str) -> bool:
    """Whether a key may be called that."""
    return bool(text.strip()) and len(text) <= LONGEST_NAME and text.isprintable()


# --- making and ending --------------------------------------------------------------------------------


def create(
    connection: Connection,
    *,
    name: str,
    scopes: Iterable[Scope],
    owners: Iterable[str] | None = None,
    lives: float | None = None,
    rate: int = RATE,
) -> tuple[str, str]:
    """Makes a key and returns its id and its text, which nobody can read again.

    `owners` are the only ones that it is good for, None: all, also those who come later. `lives` is in
    seconds, None: until it is revoked.
    """
    key, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    wanted = set(scopes)
    connection.execute(
        api_keys.insert().values(
            id=key,
            digest=_digest(secret),
            name=name,
            scopes=" ".join(scope for scope in Scope if scope in wanted),
            restricted=owners is not None,
            rate=rate,
            created_at=now(),
            ends_at=None if lives is None else now(lives),
        )
    )
    if rows := [{"key": key, "owner": owner} for owner in sorted(set(owners or ()))]:
        connection.execute(api_key_owners.insert(), rows)
    record(connection, Kind.KEY_MADE, detail=f"{name} ({key})")
    return key, f"evergrant_{key}_{secret}"


def revoke(connection: Connection, key: str) -> bool:
    """Ends a key from its next use on. False when there is none of that id, or it has been revoked."""
    name = connection.execute(
        update(api_keys)
        .where(api_keys.c.id == key, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=now())
        .returning(api_keys.c.name)
    ).scalar_one_or_none()
    if name is None:
        return False
    record(connection, Kind.KEY_REVOKED, detail=f"{name} ({key})")
    return True


def forget_owner(connection: Connection, owner: str) -> None:
    """Takes this owner out of the lists of all keys; one that was for nobody else is good for nobody then."""
    connection.execute(delete(api_key_owners).where(api_key_owners.c.owner == owner))


def note_use(connection: Connection, key: str) -> None:
    """Notes that the key was used just now, unless that was noted within the last `USED` seconds."""
    last = api_keys.c.last_used_at
    connection.execute(
        update(api_keys)
        .where(api_keys.c.id == key, or_(last.is_(None), last <= now(-USED)))
        .values(last_used_at=now())
    )


# --- reading ------------------------------------------------------------------------------------------

_COLUMNS = (
    *(api_keys.c[name] for name in ApiKey.__slots__ if name in api_keys.c),
    now().label("key_read_at"),
)


def read(connection: Connection, key: str) -> ApiKey | None:
    """The key of this id, or None."""
    row = connection.execute(select(*_COLUMNS).where(api_keys.c.id == key)).one_or_none()
    return None if row is None else ApiKey(*row)


def latest(connection: Connection) -> list[ApiKey]:
    """All keys, the newest first."""
    rows = connection.execute(select(*_COLUMNS).order_by(api_keys.c.created_at.desc(), api_keys.c.id))
    return [ApiKey(*row) for row in rows]


def owners_of(connection: Connection, key: str, limit: int | None = None) -> list[str]:
    """The owners that a restricted key is good for, in order; the first `limit` of them."""
    query = select(api_key_owners.c.owner).where(api_key_owners.c.key == key)
    return list(connection.execute(query.order_by(api_key_owners.c.owner).limit(limit)).scalars())


def of_key(key: ApiKey) -> Select[Any] | None:
    """The owners that the key is good for, as a query; None: all."""
    return select(api_key_owners.c.owner).where(api_key_owners.c.key == key.id) if key.restricted else None


def is_good_for(connection: Connection, key: ApiKey, owner: str | None) -> bool:
    """Whether it is good for this owner; None: for anybody who comes."""
    among = of_key(key)
    if among is None:
        return True
    return connection.execute(among.where(api_key_owners.c.owner == owner)).first() is not None


@dataclass(frozen=True, slots=True)
class Use:
    """A genuine key, which may have ended, and the grant of the owner that it was presented for: None
    where there is none, or where the key is not good for that owner."""

    key: ApiKey
    grant: Grant | None
    allows_owner: bool


class KeyLookup:
    """Finds out what a presented key is good for, in one round trip together with the owner's grant, so that
    a key that was revoked a moment ago opens nothing and nothing has to be kept in memory."""

    def __init__(self, database: Database) -> None:
        listed = (
            select(api_key_owners.c.owner)
            .where(api_key_owners.c.key == api_keys.c.id, api_key_owners.c.owner == bindparam("owner"))
            .exists()
        )
        self._lookup = Lookup(
            database,
            select(api_keys.c.digest, or_(not_(api_keys.c.restricted), listed), *_COLUMNS, *READ)
            .select_from(api_keys.outerjoin(grants, grants.c.owner == bindparam("owner")))
            .where(api_keys.c.id == bindparam("key")),
        )

    def find(self, text: str, owner: str = "") -> Use | None:
        """What the key `text` may do, and `owner`'s grant; None when there is no such key."""
        parts = _KEY.fullmatch(text)
        if parts is None:
            return None
        row = self._lookup.one(key=parts[1], owner=owner)
        if row is None or not hmac.compare_digest(_digest(parts[2]), row[0]):
            return None
        found = row[2 + len(_COLUMNS) :]
        allows_owner = bool(row[1])
        has_grant = allows_owner and found[0] is not None
        return Use(ApiKey(*row[2 : 2 + len(_COLUMNS)]), Grant(*found) if has_grant else None, allows_owner)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
