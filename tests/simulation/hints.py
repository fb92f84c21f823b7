"""What the product keeps in Redis, kept here: a Redis that can be wiped and taken away, and the breaker's
scripts in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as Away
from redis.exceptions import LockError

from workers.breaker import FIRST_PAUSE, LONGEST_PAUSE, OWNERS_FAILING, Admission, Gate, Look
from workers.sweep import _EPOCH

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.simulation.world import World


class Redis:
    """As much of redis-py's client as the product uses."""

    def __init__(self, world: World) -> None:
        self.away_until = 0
        self.wipes = 0
        self.changes = 0  # wipes and outages
        self.hashes: dict[str, dict[str, str]] = {}
        self.sets: dict[str, set[str]] = {}
        self.values: dict[str, tuple[str, int]] = {}  # and when they end
        self.queue: list[tuple[int, str]] = []  # tasks: not before, owner
        self.written: Callable[[], None] = lambda: None
        self._world = world

    @property
    def up(self) -> bool:
        return self._world.ms >= self.away_until

    @property
    def knows_its_epoch(self) -> bool:
        """Whether the sweep has left its mark since the last wipe."""
        return _EPOCH in self.values

    def touch(self) -> None:
        """Raises when Redis is away, or who asks is dead."""
        self._world.check()
        if not self.up:
            raise Away("away")

    def go_away(self, seconds: float) -> None:
        self.changes += 1
        self.away_until = self._world.ms + int(seconds * 1000)

    def wipe(self) -> None:
        self.changes += 1
        self.wipes += 1
        self.hashes.clear()
        self.sets.clear()
        self.values.clear()
        self.queue.clear()
        self.written()

    # --- the escrow's -----------------------------------------------------------------------------

    def hset(self, key: str, field: str, value: str) -> int:
        self.hashes.setdefault(key, {})[field] = value
        return 1

    def sadd(self, key: str, member: str) -> int:
        self.sets.setdefault(key, set()).add(member)
        return 1

    def hgetall(self, key: str) -> dict[str, str]:
        self.touch()
        return dict(self.hashes.get(key, {}))

    def smembers(self, key: str) -> set[str]:
        self.touch()
        return set(self.sets.get(key, ()))

    def eval(self, script: str, count: int, key: str, owners: str, field: str, owner: str) -> None:
        """The escrow's only script: forget one answer."""
        self._world.pause("forget")
        self.touch()
        held = self.hashes.get(key, {})
        held.pop(field, None)
        if not held:
            self.hashes.pop(key, None)
            self.sets.get(owners, set()).discard(owner)
        self.written()

    def pipeline(self, transaction: bool = True) -> _Pipeline:
        return _Pipeline(self, self._world)

    # --- the sweep's ------------------------------------------------------------------------------

    def llen(self, name: str) -> int:
        return len(self.queue)

    def set(self, key: str, value: str, *, nx: bool) -> bool | None:
        self.touch()
        return self.take(key, value, NEVER_MS) or None

    # --- the lock's -------------------------------------------------------------------------------

    def lock(self, name: str, *, timeout: float, blocking: bool) -> _Lock:
        return _Lock(self, name, timeout)

    def take(self, key: str, value: str, until: int) -> bool:
        held = self.values.get(key)
        if held is not None and held[1] > self._world.ms:
            return False
        self.values[key] = (value, until)
        return True

    def holds(self, key: str, value: str) -> bool:
        held = self.values.get(key)
        return held is not None and held[0] == value and held[1] > self._world.ms


NEVER_MS = 1 << 60


class _Pipeline:
    def __init__(self, redis: Redis, world: World) -> None:
        self._redis = redis
        self._world = world
        self._calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: self._calls.append((name, args))

    def execute(self) -> list[Any]:
        self._world.pause("redis")
        self._redis.touch()
        results = [getattr(self._redis, name)(*args) for name, args in self._calls]
        self._redis.written()
        return results


class _Lock:
    """redis-py's `Lock`: a token of its own, and a life."""

    def __init__(self, redis: Redis, name: str, timeout: float) -> None:
        self._redis = redis
        self._name = name
        self._timeout = timeout
        self._token = ""

    def acquire(self) -> bool:
        self._redis.touch()
        world = self._redis._world
        token = f"{world.current}/{world.tick}"
        if not self._redis.take(self._name, token, world.ms + int(self._timeout * 1000)):
            return False
        self._token = token
        return True

    def extend(self, additional_time: float, replace_ttl: bool) -> None:
        self._mine()
        world = self._redis._world
        self._redis.values[self._name] = (self._token, world.ms + int(additional_time * 1000))

    def release(self) -> None:
        self._mine()
        del self._redis.values[self._name]

    def _mine(self) -> None:
        self._redis.touch()
        if not self._redis.holds(self._name, self._token):
            raise LockError("not held any more")


class Breaker:
    """`workers.breaker.Breaker` without Lua, and without a rate: nothing here is fast enough for one.

    With `always_open` the gate always is, as when Redis is away.
    """

    def __init__(
        self, world: World, redis: Redis, source: random.Random, *, probe_life: float, always_open: bool
    ) -> None:
        self._world = world
        self._redis = redis
        self._random = source
        self._probe_life = int(probe_life * 1000)
        self._always_open = always_open
        self._wipes = 0
        self._clear()

    def _clear(self) -> None:
        self._until = 0
        self._cause = ""
        self._trips = 0
        self._failing: set[str] = set()
        self._probe_until = 0

    def _here(self) -> bool:
        self._world.check()
        if self._wipes != self._redis.wipes:
            self._wipes = self._redis.wipes
            self._clear()
        return self._redis.up and not self._always_open

    def admit(self, patience: float) -> Admission:
        if not self._here():
            return Admission(Gate.GO, 0)
        now = self._world.ms
        if not self._until:
            return Admission(Gate.GO, 0, troubled=bool(self._failing))
        if self._until > now:
            return Admission(Gate.OPEN, (self._until - now) / 1000, self._cause)
        if self._probe_until > now:
            return Admission(Gate.OPEN, (self._probe_until - now) / 1000, self._cause)
        self._probe_until = now + self._probe_life
        return Admission(Gate.PROBE, 0, self._cause, troubled=True)

    def failed(self, owner: str, cause: str, *, everybody: bool, pause: float | None = None) -> bool:
        if not self._here():
            return False
        now = self._world.ms
        self._failing.add(owner)
        was_open = bool(self._until)
        if not everybody and not was_open and len(self._failing) < OWNERS_FAILING:
            return False
        self._probe_until = 0
        if self._until > now and not pause:
            return False
        seconds = pause or min(FIRST_PAUSE * 2**self._trips, LONGEST_PAUSE) * self._random.uniform(0.5, 1)
        self._until = max(now + int(seconds * 1000), self._until)
        self._cause = cause
        self._trips = min(self._trips + 1, 16)
        return not was_open

    def succeeded(self) -> bool:
        if not self._here():
            return False
        was_open = bool(self._until)
        self._clear()
        return was_open

    def give_back(self, admission: Admission) -> None:
        if self._here() and admission.gate is Gate.PROBE:
            self._probe_until = 0

    def look(self) -> Look:
        if not self._here() or not self._until:
            return Look("closed", 0, "")
        left = self._until - self._world.ms
        return Look("open" if left > 0 else "half_open", max(left, 0) / 1000, self._cause)
