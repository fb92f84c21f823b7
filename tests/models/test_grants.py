"""The sweep's claim, the times, and what a row never shows."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import inspect, select

from models import grants, pulses
from models.migrate import is_current
from models.session import Database, metadata, now

if TYPE_CHECKING:
    from tests.models.conftest import Table


def test_a_claim_takes_what_is_due_nearest_to_its_end_first(table: Table) -> None:
    table.connect("later", expires_in=300)
    table.connect("sooner", expires_in=30)
    table.connect("over", expires_in=-10)
    table.connect("not due", due_in=60)
    assert table.claim(limit=2) == ["over", "sooner"]
    assert table.claim() == ["later"]
    assert table.claim() == []


def test_a_claim_that_ran_out_or_is_lost_is_made_again(table: Table) -> None:
    table.connect()
    assert table.claim(seconds=-1) == ["ann"]
    assert table.claim() == ["ann"]
    assert table.claim() == []
    with table.database.write() as connection:
        grants.release_claims(connection)
    assert table.claim() == ["ann"]
    with table.database.write() as connection:
        grants.release_claim(connection, "ann")
    assert table.claim() == ["ann"]


def test_what_is_in_flight_is_not_claimed(table: Table) -> None:
    table.connect()
    table.attempt()
    assert table.claim() == []


def test_sweeps_at_once_share_the_work(table: Table) -> None:
    owners = {f"owner-{number}" for number in range(60)}
    for owner in owners:
        table.connect(owner)
    claimed: list[str] = []
    barrier = threading.Barrier(4)

    def sweep() -> None:
        barrier.wait()
        while batch := table.claim(limit=7):
            claimed.extend(batch)

    threads = [threading.Thread(target=sweep) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(owners)


def test_what_is_due_is_found_by_its_index(table: Table) -> None:
    with table.database.write() as connection:
        if connection.dialect.name != "sqlite":
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        due = select(grants.grants.c.owner).where(grants.grants.c.refresh_at <= now())
        statement = str(due.compile(connection, compile_kwargs={"literal_binds": True}))
        explain = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
        plan = str(connection.exec_driver_sql(f"{explain} {statement.replace('%', '%%')}").all())
    assert "ix_grants_refresh_at" in plan


def test_times_are_the_databases_and_agree_when_stored_and_when_computed(table: Table) -> None:
    table.connect(expires_in=0.5, due_in=0)
    grant = table.read()
    assert abs((grant.read_at - datetime.now(UTC)).total_seconds()) < 5
    assert grant.access_expires_at is not None
    assert 0 < (grant.access_expires_at - grant.connected_at).total_seconds() <= 0.6
    with table.database.read() as connection:
        before = connection.execute(select(now(-60) < now(), now(60) < now())).one()
    assert tuple(map(bool, before)) == (True, False)


def test_no_token_is_in_a_rows_text(table: Table) -> None:
    table.connect(access_token="the-access", refresh_token="the-refresh")
    attempt = table.attempt()
    shown = f"{table.read()!r} {attempt!r} {table.answer(attempt, 'the-new')!r}"
    assert "the-" not in shown
    with table.database.read() as connection:
        row = connection.exec_driver_sql("SELECT * FROM grants").one()
    assert b"the-" not in b"".join(bytes(value) for value in row if isinstance(value, (bytes, memoryview)))


def test_the_migrations_make_the_tables_that_the_code_has(database: Database) -> None:
    with database.read() as connection:
        assert is_current(connection)
        for table in metadata.sorted_tables:
            found = {column["name"]: column for column in inspect(connection).get_columns(table.name)}
            assert set(found) == set(table.columns.keys()), table.name
            for column in table.columns:
                assert found[column.name]["nullable"] == column.nullable, column
            indexes = {index["name"] for index in inspect(connection).get_indexes(table.name)}
            assert indexes == {index.name for index in table.indexes}, table.name


def test_a_database_without_tables_is_not_current(tmp_path: object) -> None:
    empty = Database(f"sqlite:///{tmp_path}/empty.db")
    with empty.read() as connection:
        assert not is_current(connection)
    empty.close()


def test_a_pulse_is_seen_for_as_long_as_asked(database: Database) -> None:
    assert not pulses.beaten_within(database, "sweep", 60)
    pulses.beat(database, "sweep")
    pulses.beat(database, "sweep")
    assert pulses.beaten_within(database, "sweep", 60)
    assert not pulses.beaten_within(database, "sweep", -1)
    assert not pulses.beaten_within(database, "other", 60)
