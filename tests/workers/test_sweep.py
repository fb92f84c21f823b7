"""The sweep claims what is due, no more than the lanes take, and forgets nothing that a broker lost."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import RedisError

from models import consent, grants, pulses
from models.events import latest
from models.session import now
from workers.breaker import FIRST_PAUSE
from workers.lanes import lane
from workers.sweep import is_superfluous, sweep

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.workers.conftest import World
    from workers.parts import Parts


def connect(parts: Parts, owner: str, *, due_in: float = -1, expires_in: float = 60) -> None:
    consent.connect(
        parts.database,
        parts.keyring,
        owner=owner,
        access_token="access",
        refresh_token="refresh",
        expires_in=expires_in,
        due_in=due_in,
        requested_scopes="openid",
        scopes="openid",
        region="NA",
        fleet_url="http://localhost/na",
        correlation_id=secrets.token_hex(8),
    )


@pytest.fixture
def parts(make: Callable[..., Parts]) -> Parts:
    return make(refresh_rate=2, sweep_seconds=5)  # so that 20 fit the lanes


def run(parts: Parts) -> list[str]:
    sent: list[str] = []
    assert sweep(parts, sent.extend) == len(sent)
    return sent


def test_it_sends_what_is_due_and_says_that_it_ran(parts: Parts) -> None:
    connect(parts, "due")
    connect(parts, "not due", due_in=60)
    assert not pulses.beaten_within(parts.database, "sweep", 60)
    assert run(parts) == ["due"]
    assert run(parts) == []
    assert pulses.beaten_within(parts.database, "sweep", 60)


def test_what_piled_up_while_no_worker_was_there_is_superfluous(parts: Parts) -> None:
    assert not is_superfluous(parts)
    run(parts)
    assert is_superfluous(parts)
    with parts.database.write() as connection:
        age = parts.settings.sweep_seconds / 2
        connection.execute(pulses.pulses.update().values(at=now(-age)))
    assert not is_superfluous(parts)
    with parts.database.write() as connection:
        connection.execute(pulses.pulses.update().values(at=now(3600)))
    assert not is_superfluous(parts), "the clock was set back"


def test_it_claims_no_more_than_the_lanes_take_nearest_to_the_end_first(parts: Parts) -> None:
    for number in range(30):
        connect(parts, f"owner-{number:02d}", expires_in=1000 - number)
    first = run(parts)
    assert first == [f"owner-{number:02d}" for number in range(29, 9, -1)]
    for owner in first:
        parts.redis.lpush(lane(owner, parts.settings.lanes), "a task")
    assert run(parts) == [], "the lanes are full"
    parts.redis.delete(lane(first[0], parts.settings.lanes))
    assert run(parts), "there is room again"


def test_what_a_wiped_redis_lost_is_sent_again_at_once(parts: Parts) -> None:
    connect(parts, "ann")
    assert run(parts) == ["ann"]
    assert run(parts) == []
    parts.redis.flushall()
    assert run(parts) == ["ann"]


def test_while_the_breaker_is_open_nothing_is_claimed_and_then_one_as_a_probe(parts: Parts) -> None:
    for number in range(5):
        connect(parts, f"owner-{number}")
    parts.breaker.failed("owner-0", "invalid_client", everybody=True)
    assert run(parts) == []
    assert parts.breaker.look().seconds <= FIRST_PAUSE
    parts.redis.hset("evergrant:breaker", "until", 0)
    assert len(run(parts)) == 1
    parts.breaker.succeeded()
    assert len(run(parts)) == 4


def test_an_owner_for_whom_tesla_always_fails_does_not_keep_the_breaker_open(world: World) -> None:
    failing, well = world.owner(), world.owner()
    tokens = world.tesla.sign_in(world.seen(failing)["name"])
    world.connect(failing, tokens | {"expires_in": -1000})  # the nearest to its end
    world.tesla.fault("server_error_400", owner=failing)
    world.parts.refresher.refresh(failing)
    world.due(failing)
    world.parts.breaker.failed("others", "tesla_failed", everybody=True)
    world.parts.redis.hset("evergrant:breaker", "until", 0)
    assert run(world.parts) == [well]


def test_without_redis_it_fails_before_it_claims(make: Callable[..., Parts], parts: Parts) -> None:
    connect(parts, "ann")
    broken = make(redis_url="redis://127.0.0.1:1/0")
    with pytest.raises(RedisError):
        sweep(broken, lambda _: None)
    assert run(parts) == ["ann"]


def test_what_could_not_be_sent_is_claimed_again_when_its_claim_is_over(make: Callable[..., Parts]) -> None:
    parts = make(sweep_seconds=0.2)
    connect(parts, "ann")

    def broker_away(_: Any) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        sweep(parts, broker_away)
    found: list[str] = []
    for _ in range(10_000):
        if found := run(parts):
            break
    assert found == ["ann"]


def test_what_tesla_will_end_soon_is_said_once(parts: Parts) -> None:
    connect(parts, "unused")
    with parts.database.write() as connection:
        long_ago = now(-80 * 24 * 3600)
        connection.execute(
            grants.grants.update().values(refreshed_at=long_ago, refresh_at=long_ago, retry_at=now(3600))
        )
    run(parts)
    with parts.database.write() as connection:
        connection.execute(pulses.pulses.delete())
    run(parts)
    with parts.database.read() as connection:
        kinds = [event.kind for event in latest(connection, "unused")]
    assert kinds == ["ending", "connected"]
