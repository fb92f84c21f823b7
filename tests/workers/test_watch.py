"""What is up and stuck is seen, and ends so that it is started anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis

from models import pulses
from models.session import now
from workers.watch import Pulse, Watchdog, silence, stall

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis as Connection

    from tests.workers.conftest import World
    from workers.parts import Parts


def said(parts: Parts) -> str:
    return stall(parts.database, parts.breaker, parts.settings)


def age(parts: Parts, name: str, seconds: float) -> None:
    """Makes a sign of life that old."""
    pulses.beat(parts.database, name)
    with parts.database.write() as connection:
        connection.execute(
            pulses.pulses.update().where(pulses.pulses.c.name == name).values(at=now(-seconds))
        )


def test_refreshes_stall_when_nobody_sweeps(make: Callable[..., Parts]) -> None:
    parts = make()
    assert "no beat" in said(parts)
    pulses.beat(parts.database, "beat")
    assert "no sweep" in said(parts)
    pulses.beat(parts.database, "sweep")
    assert said(parts) == ""
    age(parts, "sweep", silence(parts.settings) + 1)
    assert "no sweep" in said(parts)


def test_refreshes_stall_when_grants_are_due_and_none_ends(world: World) -> None:
    parts = world.parts
    late = silence(parts.settings) + 5
    pulses.beat(parts.database, "beat")
    pulses.beat(parts.database, "sweep")
    world.owner(due_in=-1)
    assert said(parts) == "", "it has only just fallen due"
    owner = world.owner(due_in=-late)
    assert "no refresh has ended" in said(parts)
    parts.breaker.failed(owner, "invalid_client", everybody=True)
    assert said(parts) == "", "they pause on purpose"
    parts.breaker.succeeded()
    pulses.beat(parts.database, "refresh")
    assert said(parts) == "", "there is much to do, and it is done"


class Clockwork:
    """`time.monotonic`, turned by hand."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clockwork:
    clock = Clockwork()
    monkeypatch.setattr("workers.watch.time", clock)
    return clock


def test_a_process_that_nothing_comes_through_to_ends(redis: Connection, clock: Clockwork) -> None:
    ended: list[Any] = []
    dog = Watchdog(redis, seconds=60, end=lambda: ended.append(1))
    clock.now = 59
    dog.look()
    dog.seen()
    clock.now = 118
    dog.look()
    assert not ended
    clock.now = 120
    dog.look()
    assert ended


def test_silence_while_redis_is_away_is_no_reason_to_end(clock: Clockwork) -> None:
    ended: list[Any] = []
    dog = Watchdog(Redis.from_url("redis://127.0.0.1:1/0"), seconds=60, end=lambda: ended.append(1))
    clock.now = 1000
    dog.look()
    assert not ended


def test_a_pulse_is_given_often_and_written_seldom(make: Callable[..., Parts], clock: Clockwork) -> None:
    parts = make()
    clock.now = 100
    pulse = Pulse(parts.database, "refresh")
    pulse.give()
    assert pulses.beaten_within(parts.database, "refresh", 60)
    pulses.forget(parts.database, -1)
    pulse.give()
    assert not pulses.beaten_within(parts.database, "refresh", 60)
    clock.now = 200
    pulse.give()
    assert pulses.beaten_within(parts.database, "refresh", 60)
