"""Every event is in the tallies once, by its minute, however often and by how many they are rolled up."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from sqlalchemy import update

from models import consent, tallies
from models.events import Kind, events, record
from models.session import now
from models.tallies import SETTLED, Tally, roll_up, since

if TYPE_CHECKING:
    import pytest

    from tests.models.conftest import Table


def happen(table: Table, kind: Kind, seconds_ago: float, **what: Any) -> None:
    with table.database.write() as connection:
        record(connection, kind, owner=what.pop("owner", "ann"), **what)
        newest = events.select().order_by(events.c.id.desc()).limit(1)
        event_id = connection.execute(newest).one().id
        connection.execute(update(events).where(events.c.id == event_id).values(at=now(-seconds_ago)))


def minutes(table: Table) -> list[Tally]:
    with table.database.read() as connection:
        return since(connection, 3600)


def test_they_are_added_up_by_the_minute(table: Table) -> None:
    happen(table, Kind.REFRESHED, 1800, late=2.0)
    happen(table, Kind.REFRESHED, 1800, late=6.0)
    happen(table, Kind.SPARE_USED, 1800)
    happen(table, Kind.WAITING, 1800)
    happen(table, Kind.CONNECTED, 1800)  # in no chart
    happen(table, Kind.NEEDS_CONSENT, 600)
    happen(table, Kind.OPERATOR_MUST_ACT, 600, owner=None)  # about all, not an attempt
    roll_up(table.database)
    then, later = minutes(table)
    assert (then.refreshed, then.failed, then.ended, then.timed, then.late_sum, then.late_max) == (
        *(3, 1, 0, 2),
        *(8.0, 6.0),
    )
    assert (later.refreshed, later.failed, later.ended) == (0, 0, 1)
    assert then.minute.second == then.minute.microsecond == 0
    assert 1795 <= (later.minute - then.minute).total_seconds() + 600 <= 1865

    happen(table, Kind.REFRESHED, 1800, late=1.0)
    roll_up(table.database)
    assert sum(tally.refreshed for tally in minutes(table)) == 4
    assert max(tally.late_max for tally in minutes(table)) == 6.0
    roll_up(table.database)
    assert sum(tally.refreshed for tally in minutes(table)) == 4


def test_what_has_only_just_happened_waits_for_its_neighbours(table: Table) -> None:
    happen(table, Kind.REFRESHED, 60)
    happen(table, Kind.REFRESHED, 0)
    happen(table, Kind.REFRESHED, 60)  # a slow transaction's: its id was given late
    roll_up(table.database)
    assert sum(tally.refreshed for tally in minutes(table)) == 1
    with table.database.write() as connection:
        connection.execute(update(events).values(at=now(-SETTLED - 1)))
    roll_up(table.database)
    assert sum(tally.refreshed for tally in minutes(table)) == 3


def test_a_long_backlog_is_rolled_up_in_parts(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "BATCH", 3)
    for _ in range(10):
        happen(table, Kind.REFRESHED, 60)
    roll_up(table.database, seconds=0)
    assert sum(tally.refreshed for tally in minutes(table)) == 3
    roll_up(table.database)
    assert sum(tally.refreshed for tally in minutes(table)) == 10


def test_several_at_once_count_nothing_twice(table: Table) -> None:
    roll_up(table.database)
    for _ in range(30):
        happen(table, Kind.REFRESHED, 60)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: roll_up(table.database), range(6)))
    roll_up(table.database)
    assert sum(tally.refreshed for tally in minutes(table)) == 30


def test_after_an_erasure_it_goes_on(table: Table) -> None:
    for _ in range(5):
        happen(table, Kind.REFRESHED, 60)
    roll_up(table.database)
    consent.erase(table.database, "ann")
    roll_up(table.database)
    happen(table, Kind.REFRESHED, 60, owner="bob")
    roll_up(table.database)
    assert sum(tally.refreshed for tally in minutes(table)) == 6


def test_old_tallies_go(table: Table) -> None:
    happen(table, Kind.REFRESHED, 60)
    roll_up(table.database)
    with table.database.write() as connection:
        connection.execute(update(tallies.tallies).values(minute=now(-tallies.KEPT - 60)))
    roll_up(table.database)
    with table.database.read() as connection:
        assert since(connection, 10 * tallies.KEPT) == []
