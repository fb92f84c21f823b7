"""One-time sign-in links: a program has one made, an owner opens it, and comes back to the program.

A link is spent by the sign-in that succeeds, not by being opened: mail programs and chats look at links
before people do.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - a field's type
from typing import TYPE_CHECKING

from sqlalchemy import Column, String, Table, Text, delete, select, update

from models.session import Instant, OwnerId, metadata, now

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from models.session import Database

signin_links = Table(
    "signin_links",
    metadata,
    Column("id", String(64), primary_key=True),  # SHA-256 of its token, so that the table opens nothing
    Column("key", String(16), nullable=False),  # id of the API key that it was made with
    Column("owner", OwnerId),  # the only one who may sign in with it; none: anybody
    Column("return_url", Text),
    Column("ends_at", Instant, nullable=False, index=True),
    Column("used_at", Instant),
)

KEPT = 24 * 3600
"""Seconds after its end that a link can still be told from one that never was."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link as it was at ``read_at``."""

    id: str
    owner: str | None
    return_url: str | None
    ends_at: datetime
    used_at: datetime | None
    read_at: datetime

    @property
    def is_good(self) -> bool:
        """Whether it may still be opened."""
        return self.used_at is None and self.ends_at > self.read_at


_COLUMNS = (*(signin_links.c[name] for name in Link.__slots__[:-1]), now().label("read_at"))


def create(
    database: Database, *, key: str, owner: str | None, return_url: str | None, lives: float
) -> tuple[str, datetime]:
    """Makes a link that may be opened for `lives` seconds, and returns its token and its end."""
    token = secrets.token_urlsafe(32)
    with database.write() as connection:
        connection.execute(delete(signin_links).where(signin_links.c.ends_at <= now(-KEPT)))
        ends_at: datetime = connection.execute(
            signin_links.insert()
            .values(
                id=_digest(token),
                key=key,
                owner=owner,
                return_url=return_url,
                ends_at=now(lives),
                used_at=None,
            )
            .returning(signin_links.c.ends_at)
        ).scalar_one()
    return token, ends_at


def find(database: Database, token: str) -> Link | None:
    """The link with this token, good or not; None when there is none."""
    with database.read() as connection:
        query = select(*_COLUMNS).where(signin_links.c.id == _digest(token))
        row = connection.execute(query).one_or_none()
    return None if row is None else Link(*row)


def spend(database: Database, link: str) -> Link | None:
    """Uses the link of this id up and returns it; None when it is used up already."""
    with database.write() as connection:
        row = connection.execute(
            update(signin_links)
            .where(signin_links.c.id == link, signin_links.c.used_at.is_(None))
            .values(used_at=now())
            .returning(*_COLUMNS)
        ).one_or_none()
    return None if row is None else Link(*row)


def give_back(database: Database, link: str) -> None:
    """The sign-in came to nothing: the link may be opened again, until its end."""
    with database.write() as connection:
        connection.execute(update(signin_links).where(signin_links.c.id == link).values(used_at=None))


def forget_owner(connection: Connection, owner: str) -> None:
    """Ends the links that were made for this owner."""
    connection.execute(delete(signin_links).where(signin_links.c.owner == owner))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
