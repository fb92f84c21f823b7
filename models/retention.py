"""How long events are kept. Routine refreshes are all but all of them, and go first.

They are erased a few at a time, in the order in which they came, so that no statement waits for another, and
only after the tallies have counted them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select

from models import surveys
from models.events import NO_REFRESH, Kind, events
from models.session import now
from models.tallies import rolled

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from models.session import Database

BATCH = 2_000
"""Events looked at in one transaction: several times what a million owners add between two sweeps."""

DAY = 24 * 3600.0
_NOTE = "retention"


def purge(database: Database, *, days: float, refreshed_days: float, limit: int = BATCH) -> int:
    """Erases at most `limit` routine refreshes older than `refreshed_days` and as many of the other events
    older than `days`; returns how many."""
    with database.read() as connection:
        before = (surveys.noted(connection, _NOTE) or {}).get("event", 0)
        end = _last_over(connection, before, refreshed_days, limit)
    erased = 0
    if end > before:
        with database.write() as connection:
            of_these = (events.c.id > before, events.c.id <= end, events.c.kind == Kind.REFRESHED)
            erased = connection.execute(delete(events).where(*of_these)).rowcount
        # Only where to go on from: who repeats the last step finds nothing to erase.
        surveys.note(database, _NOTE, {"event": end})
    oldest = select(events.c.id, events.c.at).where(NO_REFRESH).order_by(events.c.id).limit(limit).subquery()
    over = select(oldest.c.id).where(oldest.c.at <= now(-days * DAY))
    with database.write() as connection:
        return erased + connection.execute(delete(events).where(events.c.id.in_(over))).rowcount


def _last_over(connection: Connection, before: int, refreshed_days: float, limit: int) -> int:
    """The last of the next `limit` events whose time as a routine refresh is over."""
    counted = connection.execute(select(rolled.c.event)).scalar_one_or_none() or 0
    following = select(events.c.id).where(events.c.id > before).order_by(events.c.id).limit(1)
    first = connection.execute(following).scalar_one_or_none()
    if first is None or first > counted:
        return before
    end = min(first + limit - 1, counted)
    here = (events.c.id >= first, events.c.id <= end)
    young = select(func.min(events.c.id)).where(*here, events.c.at > now(-refreshed_days * DAY))
    youngest: int | None = connection.execute(young).scalar_one_or_none()
    return end if youngest is None else youngest - 1
