"""Of a token that moves here it is known what became of it, and no live grant is harmed by it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

from models import attempts, consent, imports, spares
from models.grants import State, grants
from models.imports import Begun, Fate
from models.session import now

if TYPE_CHECKING:
    from tests.models.conftest import Table

TOKEN = imports.digest("a refresh token")


def begin(table: Table, token: str = TOKEN, seconds: float = 60) -> Begun | None:
    return imports.begin(table.database, token, seconds=seconds)


def begun(table: Table, token: str = TOKEN) -> Begun:
    found = begin(table, token)
    assert found is not None
    return found


def row(table: Table, token: str = TOKEN) -> imports.Import:
    with table.database.read() as connection:
        found = imports.read(connection, token)
    assert found is not None
    return found


def move(table: Table, attempt: Begun, owner: str = "ann") -> None:
    """What Tesla gave for the token is stored."""
    consent.SignIn(
        owner=owner,
        access_token="access",
        refresh_token=f"refresh-of-{attempt.id}",
        expires_in=60,
        due_in=-1,
        requested_scopes="openid offline_access",
        scopes="openid",
        region="NA",
        fleet_url="http://localhost/na",
        correlation_id=attempt.id,
        said_at=attempt.started_at,
        imported=attempt.token,
    ).store(table.database, table.keyring)


def held(table: Table, owner: str = "ann") -> list[str]:
    with table.database.read() as connection:
        return [token for _, token in spares.held(connection, table.keyring, owner)]


def test_one_attempt_at_a_time_and_none_when_it_is_settled(table: Table) -> None:
    attempt = begun(table)
    assert (row(table).fate, 50 < row(table).wait <= 60) == (Fate.SENT, True)
    assert begin(table) is None
    move(table, attempt)
    assert (row(table).fate, row(table).owner, row(table).wait) == (Fate.IMPORTED, "ann", 0)
    assert begin(table) is None
    assert table.current() == f"refresh-of-{attempt.id}"
    assert table.kinds() == ["connected"]


def test_of_many_at_once_one_may(table: Table) -> None:
    gate = threading.Barrier(8)
    found: list[Begun | None] = []

    def go() -> None:
        gate.wait(20)
        found.append(begin(table))

    threads = [threading.Thread(target=go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len([each for each in found if each is not None]) == 1


def test_an_attempt_that_never_ended_is_made_again_after_its_deadline(table: Table) -> None:
    first = begun(table)
    with table.database.write() as connection:
        connection.execute(update(imports.imports).values(attempt_deadline=now(-1)))
    second = begun(table)
    assert second.id != first.id
    # The first one was only slow: both answers are kept, whichever comes first.
    move(table, second)
    move(table, first)
    assert table.current() == f"refresh-of-{second.id}"
    assert held(table) == [f"refresh-of-{first.id}"]
    assert row(table).fate is Fate.IMPORTED


def test_the_same_answer_twice_changes_nothing(table: Table) -> None:
    attempt = begun(table)
    move(table, attempt)
    move(table, attempt)
    assert table.read().generation == 0
    assert held(table) == []
    table.connect("bob")
    other = begun(table, "other")
    move(table, other, "bob")
    move(table, other, "bob")
    assert held(table, "bob") == [f"refresh-of-{other.id}"]


def test_a_live_grant_keeps_its_place(table: Table) -> None:
    table.connect()
    before = table.read()
    attempt = begun(table)
    move(table, attempt)
    assert row(table).fate is Fate.BESIDE
    assert table.read().generation == before.generation
    assert table.read().consent_id == before.consent_id
    assert table.current() == "refresh-0"
    # When Tesla takes the one that is held no more, the imported one is tried.
    assert table.spares(table.attempt(), "refresh-0") == [f"refresh-of-{attempt.id}"]


def test_a_grant_that_needs_consent_is_alive_by_it(table: Table) -> None:
    table.connect()
    attempt = table.attempt()
    with table.database.write() as connection:
        assert attempts.end_consent(
            connection, table.keyring, attempt, reason="login_required", detail="", tried=["refresh-0"]
        )
    moved = begun(table)
    move(table, moved)
    assert row(table).fate is Fate.IMPORTED
    assert table.read().state == State.ALIVE


@pytest.mark.parametrize("act", ["disconnect", "disconnect before", "erase"])
def test_the_owners_word_wins(table: Table, act: str) -> None:
    table.connect()
    if act == "disconnect before":
        consent.disconnect(table.database, "ann", correlation_id="c")
    attempt = begun(table)
    if act == "disconnect":
        consent.disconnect(table.database, "ann", correlation_id="c")
    if act == "erase":
        consent.erase(table.database, "ann")
    move(table, attempt)
    assert row(table).fate is Fate.DROPPED
    assert held(table) == []
    if act == "erase":
        with table.database.read() as connection:
            assert connection.execute(select(grants.c.owner)).all() == []
    else:
        assert table.read().state == State.DISCONNECTED


def test_who_is_erased_is_not_named_by_what_was_moved(table: Table) -> None:
    move(table, begun(table))
    consent.erase(table.database, "ann")
    assert (row(table).fate, row(table).owner) == (Fate.IMPORTED, None)


def test_what_is_put_back_may_be_tried_and_what_is_dead_never(table: Table) -> None:
    attempt = begun(table)
    with table.database.write() as connection:
        imports.put_back(connection, attempt, reason="unreachable", detail="no")
    assert (row(table).fate, row(table).reason) == (Fate.WAITING, "unreachable")
    again = begun(table)
    with table.database.write() as connection:
        imports.put_back(connection, attempt, reason="late", detail="an older attempt's")
        imports.give_up(connection, again, reason="login_required", detail="Tesla says no")
        imports.put_back(connection, again, reason="late", detail="again")
    assert (row(table).fate, row(table).reason) == (Fate.DEAD, "login_required")
    assert begin(table) is None


def test_a_newer_token_takes_its_place_and_is_not_in_the_clear(table: Table) -> None:
    attempt = begun(table)
    assert attempt.newer(table.keyring) is None
    with table.database.write() as connection:
        imports.keep_newer(
            connection, table.keyring, attempt, "a-newer-refresh-token", reason="no_owner", detail=""
        )
        stored = connection.execute(select(imports.imports.c.newer)).scalar_one()
    assert b"newer" not in stored
    again = begun(table)
    assert again.newer(table.keyring) == "a-newer-refresh-token"
    assert "newer-refresh" not in repr(again)
    move(table, again)
    with table.database.read() as connection:
        assert connection.execute(select(imports.imports.c.newer)).scalar_one() is None


def test_what_no_file_can_hold_alive_is_forgotten(table: Table) -> None:
    move(table, begun(table))
    begun(table, "other")
    with table.database.write() as connection:
        imports.purge(connection)
        old = imports.imports.c.token == TOKEN
        connection.execute(update(imports.imports).where(old).values(at=now(-spares.LIFE - 1)))
        imports.purge(connection)
        assert connection.execute(select(imports.imports.c.token)).scalars().all() == ["other"]
