"""Refresh tokens kept beside the current one: answers that lost their place, and tokens that they displaced.

(The previous refresh token, which Tesla leaves alive for a day, is on the grant's own row.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, Column, LargeBinary, Table, delete, func, select

from models.session import Instant, OwnerId, metadata, now

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from models.crypto import Keyring

LIFE = 90 * 24 * 3600
"""Seconds that an unused refresh token lives: 3 months (Tesla's developer pages, "Third-Party Tokens")."""

spares = Table(
    "spares",
    metadata,
    Column("owner", OwnerId, primary_key=True),
    Column("attempt_number", BigInteger, primary_key=True, autoincrement=False),  # that it came from
    Column("refresh_token", LargeBinary, nullable=False),
    Column("ends_at", Instant, nullable=False, index=True),
)


def keep(connection: Connection, keyring: Keyring, owner: str, attempt_number: int, token: str) -> bool:
    """Keeps the refresh token of this attempt's answer; False when it is kept already.

    The caller holds the grant's row, so that two of the same don't meet here.
    """
    here = (spares.c.owner == owner) & (spares.c.attempt_number == attempt_number)
    if connection.execute(select(spares.c.owner).where(here)).first() is not None:
        return False
    sealed = keyring.seal(token, owner=owner, column="spare", generation=attempt_number)
    connection.execute(
        spares.insert().values(
            owner=owner, attempt_number=attempt_number, refresh_token=sealed, ends_at=now(LIFE)
        )
    )
    return True


def held(connection: Connection, keyring: Keyring, owner: str) -> list[tuple[int, str]]:
    """The owner's spares within their life: attempt number and refresh token, in no order."""
    rows = connection.execute(
        select(spares.c.attempt_number, spares.c.refresh_token).where(
            spares.c.owner == owner, spares.c.ends_at > now()
        )
    )
    return [
        (
            row.attempt_number,
            keyring.open(row.refresh_token, owner=owner, column="spare", generation=row.attempt_number),
        )
        for row in rows
    ]


def number(connection: Connection, owner: str) -> int:
    """How many spares the owner has within their life."""
    query = select(func.count()).where(spares.c.owner == owner, spares.c.ends_at > now())
    return connection.execute(query).scalar_one()


def erase(connection: Connection, owner: str) -> None:
    """Erases the owner's spares."""
    connection.execute(delete(spares).where(spares.c.owner == owner))


def erase_ended(connection: Connection) -> int:
    """Erases the spares whose life is over; returns how many."""
    return connection.execute(delete(spares).where(spares.c.ends_at <= now())).rowcount
