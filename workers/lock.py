"""The owner's lock in Redis: a hint that spares almost all duplicates cheaply. No promise rests on it."""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from redis.exceptions import LockError, RedisError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

log = logging.getLogger(__name__)


class OwnerLocks:
    """One lock an owner, which ends by itself after `life` seconds: longer than an attempt may take."""

    def __init__(self, redis: Redis, *, life: float) -> None:
        self._redis = redis
        self._life = life

    @contextmanager
    def hold(self, owner: str) -> Iterator[OwnerLock | None]:
        """The lock, or None when another process holds it. Without Redis everyone gets it."""
        lock: Any = self._redis.lock(f"evergrant:lock:{owner}", timeout=self._life, blocking=False)
        try:
            taken = lock.acquire()
        except RedisError as error:
            log.warning("Redis is away (%s): going on by SQL's fence alone", type(error).__name__)
            yield OwnerLock(None, self._life)
            return
        if not taken:
            yield None
            return
        try:
            yield OwnerLock(lock, self._life)
        finally:
            # It ran out, or Redis is away: then it ends by itself.
            with suppress(LockError, RedisError):
                lock.release()


class OwnerLock:
    """A lock that is held."""

    def __init__(self, lock: Any, life: float) -> None:
        self._lock = lock
        self._life = life

    def renew(self) -> None:
        """Starts its life anew, before another attempt is made under it."""
        if self._lock is not None:
            with suppress(LockError, RedisError):  # the fence in SQL decides
                self._lock.extend(self._life, replace_ttl=True)
