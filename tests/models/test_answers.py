"""The answer to the latest attempt is current, any other is a spare, whenever and by whomever it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event

from models import attempts, consent
from models.answers import Answer, Settled

if TYPE_CHECKING:
    from tests.models.conftest import Table


def test_an_answer_is_the_next_generation(table: Table) -> None:
    table.connect()
    attempt = table.attempt()
    assert table.settle(table.answer(attempt, "refresh-1", scopes="openid vehicle_cmds")) is Settled.STORED
    grant = table.read()
    assert grant.generation == 1
    assert grant.access_token(table.keyring) == "access-of-refresh-1"
    assert grant.scopes == "openid vehicle_cmds"
    assert not grant.must_wait
    assert grant.access_expires_at is not None
    assert grant.refresh_at is not None
    assert (grant.access_expires_at - attempt.started_at).total_seconds() == 60
    assert (grant.refresh_at - attempt.started_at).total_seconds() == 45
    assert table.current() == "refresh-1"
    assert table.kinds() == ["connected", "refreshed"]


def test_storing_an_answer_is_one_trip_to_postgresql(table: Table) -> None:
    table.connect()
    answer = table.answer(table.attempt(), "refresh-1")
    said: list[str] = []
    event.listen(table.database.engine, "before_cursor_execute", lambda *given: said.append(given[2]))
    assert table.settle(answer) is Settled.STORED
    # SQLite has no trips, and no statement that changes two tables: BEGIN, UPDATE, INSERT.
    assert len(said) == (1 if table.database.changes_join else 3), said
    assert table.kinds() == ["connected", "refreshed"]


def test_settling_twice_changes_nothing(table: Table) -> None:
    table.connect()
    answer = table.answer(table.attempt(), "refresh-1")
    table.settle(answer)
    again = Answer.from_json(answer.to_json())
    assert again == answer
    assert table.settle(again) is Settled.STORED
    assert table.read().generation == 1
    assert table.kinds() == ["connected", "refreshed"]


def test_the_previous_refresh_token_is_kept_beside_the_new_one(table: Table) -> None:
    table.connect()
    table.settle(table.answer(table.attempt(), "refresh-1"))
    assert table.spares(table.attempt(stale=1), "refresh-1") == ["refresh-0"]


@pytest.mark.parametrize("given", [None, "refresh-0"])
def test_without_a_new_refresh_token_the_presented_one_stays(table: Table, given: str | None) -> None:
    table.connect()
    table.settle(table.answer(table.attempt(), given))
    assert table.current() == "refresh-0"
    assert table.read().generation == 1
    assert table.spares(table.attempt(stale=1), "refresh-0") == []


def test_a_late_answer_does_not_overwrite_a_newer_generation_and_becomes_a_spare(table: Table) -> None:
    table.connect()
    stalled = table.attempt(seconds=-1)
    table.settle(table.answer(table.attempt(), "refresh-of-the-second"))
    assert table.settle(table.answer(stalled, "refresh-of-the-first")) is Settled.SPARE
    assert table.read().generation == 1
    assert table.current() == "refresh-of-the-second"
    assert table.spares(table.attempt(stale=1)) == ["refresh-of-the-first", "refresh-0"]
    assert table.settle(table.answer(stalled, "refresh-of-the-first")) is Settled.SPARE
    assert table.kinds().count("spare_kept") == 1


def test_a_late_answer_that_nothing_newer_has_replaced_is_stored(table: Table) -> None:
    table.connect()
    stalled = table.attempt(seconds=-1)
    second = table.attempt()
    assert table.settle(table.answer(stalled, "refresh-of-the-first")) is Settled.STORED
    assert table.current() == "refresh-of-the-first"
    assert table.read().attempt_id == second.id, "the second is in flight and keeps its place"
    assert table.begin(stale=99) is None
    assert table.settle(table.answer(second, "refresh-of-the-second")) is Settled.STORED
    assert table.current() == "refresh-of-the-second"
    assert table.read().generation == 2
    assert "refresh-of-the-first" in table.spares(table.attempt(stale=2))


def test_spares_are_tried_newest_first(table: Table) -> None:
    table.connect()
    first, second = table.attempt(seconds=-1), table.attempt(seconds=-1)
    table.settle(table.answer(table.attempt(), "of-third"))
    table.settle(table.answer(first, "of-first"))
    table.settle(table.answer(second, "of-second"))
    spares = table.spares(table.attempt(stale=1))
    assert spares.index("of-second") < spares.index("of-first")


def test_a_spare_is_tried_before_the_token_that_it_was_got_with(table: Table) -> None:
    table.connect()
    stalled = table.attempt(seconds=-1)
    table.settle(table.answer(table.attempt(), "current"))
    table.settle(table.answer(stalled, "spare"))
    assert table.spares(table.attempt(stale=1), "current") == ["spare", "refresh-0"]


def test_a_spare_that_works_ends_the_others(table: Table) -> None:
    table.connect()
    stalled = table.attempt(seconds=-1)
    table.settle(table.answer(table.attempt(), "current"))
    table.settle(table.answer(stalled, "spare"))
    following = table.attempt(instead_of=table.attempt(stale=1), stale=1)
    table.settle(table.answer(following, "from-spare", presented="spare", from_spare=True))
    assert table.current() == "from-spare"
    assert table.spares(table.attempt(stale=2)) == ["spare"], "it is the previous one now"
    assert table.kinds()[-1] == "spare_used"


def test_an_answer_that_broke_off_behind_its_refresh_token_keeps_the_access_token(table: Table) -> None:
    table.connect()
    table.settle(table.answer(table.attempt(), "refresh-1", access_token=None, expires_in=0))
    grant = table.read()
    assert grant.generation == 1
    assert grant.access_token(table.keyring) == "access-0"
    assert table.current() == "refresh-1"
    assert table.begin() is not None, "it is due at once"


def test_who_signed_in_again_is_not_overwritten(table: Table) -> None:
    table.connect()
    attempt = table.attempt()
    assert table.connect(refresh_token="signed-in-again", due_in=60) == 1
    assert table.begin(stale=99) is None, "the older attempt may still be in flight"
    assert table.settle(table.answer(attempt, "refresh-1")) is Settled.DROPPED
    assert table.current() == "signed-in-again"
    assert table.begin(stale=1) is not None, "it has ended now"


def test_who_disconnected_or_erased_is_not_brought_back(table: Table) -> None:
    table.connect()
    attempt = table.attempt()
    assert consent.disconnect(table.database, "ann", correlation_id="c1")
    assert table.settle(table.answer(attempt, "refresh-1")) is Settled.DROPPED
    grant = table.read()
    assert (grant.state, grant.sealed_access_token) == ("disconnected", None)
    assert consent.erase(table.database, "ann")
    assert table.settle(table.answer(attempt, "refresh-1")) is Settled.DROPPED
    table.connect(refresh_token="anew")
    assert table.settle(table.answer(attempt, "refresh-1")) is Settled.DROPPED
    assert table.current() == "anew"


def test_a_refresh_token_that_turns_up_revives_a_grant_that_was_given_up(table: Table) -> None:
    table.connect()
    stalled = table.attempt(seconds=-1)
    table.settle(table.answer(table.attempt(), "current"))
    last = table.attempt(stale=1)
    with table.database.write() as connection:
        assert attempts.end_consent(
            connection,
            table.keyring,
            last,
            reason="login_required",
            detail="",
            tried=["current", "refresh-0"],
        )
    assert table.settle(table.answer(stalled, "late")) is Settled.SPARE
    assert table.read().state == "alive"
    assert table.spares(table.attempt()) == ["late"]


def test_erasing_leaves_nothing(table: Table) -> None:
    table.connect()
    stalled = table.attempt(seconds=-1)
    table.settle(table.answer(table.attempt(), "current"))
    table.settle(table.answer(stalled, "late"))
    assert consent.erase(table.database, "ann")
    assert not consent.erase(table.database, "ann")
    with table.database.read() as connection:
        for name in ("grants", "spares", "events"):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar() == 0  # noqa: S608
