"""The operator's word about one owner: refreshing pauses, and goes on.

A paused grant never falls due, and no attempt is begun for it, whoever asks; what Tesla answers to one in
flight is stored all the same. The owner's word wins: signing in again, disconnecting, erasing end a pause.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update

from models.events import Kind, record
from models.grants import PAUSED, State, grants
from models.session import now

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from models.session import Database


def pause(database: Database, owner: str, *, correlation_id: str) -> bool:
    """Nobody refreshes this owner's grant until it is resumed. False when it is paused or not alive."""
    with database.write() as connection:
        generation = connection.execute(
            update(grants)
            .where(grants.c.owner == owner, grants.c.state == State.ALIVE, grants.c.paused_at.is_(None))
            .values(paused_at=now(), refresh_at=None, claimed_until=None)
            .returning(grants.c.generation)
        ).scalar_one_or_none()
        if generation is None:
            return False
        record(connection, Kind.PAUSED, owner=owner, generation=generation, correlation_id=correlation_id)
        return True


def longest(connection: Connection) -> float | None:
    """For how many seconds the grant has been paused that was paused first; None when none is."""
    first = select(func.min(grants.c.paused_at), now()).where(PAUSED, grants.c.state == State.ALIVE)
    paused_at, moment = connection.execute(first).one()
    return None if paused_at is None else (moment - paused_at).total_seconds()


def resume(
    database: Database,
    owner: str,
    *,
    due_after: Callable[[float], float],
    correlation_id: str,
    detail: str | None = None,
) -> bool:
    """The grant falls due again by the life of its access token: `due_after` says how many seconds after its
    start. False when it is not paused."""
    with database.write() as connection:
        row = connection.execute(
            select(grants.c.generation, grants.c.refreshed_at, grants.c.access_expires_at)
            .where(grants.c.owner == owner, grants.c.paused_at.is_not(None))
            .with_for_update()
        ).one_or_none()
        if row is None:
            return False
        life = ((row.access_expires_at or row.refreshed_at) - row.refreshed_at).total_seconds()
        connection.execute(
            update(grants)
            .where(grants.c.owner == owner)
            .values(paused_at=None, refresh_at=row.refreshed_at + timedelta(seconds=due_after(life)))
        )
        record(
            connection,
            Kind.RESUMED,
            owner=owner,
            detail=detail,
            generation=row.generation,
            correlation_id=correlation_id,
        )
        return True
