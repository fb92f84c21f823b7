"""The gate: a rate for all, a breaker for when Tesla fails for everybody, and one probe that closes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis import Redis

from workers.breaker import FIRST_PAUSE, LONGEST_PAUSE, OWNERS_FAILING, Breaker, Gate

if TYPE_CHECKING:
    from redis import Redis as Connection

WAIT = "tesla_failed"


@pytest.fixture
def breaker(redis: Connection) -> Breaker:
    return Breaker(redis, rate=1000, probe_life=30)


def fail(breaker: Breaker, *owners: str) -> list[bool]:
    return [breaker.failed(owner, WAIT, everybody=False) for owner in owners]


def pause_is_over(redis: Connection) -> None:
    redis.hset("evergrant:breaker", "until", 0)


def test_one_owner_who_fails_is_not_everybody(breaker: Breaker) -> None:
    assert not any(fail(breaker, *["ann"] * 20))
    admission = breaker.admit(0)
    assert admission.may_go
    assert admission.troubled, "a success will be told"


def test_it_opens_once_when_several_owners_fail_with_no_success_between(breaker: Breaker) -> None:
    owners = [f"owner-{number}" for number in range(OWNERS_FAILING)]
    assert fail(breaker, *owners) == [False] * (OWNERS_FAILING - 1) + [True]
    assert not any(fail(breaker, *owners))
    admission = breaker.admit(10)
    assert (admission.gate, admission.cause) == (Gate.OPEN, WAIT)
    assert 0 < admission.seconds <= FIRST_PAUSE


def test_a_success_between_starts_the_count_anew(breaker: Breaker) -> None:
    fail(breaker, "ann", "bob")
    assert not breaker.succeeded()
    fail(breaker, "cid", "dan")
    assert breaker.admit(0).may_go


def test_one_probe_goes_and_closes_it(breaker: Breaker, redis: Connection) -> None:
    fail(breaker, "ann", "bob", "cid")
    pause_is_over(redis)
    assert breaker.look().state == "half_open"
    assert breaker.admit(0).gate is Gate.PROBE
    assert breaker.admit(0).gate is Gate.OPEN, "one is enough"
    assert breaker.succeeded()
    assert not breaker.succeeded()
    assert breaker.look().state == "closed"
    assert breaker.admit(1).gate is Gate.GO


def test_a_probe_that_fails_opens_it_for_longer(breaker: Breaker, redis: Connection) -> None:
    fail(breaker, "ann", "bob", "cid")
    pauses = []
    for _ in range(8):
        pause_is_over(redis)
        assert breaker.admit(0).gate is Gate.PROBE
        fail(breaker, "ann")
        pauses.append(breaker.admit(0).seconds)
    assert pauses[-1] > 2 * FIRST_PAUSE
    assert max(pauses) <= LONGEST_PAUSE


def test_a_probe_that_was_not_used_is_given_back(breaker: Breaker, redis: Connection) -> None:
    fail(breaker, "ann", "bob", "cid")
    pause_is_over(redis)
    probe = breaker.admit(0)
    breaker.give_back(breaker.admit(0))
    assert breaker.admit(0).gate is Gate.OPEN, "who had none gives none back"
    breaker.give_back(probe)
    assert breaker.admit(0).gate is Gate.PROBE


def test_a_probe_that_vanished_is_replaced(redis: Connection) -> None:
    breaker = Breaker(redis, rate=1000, probe_life=0.05)
    fail(breaker, "ann", "bob", "cid")
    pause_is_over(redis)
    assert breaker.admit(0).gate is Gate.PROBE
    while (admission := breaker.admit(0)).gate is not Gate.PROBE:
        assert admission.gate is Gate.OPEN


def test_what_concerns_everybody_opens_it_at_once_for_as_long_as_told(breaker: Breaker) -> None:
    assert breaker.failed("ann", "rate_limited", everybody=True, pause=100)
    assert 99 < breaker.admit(0).seconds <= 100
    fail(breaker, "bob")
    assert not breaker.failed("bob", "rate_limited", everybody=True, pause=1)
    assert breaker.admit(0).seconds > 99, "a shorter one does not shorten it"


def test_the_rate_is_kept_by_all_together(redis: Connection) -> None:
    breakers = [Breaker(redis, rate=10, probe_life=1) for _ in range(3)]
    turns = [breakers[number % 3].admit(10).seconds for number in range(9)]
    assert turns == sorted(turns)
    assert 0.8 <= turns[-1] <= 0.95, "nine turns, a little more than a tenth of a second apart"
    full = breakers[0].admit(0.5)
    assert full.gate is Gate.FULL
    assert not full.may_go
    assert breakers[0].admit(2).may_go, "who is turned away takes no turn"


def test_without_redis_the_gate_is_open() -> None:
    breaker = Breaker(Redis.from_url("redis://127.0.0.1:1/0"), rate=1, probe_life=1)
    assert breaker.admit(0).gate is Gate.GO
    assert not breaker.failed("ann", WAIT, everybody=True)
    assert not breaker.succeeded()
    assert breaker.look().state == "closed"
