"""What is counted adds up over processes, and waits while Redis is away."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from redis import Redis

from settings import ROOT
from workers.counts import Counts, everybodys

if TYPE_CHECKING:
    from tests.workers.conftest import World

_ANOTHER = """
import sys
from redis import Redis
from workers.counts import Counts
Counts(Redis.from_url(sys.argv[1])).add("attempts", "refreshed")
"""


def test_processes_add_to_one_number(redis: Redis, redis_url: str) -> None:
    for _ in range(2):  # what is not in Redis yet goes there when the process ends
        subprocess.run([sys.executable, "-c", _ANOTHER, redis_url], cwd=ROOT, check=True, timeout=60)
    mine = Counts(redis)
    mine.add("attempts", "refreshed")
    mine.flush()
    counted, processes = everybodys(redis)
    assert counted == {"attempts|refreshed": 3}
    assert len(processes) == 3


def test_without_redis_the_numbers_wait(redis: Redis, redis_url: str) -> None:
    nobody = Redis.from_url("redis://127.0.0.1:1", socket_connect_timeout=1)
    counts = Counts(nobody)
    counts.observe("lateness_seconds", 4.0)
    counts.flush()
    counts._redis = redis
    counts.flush()
    assert everybodys(redis)[0] == {"lateness_seconds|2": 1, "lateness_seconds|sum": 4}


def test_a_refresh_is_counted(world: World) -> None:
    owner = world.owner(due_in=-7)
    world.parts.refresher.refresh(owner)
    world.tesla.fault("down_503", owner=owner)
    world.due(owner)
    world.parts.refresher.refresh(owner)
    world.parts.counts.flush()
    counted, _ = everybodys(world.parts.redis)
    assert counted["attempts|refreshed"] == 1
    assert sum(n for name, n in counted.items() if name.startswith("attempts|")) == 2
    assert counted["answers|stored"] == 1
    assert counted["lateness_seconds|3"] == 1
    assert counted["call_seconds|sum"] > 0
