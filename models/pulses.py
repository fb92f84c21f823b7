"""Signs of life: when the sweep last ran, when a refresh last ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Column, String, Table, delete, select, update
from sqlalchemy.exc import IntegrityError

from models.session import Database, Instant, metadata, now

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

pulses = Table(
    "pulses",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("at", Instant, nullable=False),
)


def beat(database: Database, name: str) -> None:
    """Notes that `name` is alive now, by the database's clock."""
    with database.write() as connection:
        if connection.execute(update(pulses).where(pulses.c.name == name).values(at=now())).rowcount:
            return
    try:
        with database.write() as connection:
            connection.execute(pulses.insert().values(name=name, at=now()))
    except IntegrityError:
        pass  # another process was first, just now


def beaten_within(database: Database, name: str, seconds: float) -> bool:
    """Whether `name` was alive within the last `seconds`."""
    with database.read() as connection:
        # One from far ahead was given before the clock was set back, and says nothing.
        lately = (pulses.c.at > now(-seconds)) & (pulses.c.at < now(60))
        query = select(pulses.c.name).where(pulses.c.name == name, lately)
        return connection.execute(query).first() is not None


def all_signs(connection: Connection) -> dict[str, datetime]:
    """When each gave its last sign of life."""
    return {name: at for name, at in connection.execute(select(pulses.c.name, pulses.c.at))}  # noqa: C416


def lately(database: Database, prefix: str, seconds: float) -> list[str]:
    """Whoever is named so and was alive within the last `seconds`, without the prefix, in order."""
    with database.read() as connection:
        alive = (pulses.c.at > now(-seconds)) & (pulses.c.at < now(60))
        query = select(pulses.c.name).where(pulses.c.name.startswith(prefix, autoescape=True), alive)
        return sorted(name.removeprefix(prefix) for name in connection.execute(query).scalars())


def forget(database: Database, seconds: float) -> None:
    """Forgets what gave no sign of life for `seconds`, e.g. workers that were scaled away."""
    with database.write() as connection:
        connection.execute(delete(pulses).where(pulses.c.at <= now(-seconds)))
