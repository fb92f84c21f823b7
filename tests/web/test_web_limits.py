"""How often somebody may try, and who somebody is."""

from __future__ import annotations

import pytest
from limits import parse
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from web.limits import Limits, network_of

LIMIT = parse("3 per minute")


def away() -> Redis:
    return Redis(port=1, retry=Retry(NoBackoff(), 0))


@pytest.mark.parametrize("where", ["redis", "away"])
def test_so_often_and_then_it_takes_a_while(redis: Redis, where: str) -> None:
    limits = Limits(redis if where == "redis" else away())
    assert [limits.take(LIMIT, "door", "ann") for _ in range(3)] == [None] * 3
    wait = limits.take(LIMIT, "door", "ann")
    assert wait is not None
    assert 1 <= wait <= 120
    assert limits.take(LIMIT, "door", "ben") is None
    assert limits.take(LIMIT, "window", "ann") is None
    limits.forget(LIMIT, "door", "ann")
    assert limits.take(LIMIT, "door", "ann") is None


def test_all_processes_count_together(redis: Redis) -> None:
    one, other = Limits(redis), Limits(redis)
    for limits in (one, other, one):
        assert limits.take(LIMIT, "door", "ann") is None
    assert other.take(LIMIT, "door", "ann") is not None


@pytest.mark.parametrize(
    ("address", "who"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("", "unknown"),
        (None, "unknown"),
        ("/run/socket", "unknown"),
    ],
)
def test_an_address_stands_for_somebody(address: str | None, who: str) -> None:
    assert network_of(address) == who
