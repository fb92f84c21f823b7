"""A paused grant is left alone by everybody, until it is resumed or the owner acts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from models import attempts, consent, pausing
from models.answers import Settled
from models.events import latest

if TYPE_CHECKING:
    from tests.models.conftest import Table


def pause(table: Table) -> bool:
    return pausing.pause(table.database, "ann", correlation_id="c-1")


def resume(table: Table, share: float = 0.75) -> bool:
    return pausing.resume(table.database, "ann", due_after=lambda life: life * share, correlation_id="c-2")


def test_it_is_neither_claimed_nor_attempted(table: Table) -> None:
    table.connect()
    assert pause(table)
    assert not pause(table)
    assert table.claim() == []
    assert table.begin() is None
    assert table.begin(stale=9) is None
    assert table.read().paused_at is not None
    with table.database.read() as connection:
        said = latest(connection, "ann", 1)[0]
    assert (said.kind, said.correlation_id) == ("paused", "c-1")


def test_resumed_it_falls_due_by_the_life_of_its_token(table: Table) -> None:
    table.connect(expires_in=100, due_in=50)
    pause(table)
    assert resume(table)
    assert not resume(table)
    grant = table.read()
    assert grant.paused_at is None
    assert grant.refresh_at is not None
    assert 74 <= (grant.refresh_at - grant.refreshed_at).total_seconds() <= 76
    assert table.claim() == []
    pause(table)
    resume(table, share=0)
    assert table.claim() == ["ann"]
    assert table.kinds() == ["connected", "paused", "resumed", "paused", "resumed"]


def test_an_answer_in_flight_is_stored_and_the_pause_holds(table: Table) -> None:
    table.connect()
    attempt = table.attempt()
    pause(table)
    assert table.settle(table.answer(attempt, "refresh-1")) is Settled.STORED
    assert table.current() == "refresh-1"
    grant = table.read()
    assert (grant.generation, grant.refresh_at) == (1, None)
    assert grant.paused_at is not None
    assert table.begin(stale=1) is None


def test_so_is_half_an_answer(table: Table) -> None:
    table.connect()
    attempt = table.attempt()
    pause(table)
    table.settle(table.answer(attempt, "refresh-1", access_token=None))
    assert table.current() == "refresh-1"
    assert table.read().refresh_at is None


def test_no_spare_is_tried_while_it_is_paused(table: Table) -> None:
    table.connect()
    attempt = table.attempt()
    pause(table)
    assert table.begin(instead_of=attempt) is None


def test_a_spare_that_revives_it_leaves_it_paused(table: Table) -> None:
    table.connect()
    late = table.attempt(seconds=0)
    dead = table.attempt()
    pause(table)
    with table.database.write() as connection:
        assert attempts.end_consent(
            connection, table.keyring, dead, reason="login_required", detail="", tried=["refresh-0"]
        )
    assert table.settle(table.answer(late, "refresh-1")) in {Settled.SPARE, Settled.STORED}
    grant = table.read()
    assert (grant.state, grant.refresh_at) == ("alive", None)
    assert table.begin(stale=9) is None


def test_who_is_not_alive_is_not_paused(table: Table) -> None:
    assert not pause(table)
    table.connect()
    consent.disconnect(table.database, "ann", correlation_id="c")
    assert not pause(table)


@pytest.mark.parametrize("word", ["sign in", "disconnect"])
def test_the_owners_word_ends_it(table: Table, word: str) -> None:
    table.connect()
    pause(table)
    if word == "sign in":
        table.connect()
        assert table.claim() == ["ann"]
        assert table.kinds()[-2:] == ["connected", "resumed"]
    else:
        consent.disconnect(table.database, "ann", correlation_id="c")
    assert table.read().paused_at is None


def test_a_refresh_says_how_late_it_was(table: Table) -> None:
    table.connect(due_in=-100)
    table.settle(table.answer(table.attempt(), "refresh-1"))
    table.settle(table.answer(table.attempt(stale=1), "refresh-2"))  # somebody wanted it early
    with table.database.read() as connection:
        early, late, _ = latest(connection, "ann", 3)
    assert early.late is None
    assert late.late is not None
    assert 100 <= late.late <= 103
