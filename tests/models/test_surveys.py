"""The survey counts the grants as they are, seldom enough, and once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from sqlalchemy import update

from models import consent, pausing, surveys
from models.grants import grants
from models.session import now
from models.surveys import BOUNDS, SHORTEST_PAUSE, Survey

if TYPE_CHECKING:
    from tests.models.conftest import Table


def read(table: Table) -> Survey:
    with table.database.read() as connection:
        survey = surveys.read(connection)
    assert survey is not None
    return survey


def change(table: Table, owner: str, **values: Any) -> None:
    with table.database.write() as connection:
        connection.execute(update(grants).where(grants.c.owner == owner).values(**values))


def let_time_pass(table: Table, seconds: float) -> None:
    with table.database.write() as connection:
        connection.execute(update(surveys.surveys).values(begun_at=now(-seconds), at=now(-seconds)))


def test_it_counts(table: Table) -> None:
    lives = (-5, 30, 300, 3000, 2 * 3600 - 5, 9 * 3600)
    for number, life in enumerate(lives):
        table.connect(f"alive-{number}", expires_in=life, due_in=1000)
    table.connect("withdrawn")
    change(table, "withdrawn", state="needs_consent", refresh_at=None, failures=1, last_error="x")
    table.connect("gone")
    consent.disconnect(table.database, "gone", correlation_id="c")
    for owner in ("alive-0", "alive-1"):
        change(table, owner, failures=3, last_error="tesla_failed", retry_at=now(60), refresh_at=now(-400))
    change(table, "alive-2", refresh_at=now(-400))
    pausing.pause(table.database, "alive-5", correlation_id="c")

    assert surveys.take(table.database)
    survey = read(table)
    assert survey.states == {"alive": 6, "needs_consent": 1, "disconnected": 1}
    assert survey.owners == 8
    assert survey.paused == 1
    assert survey.failing == {"tesla_failed": 2}
    assert survey.due == 3
    assert survey.late == 1
    assert survey.run_out == 1
    found = dict(zip((*BOUNDS, "more"), survey.left, strict=True))
    assert {bound for bound, number in found.items() if number} == {0, 60, 600, 3600, 2 * 3600, "more"}
    assert survey.age < 30


def test_the_pause_grows_with_what_it_took(table: Table) -> None:
    with table.database.read() as connection:
        assert surveys.read(connection) is None
    assert surveys.take(table.database)
    assert not surveys.take(table.database)
    let_time_pass(table, SHORTEST_PAUSE + 1)
    assert surveys.take(table.database)
    with table.database.write() as connection:
        connection.execute(update(surveys.surveys).values(seconds=3))
    let_time_pass(table, 290)
    assert not surveys.take(table.database)
    assert read(table).age > 280
    let_time_pass(table, 310)
    assert surveys.take(table.database)


def test_several_at_once_do_it_once(table: Table) -> None:
    surveys.take(table.database)
    let_time_pass(table, 60)
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: surveys.take(table.database), range(8))) == 1


def test_a_note_is_kept_and_kept_apart(table: Table) -> None:
    surveys.note(table.database, "quiet", {"since": "then"})
    surveys.note(table.database, "quiet", {"since": "now"})
    with table.database.read() as connection:
        assert surveys.noted(connection, "quiet") == {"since": "now"}
        assert surveys.noted(connection, "other") is None
        assert surveys.read(connection) is None
