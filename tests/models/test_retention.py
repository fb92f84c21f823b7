"""Events are erased in their time, a few at a time, and never before they are counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from models import tallies
from models.events import Kind, events, record
from models.retention import DAY, purge
from models.session import now

if TYPE_CHECKING:
    from models.session import Database

DAYS, REFRESHED_DAYS = 90, 7


def happened(database: Database, kind: Kind, days_ago: float) -> None:
    with database.write() as connection:
        record(connection, kind, owner="ann")
        newest = select(events.c.id).order_by(events.c.id.desc()).limit(1).scalar_subquery()
        connection.execute(events.update().where(events.c.id == newest).values(at=now(-days_ago * DAY)))


def left(database: Database) -> list[tuple[str, int]]:
    """Kind and id."""
    with database.read() as connection:
        return [(kind, id_) for id_, kind in connection.execute(select(events.c.id, events.c.kind))]


def erase(database: Database, limit: int = 100) -> int:
    return purge(database, days=DAYS, refreshed_days=REFRESHED_DAYS, limit=limit)


def test_routine_refreshes_go_first(database: Database) -> None:
    for kind, days_ago in (
        (Kind.CONNECTED, 100),
        (Kind.REFRESHED, 100),
        (Kind.WAITING, 8),
        (Kind.REFRESHED, 8),
        (Kind.REFRESHED, 6),
        (Kind.REFRESHED, 8),  # noted late: it goes with those around it
        (Kind.WAITING, 1),
    ):
        happened(database, kind, days_ago)
    tallies.roll_up(database)
    assert erase(database) == 3
    assert [kind for kind, _ in left(database)] == ["waiting", "refreshed", "refreshed", "waiting"]
    assert erase(database) == 0


def test_what_is_not_counted_yet_stays(database: Database) -> None:
    happened(database, Kind.REFRESHED, 30)
    assert erase(database) == 0
    tallies.roll_up(database)
    assert erase(database) == 1


def test_a_few_at_a_time_and_all_in_the_end(database: Database) -> None:
    for _ in range(7):
        happened(database, Kind.REFRESHED, 30)
        happened(database, Kind.WAITING, 100)
    tallies.roll_up(database)
    steps = [erase(database, limit=4) for _ in range(6)]
    assert max(steps) <= 8
    assert sum(steps) == 14
    assert left(database) == []


def test_it_goes_on_behind_a_gap(database: Database) -> None:
    happened(database, Kind.REFRESHED, 30)
    tallies.roll_up(database)
    erase(database)
    with database.write() as connection:  # ids that were given and rolled back
        connection.execute(
            events.insert().values(id=50_000, at=now(-30 * DAY), owner="ann", kind=Kind.REFRESHED.value)
        )
    tallies.roll_up(database)
    assert erase(database, limit=10) == 1
    assert left(database) == []
