"""The refresh protocol, promise by promise, against a sandbox that judges."""

from __future__ import annotations

import dataclasses
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.exc import SQLAlchemyError

from models import consent, pausing
from tests.workers.conftest import done
from workers.refresh import Outcome, Result
from workers.steps import Step

if TYPE_CHECKING:
    from concurrent.futures import Future

    from tests.workers.conftest import Steps, World

DEAD_REDIS: dict[str, Any] = {"redis_url": "redis://127.0.0.1:1/0"}


def refresh(world: World, owner: str, **how: Any) -> Outcome:
    return world.parts.refresher.refresh(owner, **how)


# --- one refresh --------------------------------------------------------------------------------------


def test_a_due_grant_is_refreshed_and_both_sides_agree(world: World) -> None:
    owner = world.owner()
    assert refresh(world, owner).result is Result.REFRESHED
    grant = world.grant(owner)
    assert grant.generation == world.seen(owner)["generation"] == 1
    token = grant.access_token(world.parts.keyring)
    assert token
    assert world.tesla.fleet("users/me", token).status_code == 200
    assert grant.refresh_at
    assert grant.refresh_at > grant.read_at
    assert world.kinds(owner) == ["connected", "refreshed"]


def test_it_goes_round_and_round(world: World) -> None:
    owner = world.owner()
    for generation in range(1, 6):
        assert refresh(world, owner, stale=generation - 1).result is Result.REFRESHED
        assert world.grant(owner).generation == generation
    seen = world.seen(owner)
    assert (seen["rotations"], seen["superseded_presented"], seen["reused_in_grace"]) == (5, 0, 0)


def test_a_task_that_comes_twice_or_too_early_calls_nobody(world: World) -> None:
    owner = world.owner()
    refresh(world, owner)
    calls = world.seen(owner)["calls"]
    assert refresh(world, owner).result is Result.FRESH
    assert refresh(world, owner, stale=0).result is Result.FRESH, "it holds an old generation"
    assert world.seen(owner)["calls"] == calls


def test_whom_the_operator_has_paused_nobody_refreshes(world: World) -> None:
    owner = world.owner()
    pausing.pause(world.parts.database, owner, correlation_id="c")
    calls = world.seen(owner)["calls"]
    for how in ({}, {"stale": 0}, {"stale": 0, "wait": 1}):
        assert refresh(world, owner, **how).result is Result.PAUSED
    assert world.seen(owner)["calls"] == calls
    pausing.resume(world.parts.database, owner, due_after=lambda _: 0, correlation_id="c")
    assert refresh(world, owner).result is Result.REFRESHED


def test_who_is_not_connected_is_told_so(world: World) -> None:
    assert refresh(world, "nobody", stale=0, wait=1).result is Result.NOT_CONNECTED
    owner = world.owner()
    consent.disconnect(world.parts.database, owner, correlation_id="c")
    assert refresh(world, owner, stale=0).result is Result.NOT_CONNECTED


# --- promise 2: at most one attempt in flight ----------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, DEAD_REDIS], ids=["with redis", "without redis"])
def test_of_twenty_at_once_one_calls_and_all_get_its_result(world: World, changes: dict[str, Any]) -> None:
    owner = world.owner(due_in=60)
    processes = [world.make(**changes).refresher for _ in range(2)]
    world.tesla.fault("slow", owner=owner, seconds=0.5)
    with ThreadPoolExecutor(20) as pool:
        outcomes = done([pool.submit(processes[n % 2].refresh, owner, stale=0, wait=20) for n in range(20)])
    assert {outcome.grant.generation for outcome in outcomes} == {1}
    results = [outcome.result for outcome in outcomes]
    assert results.count(Result.REFRESHED) == 1
    assert results.count(Result.FRESH) == 19
    seen = world.seen(owner)
    assert (seen["rotations"], seen["overlaps"]) == (1, 0)


@pytest.mark.parametrize("changes", [{}, DEAD_REDIS], ids=["with redis", "without redis"])
def test_who_waits_for_a_failure_gets_the_failure_and_calls_nobody(
    world: World, at_step: Steps, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    owner = world.owner(due_in=60)
    world.tesla.fault("server_error_400", owner=owner)
    calls = world.seen(owner)["calls"]
    others = world.make(**changes).refresher
    waiting = threading.Barrier(7)  # six who wait, and the call

    slept: set[int] = set()

    def first_sleep(seconds: float) -> None:
        if threading.get_ident() not in slept:
            slept.add(threading.get_ident())
            waiting.wait(20)
        time.sleep(seconds)

    monkeypatch.setattr(others, "_sleep", first_sleep)
    with ThreadPoolExecutor(8) as pool:
        rest: list[Future[Outcome]] = []

        def others_come() -> None:
            rest.extend(pool.submit(others.refresh, owner, stale=0, wait=20) for _ in range(6))
            waiting.wait(20)

        at_step.at(Step.CONNECTED, others_come)
        outcomes = done([pool.submit(world.parts.refresher.refresh, owner, stale=0, wait=20)])
        outcomes += done(rest)
    assert {outcome.result for outcome in outcomes} == {Result.WAITING}
    assert world.seen(owner)["calls"] == calls + 1


def test_a_process_that_was_stopped_past_its_deadline_does_not_send(world: World, at_step: Steps) -> None:
    owner = world.owner()
    slow = world.make(attempt_deadline=0.3)
    at_step.at(Step.WRITTEN, lambda: time.sleep(0.4))
    calls = world.seen(owner)["calls"]
    assert slow.refresher.refresh(owner).result is Result.WAITING
    at_step.at(Step.CONNECTED, lambda: time.sleep(0.4))
    world.due(owner)
    assert slow.refresher.refresh(owner, stale=0).result in {Result.WAITING, Result.IN_FLIGHT}
    assert world.seen(owner)["calls"] == calls


def test_a_lock_that_another_holds_spares_the_trip(world: World) -> None:
    owner = world.owner()
    with world.parts.redis.lock(f"evergrant:lock:{owner}", timeout=10):
        assert refresh(world, owner).result is Result.IN_FLIGHT
    assert refresh(world, owner).result is Result.REFRESHED


def test_while_a_call_is_made_the_lock_is_held_for_longer_than_it_may_take(
    world: World, at_step: Steps
) -> None:
    owner = world.owner()
    left: list[float] = []
    at_step.at(Step.CONNECTED, lambda: left.append(world.parts.redis.pttl(f"evergrant:lock:{owner}") / 1000))
    assert refresh(world, owner).result is Result.REFRESHED
    assert left[0] > world.parts.settings.attempt_deadline
    assert not world.parts.redis.exists(f"evergrant:lock:{owner}")


# --- promise 1: no refresh token is lost --------------------------------------------------------------


def table_away(world: World) -> None:
    with world.parts.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE grants RENAME TO away")


def table_back(world: World) -> None:
    with world.parts.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO grants")


@pytest.mark.parametrize("changes", [{}, DEAD_REDIS], ids=["redis and file", "file only"])
def test_an_answer_that_sql_refuses_waits_in_the_escrow(
    world: World, at_step: Steps, changes: dict[str, Any]
) -> None:
    owner = world.owner()
    process = world.make(**changes)
    at_step.at(Step.ANSWERED, lambda: table_away(world))
    assert process.refresher.refresh(owner).result is Result.WAITING
    table_back(world)
    assert world.grant(owner).generation == 0
    process.refresher.drain_all()
    assert world.grant(owner).generation == 1
    assert not list((world.parts.settings.evergrant_home / "escrow").glob("*"))
    assert not world.parts.redis.keys("evergrant:escrow*")
    assert refresh(world, owner, stale=1).result is Result.REFRESHED
    assert world.seen(owner)["reused_in_grace"] == 0


def test_another_machine_takes_the_answer_from_redis_before_it_attempts_anything(
    world: World, at_step: Steps
) -> None:
    owner = world.owner()
    at_step.at(Step.ANSWERED, lambda: table_away(world))
    refresh(world, owner)
    table_back(world)
    elsewhere = world.make(evergrant_home=world.parts.settings.evergrant_home.with_name("elsewhere"))
    assert elsewhere.refresher.refresh(owner, stale=0).result is Result.FRESH
    seen = world.seen(owner)
    assert (seen["rotations"], seen["reused_in_grace"]) == (1, 0)


def test_when_nothing_takes_an_answer_the_process_stays_with_it(world: World, at_step: Steps) -> None:
    owner = world.owner()
    process = world.make(**DEAD_REDIS)
    escrow = world.parts.settings.evergrant_home / "escrow"
    escrow.parent.mkdir(parents=True, exist_ok=True)
    escrow.write_text("not a folder")
    at_step.at(Step.ANSWERED, lambda: table_away(world))
    with ThreadPoolExecutor(1) as pool:
        refreshing = pool.submit(process.refresher.refresh, owner)
        world.tesla.until(world.seen(owner)["name"], lambda seen: seen["rotations"] == 1)
        with pytest.raises(TimeoutError):
            refreshing.result(0.7)
        table_back(world)
        assert refreshing.result(20).result is Result.REFRESHED
    assert world.grant(owner).generation == 1


def test_a_late_answer_is_kept_beside_a_newer_one(world: World, at_step: Steps) -> None:
    owner = world.owner()
    stalled = world.make(attempt_deadline=0.5)

    def another_is_quicker() -> None:
        while (outcome := refresh(world, owner, stale=0, wait=5)).result is not Result.REFRESHED:
            assert outcome.result in {Result.IN_FLIGHT, Result.WAITING}
            world.parts.redis.delete(f"evergrant:lock:{owner}")

    at_step.at(Step.ANSWERED, another_is_quicker)
    assert stalled.refresher.refresh(owner).result in {Result.FRESH, Result.IN_FLIGHT}
    grant = world.grant(owner)
    assert grant.generation == 1
    assert "spare_kept" in world.kinds(owner)
    assert refresh(world, owner, stale=1).result is Result.REFRESHED


def test_after_a_lost_answer_the_same_token_is_tried_again_when_the_deadline_is_over(world: World) -> None:
    owner = world.owner()
    process = world.make(attempt_deadline=1)
    world.tesla.fault("reset", owner=owner, where="after", count=1)
    assert process.refresher.refresh(owner).result is Result.WAITING
    assert world.grant(owner).must_wait, "Tesla may still be at work on it"
    outcome = process.refresher.refresh(owner, stale=0)
    assert outcome.result is Result.WAITING
    deadline = time.monotonic() + 10
    while process.refresher.refresh(owner, stale=0).result is Result.WAITING:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert world.grant(owner).generation == 1
    seen = world.seen(owner)
    assert (seen["reused_in_grace"], seen["superseded_presented"], seen["alive"]) == (1, 0, True)


# --- promise 4: dead only when Tesla said so ----------------------------------------------------------


def test_withdrawn_consent_is_said_once_and_nothing_is_attempted_after(world: World) -> None:
    owner = world.owner()
    world.tesla.http.post(f"{world.tesla.url}/owners/{owner}/withdraw", timeout=10)
    outcome = refresh(world, owner)
    assert outcome.result is Result.NEEDS_CONSENT
    assert outcome.cause
    assert outcome.cause.code == "consent_withdrawn"
    calls = world.seen(owner)["calls"]
    world.due(owner)
    assert refresh(world, owner, stale=99).result is Result.NEEDS_CONSENT
    assert world.seen(owner)["calls"] == calls
    assert world.kinds(owner) == ["connected", "needs_consent"]
    world.connect(owner, world.tesla.sign_in(world.seen(owner)["name"]))
    assert refresh(world, owner).result is Result.REFRESHED


@pytest.mark.parametrize("answer", ["login_required", "invalid_grant"])
def test_a_rejection_is_believed_only_after_the_spares(world: World, answer: str) -> None:
    owner = world.owner()
    refresh(world, owner)
    world.tesla.fault(answer, owner=owner, count=1)
    assert refresh(world, owner, stale=1).result is Result.REFRESHED
    assert world.kinds(owner)[-1] == "spare_used"
    assert world.seen(owner)["alive"]
    assert refresh(world, owner, stale=2).result is Result.REFRESHED


def test_an_access_token_that_has_run_out_is_no_dead_grant(world: World) -> None:
    owner = world.owner()
    tokens = world.tesla.sign_in(world.seen(owner)["name"])
    tokens["expires_in"] = -100
    world.connect(owner, tokens)
    assert refresh(world, owner).result is Result.REFRESHED


# --- failures, sorted ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "where"),
    [
        ("down_503", "before"),
        ("html_503", "after"),
        ("html_200", "after"),
        ("empty", "after"),
        ("truncated_json", "after"),
        ("huge", "after"),
        ("waf_403", "before"),
        ("server_error_400", "before"),
        ("server_error_400", "after"),
        ("reset", "before"),
    ],
)
def test_what_passes_waits_and_goes_on_by_itself(world: World, fault: str, where: str) -> None:
    owner = world.owner()
    process = world.make(attempt_deadline=1)
    world.tesla.fault(fault, owner=owner, where=where, count=1)
    outcome = process.refresher.refresh(owner)
    assert outcome.result is Result.WAITING
    grant = world.grant(owner)
    assert (grant.state, grant.failures) == ("alive", 1)
    assert grant.retry_at
    assert outcome.cause
    assert grant.last_error == outcome.cause.code
    deadline = time.monotonic() + 10
    while process.refresher.refresh(owner, stale=0).result is not Result.REFRESHED:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    grant = world.grant(owner)
    assert (grant.failures, grant.last_error, grant.retry_at) == (0, None, None)


@pytest.mark.parametrize(
    "fault",
    [
        "no_refresh_token",
        "same_refresh_token",
        "no_expires_in",
        "absurd_expires_in",
        "odd_token_type",
        "extra_fields",
    ],
)
def test_odd_answers_that_can_be_used_are_used(world: World, fault: str) -> None:
    owner = world.owner()
    world.tesla.fault(fault, owner=owner, count=1)
    assert refresh(world, owner).result is Result.REFRESHED
    grant = world.grant(owner)
    assert grant.access_expires_at
    assert grant.refresh_at
    assert 0 < (grant.access_expires_at - grant.read_at).total_seconds() < 31 * 86400
    assert grant.refresh_at < grant.access_expires_at
    assert refresh(world, owner, stale=1).result is Result.REFRESHED


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("invalid_client", "invalid_client"),
        ("unauthorized_client", "client_refused"),
        ("invalid_request", "invalid_request"),
    ],
)
def test_when_the_operator_must_act_all_attempts_pause_and_owners_keep_their_state(
    world: World, fault: str, code: str
) -> None:
    owners = [world.owner() for _ in range(3)]
    world.tesla.fault(fault)
    calls = sum(world.seen(owner)["calls"] for owner in owners)
    outcomes = [refresh(world, owner) for owner in owners for _ in range(2)]
    assert {outcome.result for outcome in outcomes} == {Result.OPERATOR_MUST_ACT}
    assert {outcome.cause.code for outcome in outcomes if outcome.cause} == {code}
    assert sum(world.seen(owner)["calls"] for owner in owners) == calls + 1
    for owner in owners:
        grant = world.grant(owner)
        assert (grant.state, grant.failures, grant.generation) == ("alive", 0, 0)
    assert world.last_for_all() == ("operator_must_act", code)
    world.tesla.http.delete(f"{world.tesla.url}/faults", timeout=10)
    world.parts.redis.hset("evergrant:breaker", "until", 0)  # the pause is over
    assert refresh(world, owners[0]).result is Result.REFRESHED
    assert world.last_for_all() == ("goes_on", code)
    assert refresh(world, owners[1]).result is Result.REFRESHED


def test_a_rate_limit_is_obeyed_for_all(world: World) -> None:
    one, other = world.owner(), world.owner()
    world.tesla.fault("rate_limit", owner=one, seconds=30, count=1)
    outcome = refresh(world, one)
    assert outcome.result is Result.WAITING
    assert outcome.cause
    assert outcome.cause.code == "rate_limited"
    outcome = refresh(world, other)
    assert outcome.result is Result.WAITING
    assert outcome.retry_in
    assert 20 < outcome.retry_in <= 30
    assert world.seen(other)["calls"] == 1


def test_a_key_that_is_missing_kills_no_grant(world: World) -> None:
    owner = world.owner()
    other = world.make(encryption_keys="k2:" + "A" * 43 + "=")
    calls = world.seen(owner)["calls"]
    outcome = other.refresher.refresh(owner)
    assert outcome.result is Result.OPERATOR_MUST_ACT
    assert outcome.cause
    assert "ENCRYPTION_KEYS" in outcome.cause.repair
    assert world.seen(owner)["calls"] == calls
    assert refresh(world, owner, stale=0).result is Result.REFRESHED


def test_without_sql_nothing_is_attempted(world: World) -> None:
    owner = world.owner()
    calls = world.seen(owner)["calls"]
    table_away(world)
    with pytest.raises(SQLAlchemyError):
        refresh(world, owner)
    table_back(world)
    assert world.seen(owner)["calls"] == calls
    assert refresh(world, owner).result is Result.REFRESHED


# --- the owner's word ---------------------------------------------------------------------------------


def test_who_signs_in_again_or_erases_while_it_is_in_flight_wins(world: World, at_step: Steps) -> None:
    owner = world.owner()
    name = world.seen(owner)["name"]
    at_step.at(Step.ANSWERED, lambda: world.connect(owner, world.tesla.sign_in(name), due_in=60))
    assert refresh(world, owner).result in {Result.FRESH, Result.IN_FLIGHT}
    assert world.grant(owner).generation == 1
    assert world.kinds(owner).count("connected") == 2
    at_step.at(Step.ANSWERED, lambda: consent.erase(world.parts.database, owner))
    assert refresh(world, owner, stale=1).result is Result.NOT_CONNECTED
    assert world.kinds(owner) == []


def test_an_attempt_is_overtaken_by_another_consent_of_the_same_generation(
    world: World, at_step: Steps
) -> None:
    owner = world.owner()
    name = world.seen(owner)["name"]
    process = world.make(attempt_deadline=0.5)
    at_step.at(Step.ANSWERED, lambda: table_away(world))
    process.refresher.refresh(owner)
    table_back(world)

    def erased_and_signed_in_again() -> None:
        consent.erase(world.parts.database, owner)
        world.connect(owner, world.tesla.sign_in(name), due_in=60)

    at_step.at(Step.WRITTEN, erased_and_signed_in_again)
    at_step.reached.clear()
    deadline = time.monotonic() + 10
    while world.grant(owner).must_wait:  # till then a refresh would only empty the escrow
        assert time.monotonic() < deadline
        time.sleep(0.05)
    outcome = process.refresher.refresh(owner)
    assert Step.WRITTEN in at_step.reached
    assert outcome.result is Result.FRESH
    assert Step.CONNECTED not in at_step.reached, "the erased consent's token is presented to nobody"
    assert world.grant(owner).generation == 0


def test_an_answer_to_an_erased_grant_is_nothing_to_the_next(world: World, at_step: Steps) -> None:
    owner = world.owner()
    name = world.seen(owner)["name"]
    refresh(world, owner)
    at_step.at(Step.ANSWERED, lambda: table_away(world))
    assert refresh(world, owner, stale=1).result is Result.WAITING
    table_back(world)
    consent.erase(world.parts.database, owner)
    world.connect(owner, world.tesla.sign_in(name))
    # The other grant counts anew: the answer in the escrow bears the numbers of what comes next.
    assert refresh(world, owner).result is Result.REFRESHED
    calls = world.seen(owner)["calls"]
    world.parts.refresher.drain_all()
    assert not world.parts.redis.keys("evergrant:escrow*")
    assert world.kinds(owner) == ["connected", "refreshed"]
    assert refresh(world, owner).result is Result.FRESH
    assert world.seen(owner)["calls"] == calls
    assert refresh(world, owner, stale=1).result is Result.REFRESHED
    seen = world.seen(owner)
    assert (seen["reused_in_grace"], seen["superseded_presented"]) == (0, 0)
    assert world.grant(owner).generation == 2
    assert seen["generation"] == 5, "two sign-ins and four rotations"


# --- sign-ins ----------------------------------------------------------------------------------------


def test_what_a_sign_in_brought_is_taken_by_another_machine(world: World) -> None:
    owner = world.owner(due_in=60)
    said = world.said(owner)
    table_away(world)
    assert not world.parts.refresher.keep_signin(said, patience=0.1)
    table_back(world)
    elsewhere = world.make(evergrant_home=world.parts.settings.evergrant_home.with_name("elsewhere"))
    elsewhere.refresher.drain_all()
    assert world.grant(owner).consent_id == said.correlation_id
    assert elsewhere.refresher.refresh(owner, stale=1).result is Result.REFRESHED
    world.parts.refresher.drain_all()
    assert world.kinds(owner) == ["connected", "connected", "refreshed"]
    assert not list((world.parts.settings.evergrant_home / "escrow").glob("*"))


def test_of_sign_ins_that_waited_the_last_wins(world: World) -> None:
    owner = world.owner(due_in=60)
    said = [world.said(owner) for _ in range(3)]
    table_away(world)
    for each in (said[1], said[2], said[0]):
        assert not world.parts.refresher.keep_signin(each, patience=0)
    table_back(world)
    world.parts.refresher.drain_all()
    grant = world.grant(owner)
    assert grant.consent_id == said[2].correlation_id
    assert refresh(world, owner, stale=grant.generation).result is Result.REFRESHED


def test_what_sql_will_never_take_holds_up_nothing_else(world: World) -> None:
    owner = world.owner(due_in=60)
    said = world.said(owner)
    odd: Any = {"scopes": None}
    table_away(world)
    for number in range(20):
        odder = dataclasses.replace(said, owner=f"odd {number}", **odd)
        assert not world.parts.refresher.keep_signin(odder, patience=0)
    assert not world.parts.refresher.keep_signin(said, patience=0)
    table_back(world)
    world.parts.refresher.drain_all()
    assert world.grant(owner).consent_id == said.correlation_id


# --- the order of things ------------------------------------------------------------------------------


def test_the_steps_come_in_their_order(world: World, at_step: Steps) -> None:
    refresh(world, world.owner())
    assert at_step.reached == [
        Step.LOCKED,
        Step.ADMITTED,
        Step.WRITTEN,
        Step.DRAINED,
        Step.CONNECTED,
        Step.ANSWERED,
        Step.SETTLED,
        Step.UNLOCKED,
    ]


def test_the_attempt_is_committed_before_anything_is_sent(world: World, at_step: Steps) -> None:
    owner = world.owner()
    seen: list[bool] = []
    at_step.at(Step.CONNECTED, lambda: seen.append(world.grant(owner).in_flight))
    refresh(world, owner)
    assert seen == [True]


def test_what_only_redis_took_goes_to_the_disk_as_soon_as_there_is_room(
    world: World, at_step: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = world.owner()
    escrow = world.parts.settings.evergrant_home / "escrow"
    escrow.parent.mkdir(parents=True, exist_ok=True)
    escrow.write_text("not a folder")
    monkeypatch.setattr("workers.refresh.SLOW", 0)
    at_step.at(Step.ANSWERED, lambda: table_away(world))
    refresh(world, owner)
    escrow.unlink()
    with pytest.raises(SQLAlchemyError):
        world.parts.refresher.drain_all()
    world.parts.redis.flushall()
    table_back(world)
    world.parts.refresher.drain_all()
    assert world.grant(owner).generation == 1
