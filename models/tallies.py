"""What happened, minute by minute: rolled up from the events as they come, for charts that add up nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Column, Float, Integer, Table, and_, case, delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from models.events import Kind, events
from models.session import Database, Instant, metadata, now

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection
    from sqlalchemy.sql.compiler import SQLCompiler

tallies = Table(
    "tallies",
    metadata,
    Column("minute", Instant, primary_key=True),  # its beginning
    Column("refreshed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),  # attempts that brought nothing
    Column("ended", Integer, nullable=False),  # grants that Tesla ended
    Column("timed", Integer, nullable=False),  # refreshes of grants that were due
    Column("late_sum", Float, nullable=False),  # seconds after they fell due that those began
    Column("late_max", Float, nullable=False),
)

rolled = Table(
    "rolled",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # one row: 1
    Column("event", BigInteger, nullable=False),  # the last that is in the tallies
)

KEPT = 48 * 3600
"""Seconds that a tally is kept."""

SETTLED = 5.0
"""Seconds after which an event's neighbours are taken to be committed: ids are given before that."""

BATCH = 20_000
"""Events in one transaction."""


@dataclass(frozen=True, slots=True)
class Tally:
    minute: datetime
    refreshed: int
    failed: int
    ended: int
    timed: int
    late_sum: float  # seconds
    late_max: float  # seconds


def since(connection: Connection, seconds: float) -> list[Tally]:
    """The minutes of the last `seconds` in which something happened, oldest first."""
    rows = connection.execute(
        select(tallies).where(tallies.c.minute > now(-seconds)).order_by(tallies.c.minute)
    )
    return [Tally(**row._mapping) for row in rows]


def roll_up(database: Database, *, seconds: float = 1.0) -> None:
    """Adds the events since the last time, for at most about `seconds`; two at once count nothing twice."""
    ends = time.monotonic() + seconds
    while _roll_some(database) and time.monotonic() < ends:
        pass
    with database.write() as connection:
        connection.execute(delete(tallies).where(tallies.c.minute <= now(-KEPT)))


def _roll_some(database: Database) -> bool:
    """One batch; whether there may be more."""
    with database.read() as connection:
        last = connection.execute(select(rolled.c.event)).scalar_one_or_none()
    if last is None:
        try:
            with database.write() as connection:
                connection.execute(rolled.insert().values(id=1, event=0))
        except IntegrityError:
            return False  # another process was first, just now
        last = 0
    with database.write() as connection:
        end = _end(connection, last)
        if end == last:
            return False
        ours = connection.execute(update(rolled).where(rolled.c.event == last).values(event=end))
        if ours.rowcount == 0:
            return False  # another process does it
        for row in connection.execute(_added(last, end)):
            _add(connection, dict(row._mapping))
    return end > last


def _end(connection: Connection, last: int) -> int:
    """The id of the last event that may be rolled up now."""
    newest = connection.execute(select(func.max(events.c.id))).scalar_one() or 0
    if newest <= last:
        return newest  # an erasure took the last ones; their ids may be given again
    end = min(newest, last + BATCH)
    unsettled = (
        select(events.c.id)
        .where(events.c.id > last, events.c.id <= end, events.c.at > now(-SETTLED))
        .order_by(events.c.id)
        .limit(1)
    )
    first: int | None = connection.execute(unsettled).scalar_one_or_none()
    return end if first is None else first - 1


def _added(last: int, end: int) -> Any:
    def number(*kinds: Kind) -> Any:
        return func.sum(case((events.c.kind.in_(kinds), 1), else_=0))

    minute = _Minute(events.c.at)
    return (
        select(
            minute.label("minute"),
            number(Kind.REFRESHED, Kind.SPARE_USED).label("refreshed"),
            number(Kind.WAITING, Kind.OPERATOR_MUST_ACT).label("failed"),
            number(Kind.NEEDS_CONSENT).label("ended"),
            func.count(events.c.late).label("timed"),
            func.coalesce(func.sum(events.c.late), 0.0).label("late_sum"),
            func.coalesce(func.max(events.c.late), 0.0).label("late_max"),
        )
        .where(
            and_(events.c.id > last, events.c.id <= end),
            events.c.at > now(-KEPT),
            events.c.owner.is_not(None),
        )
        .group_by(minute)
    )


def _add(connection: Connection, added: dict[str, Any]) -> None:
    minute = added.pop("minute")
    if not any(added.values()):
        return
    values: dict[str, Any] = {name: tallies.c[name] + number for name, number in added.items()}
    highest = added["late_max"]
    values["late_max"] = case((tallies.c.late_max > highest, tallies.c.late_max), else_=highest)
    if not connection.execute(update(tallies).where(tallies.c.minute == minute).values(values)).rowcount:
        connection.execute(tallies.insert().values(minute=minute, **added))


class _Minute(FunctionElement[Any]):
    """The beginning of a moment's minute."""

    type = Instant()
    inherit_cache = True


@compiles(_Minute, "postgresql")
def _minute_postgresql(element: _Minute, compiler: SQLCompiler, **kw: Any) -> str:
    return f"date_trunc('minute', {compiler.process(element.clauses, **kw)})"


@compiles(_Minute, "sqlite")
def _minute_sqlite(element: _Minute, compiler: SQLCompiler, **kw: Any) -> str:
    return f"strftime('%Y-%m-%d %H:%M:00.000000', {compiler.process(element.clauses, **kw)})"
