"""Grants that Tesla will end soon because nobody refreshed them: said once, while there is time to act.

An unused refresh token lives three months. One that is refreshed every few hours is far from that; one whose
grant is paused, or whose every attempt fails, is not.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import or_, select

from models.events import Kind, events, record
from models.grants import State, grants
from models.session import now
from models.spares import LIFE

if TYPE_CHECKING:
    from sqlalchemy import Connection

BEFORE = 14 * 24 * 3600.0
"""Seconds before the end at which it is said."""

_LONGEST = 31 * 24 * 3600.0
"""Seconds from a refresh to the next that is due, at most (`fleet.tokens.LONGEST_SECONDS`)."""


def say_ending(connection: Connection, limit: int) -> int:
    """Records at most `limit` grants that will end soon, each once a generation; returns how many."""
    said = select(events.c.id).where(
        events.c.owner == grants.c.owner,
        events.c.kind == Kind.ENDING,
        events.c.generation == grants.c.generation,
    )
    unused = now(BEFORE - LIFE)
    ending = connection.execute(
        select(grants.c.owner, grants.c.generation, grants.c.refreshed_at)
        .where(
            grants.c.state == State.ALIVE,
            # What is due for so long or is paused is found in an index, without a look at all the others.
            or_(grants.c.refresh_at <= now(BEFORE - LIFE + _LONGEST), grants.c.paused_at.is_not(None)),
            grants.c.refreshed_at <= unused,
            ~said.exists(),
        )
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    for row in ending:
        ends_at = row.refreshed_at + timedelta(seconds=LIFE)
        record(
            connection,
            Kind.ENDING,
            owner=row.owner,
            detail=f"It was last refreshed on {row.refreshed_at:%Y-%m-%d}; unless it is refreshed, Tesla "
            f"ends it on {ends_at:%Y-%m-%d}.",
            generation=row.generation,
            ends_at=ends_at,
        )
    return len(ending)
