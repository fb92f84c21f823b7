"""An attempt is written down before it is made, and no other begins beside it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from models import attempts, consent

if TYPE_CHECKING:
    from tests.models.conftest import Table


def test_only_one_of_many_at_once_begins(table: Table) -> None:
    table.connect()
    barrier = threading.Barrier(12)
    begun = []

    def race() -> None:
        barrier.wait()
        begun.append(table.begin())

    threads = [threading.Thread(target=race) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([attempt for attempt in begun if attempt]) == 1


def test_while_one_is_in_flight_none_begins_whatever_the_caller_wants(table: Table) -> None:
    table.connect()
    table.attempt()
    assert table.begin() is None
    assert table.begin(stale=0) is None
    assert table.begin(stale=99) is None


def test_after_its_deadline_the_next_presents_the_same_token_under_a_higher_number(table: Table) -> None:
    table.connect()
    first = table.attempt(seconds=-1)
    second = table.attempt()
    assert second.number == first.number + 1
    assert second.id != first.id
    assert second.refresh_token(table.keyring) == first.refresh_token(table.keyring) == "refresh-0"


def test_a_grant_that_is_not_due_is_refreshed_only_for_who_holds_its_generation(table: Table) -> None:
    generation = table.connect(due_in=60)
    assert table.begin() is None
    assert table.begin(stale=generation - 1) is None, "it has a newer one already"
    assert table.begin(stale=generation) is not None


def test_after_a_failure_the_sweeps_tasks_wait_and_who_asks_does_not(table: Table) -> None:
    table.connect()
    attempt = table.attempt()
    with table.database.write() as connection:
        assert attempts.end(
            connection, attempt, error="tesla_failed", detail="503", retry_in=60, outcome_unknown=False
        )
    assert table.read().failures == 1
    assert table.begin() is None
    assert table.begin(stale=0) is not None
    assert table.kinds() == ["connected", "waiting"]


def test_an_attempt_of_unknown_outcome_keeps_its_place_until_its_deadline(table: Table) -> None:
    table.connect()
    attempt = table.attempt()
    with table.database.write() as connection:
        attempts.end(connection, attempt, error="x", detail="", retry_in=0, outcome_unknown=True)
    grant = table.read()
    assert grant.must_wait
    assert not grant.in_flight
    assert table.begin(stale=0) is None


def test_who_has_lost_its_place_ends_nothing(table: Table) -> None:
    table.connect()
    first = table.attempt(seconds=-1)
    table.attempt()
    with table.database.write() as connection:
        assert not attempts.end(connection, first, error="x", detail="", retry_in=0, outcome_unknown=False)
        attempts.give_up(connection, first)
    assert table.read().in_flight
    assert table.read().failures == 0


def test_an_attempt_that_was_never_made_leaves_no_trace(table: Table) -> None:
    table.connect()
    attempt = table.attempt()
    with table.database.write() as connection:
        attempts.give_up(connection, attempt)
    assert table.read().failures == 0
    assert table.begin() is not None


def test_the_next_attempt_with_a_spare_takes_the_place_of_the_one_that_ended(table: Table) -> None:
    table.connect()
    first = table.attempt()
    second = table.attempt(instead_of=first)
    assert table.read().attempt_id == second.id
    assert table.begin(instead_of=first) is None, "it has no place any more"


def test_consent_ends_only_when_nothing_held_is_untried(table: Table) -> None:
    table.connect()
    table.settle(table.answer(table.attempt(), "refresh-1"))
    attempt = table.attempt(stale=1)

    def end(*tried: str) -> bool:
        with table.database.write() as connection:
            return attempts.end_consent(
                connection, table.keyring, attempt, reason="login_required", detail="", tried=tried
            )

    assert not end("refresh-1"), "the previous one may still be alive"
    assert table.read().state == "alive"
    assert end("refresh-1", "refresh-0")
    grant = table.read()
    assert (grant.state, grant.reason, grant.refresh_at) == ("needs_consent", "login_required", None)
    assert table.begin(stale=99) is None
    assert table.kinds()[-1] == "needs_consent"


def test_who_has_lost_its_place_ends_no_consent(table: Table) -> None:
    table.connect()
    attempt = table.attempt()
    table.connect(refresh_token="refresh-new")
    with table.database.write() as connection:
        assert not attempts.end_consent(
            connection, table.keyring, attempt, reason="x", detail="", tried=["refresh-0"]
        )
    assert table.read().state == "alive"


def test_nothing_begins_without_a_grant(table: Table) -> None:
    assert table.begin(stale=99) is None
    table.connect()
    consent.disconnect(table.database, "ann", correlation_id="c")
    assert table.begin(stale=99) is None
