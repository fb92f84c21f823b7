"""How the grants are, in numbers: counted now and then, so that nothing has to count while somebody waits.

A survey passes over the table's indexes, which at a million grants takes a second or so. The pause until
the next grows with what the last one took, so that surveys never take more than a hundredth of the time.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, Float, String, Table, Text, case, func, select, update
from sqlalchemy.exc import IntegrityError

from models.grants import FAILING, NOT_ALIVE, PAUSED, State, grants, passed
from models.session import Database, Instant, metadata, now

if TYPE_CHECKING:
    from sqlalchemy import Connection

surveys = Table(
    "surveys",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("begun_at", Instant, nullable=False),
    Column("at", Instant),  # when these numbers were true; none: not yet
    Column("seconds", Float, nullable=False),  # that it took
    Column("numbers", Text, nullable=False),  # JSON
)

SHORTEST_PAUSE = 10.0
"""Seconds between two surveys, however quick they are."""

SHARE = 0.01
"""Of the time, at most, goes into surveys."""

BOUNDS = (0, 60, 600, *(hours * 3600 for hours in range(1, 9)))
"""Seconds of life left at which the histogram is divided: run out, less than a minute, than ten, …"""

LATE = 300.0
"""Seconds after which a grant that is due, and has no reason to wait, is late."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What was counted at ``at``, by the database's clock, and how many seconds it took."""

    at: datetime
    seconds: float
    age: float  # seconds since
    states: dict[str, int]  # owners by `State`
    paused: int  # of the alive ones
    failing: dict[str, int]  # of the alive ones: by the cause of the last failure
    left: list[int]  # alive ones by the life left of their access token, divided at `BOUNDS`
    due: int  # now
    late: int

    @property
    def owners(self) -> int:
        return sum(self.states.values())

    @property
    def run_out(self) -> int:
        """Alive grants whose access token has run out."""
        return self.left[0]


def read(connection: Connection) -> Survey | None:
    """The last survey; None before the first."""
    row = connection.execute(
        select(surveys.c.at, surveys.c.seconds, surveys.c.numbers, now().label("now")).where(
            surveys.c.name == "grants", surveys.c.at.is_not(None)
        )
    ).one_or_none()
    if row is None:
        return None
    age = max((row.now - row.at).total_seconds(), 0.0)
    return Survey(at=row.at, seconds=row.seconds, age=age, **json.loads(row.numbers))


def take(database: Database) -> bool:
    """Counts anew, if it is time for that; False when it is not, or another process is at it."""
    if not _begin(database):
        return False
    started = time.monotonic()
    with database.read() as connection:
        at = clock(connection)
        numbers = _count(connection, at)
    with database.write() as connection:
        connection.execute(
            update(surveys)
            .where(surveys.c.name == "grants")
            .values(at=at, seconds=time.monotonic() - started, numbers=json.dumps(numbers))
        )
    return True


def _begin(database: Database) -> bool:
    """Whether this call is the one that counts."""
    with database.read() as connection:
        last = connection.execute(
            select(surveys.c.begun_at, surveys.c.seconds, now().label("now")).where(
                surveys.c.name == "grants"
            )
        ).one_or_none()
    if last is None:
        return _insert(database, "grants", {})
    pause = timedelta(seconds=max(SHORTEST_PAUSE, last.seconds / SHARE))
    if last.begun_at <= last.now < last.begun_at + pause:
        return False
    with database.write() as connection:
        ours = connection.execute(
            update(surveys)
            .where(surveys.c.name == "grants", surveys.c.begun_at == last.begun_at)
            .values(begun_at=now())
        )
        return ours.rowcount == 1


def _count(connection: Connection, at: datetime) -> dict[str, Any]:
    alive = grants.c.state == State.ALIVE
    # With moments and not with sums that PostgreSQL would do again for every row.
    life = [
        (grants.c.access_expires_at < at + timedelta(seconds=bound), place)
        for place, bound in enumerate(BOUNDS)
    ]
    left = [0] * (len(BOUNDS) + 1)
    by_life = select(case(*life, else_=len(BOUNDS)).label("place"), func.count()).where(alive)
    for place, number in connection.execute(by_life.group_by("place")):
        left[place] = number
    states = dict.fromkeys((state.value for state in State), 0)
    states[State.ALIVE] = sum(left)
    others = select(grants.c.state, func.count()).where(NOT_ALIVE).group_by(grants.c.state)
    states.update((state, number) for state, number in connection.execute(others))
    paused = select(func.count()).where(PAUSED, alive)
    failing = select(grants.c.last_error, func.count()).where(FAILING, alive).group_by(grants.c.last_error)
    due = select(func.count()).where(grants.c.refresh_at <= now())
    late = select(func.count()).where(
        grants.c.refresh_at <= now(-LATE), passed(grants.c.retry_at), passed(grants.c.attempt_deadline)
    )
    return {
        "states": states,
        "paused": connection.execute(paused).scalar_one(),
        "failing": {cause or "": number for cause, number in connection.execute(failing)},
        "left": left,
        "due": connection.execute(due).scalar_one(),
        "late": connection.execute(late).scalar_one(),
    }


def clock(connection: Connection) -> datetime:
    """The database's."""
    return connection.execute(select(now())).scalar_one()


# --- other notes of this kind -------------------------------------------------------------------------


def note(database: Database, name: str, numbers: dict[str, Any]) -> None:
    """Keeps `numbers` under this name."""
    with database.write() as connection:
        kept = connection.execute(
            update(surveys).where(surveys.c.name == name).values(at=now(), numbers=json.dumps(numbers))
        )
    if not kept.rowcount:
        _insert(database, name, numbers)


def noted(connection: Connection, name: str) -> dict[str, Any] | None:
    """What was kept under this name last."""
    kept = connection.execute(select(surveys.c.numbers).where(surveys.c.name == name)).scalar_one_or_none()
    return None if kept is None else json.loads(kept)


def _insert(database: Database, name: str, numbers: dict[str, Any]) -> bool:
    try:
        with database.write() as connection:
            connection.execute(
                surveys.insert().values(name=name, begun_at=now(), seconds=0.0, numbers=json.dumps(numbers))
            )
    except IntegrityError:
        return False  # another process was first, just now
    return True
