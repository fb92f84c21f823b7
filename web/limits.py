"""How often somebody may try: counted in Redis for all processes, by each for itself while Redis is away."""

from __future__ import annotations

import ipaddress
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from limits import RateLimitItem
    from redis import Redis


class Limits:
    """Counts on this Redis. Connects to nothing yet."""

    def __init__(self, redis: Redis) -> None:
        pool = redis.connection_pool
        shared = RedisStorage("redis://", connection_pool=pool, key_prefix="evergrant:limits")
        self._shared = SlidingWindowCounterRateLimiter(shared)
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())

    def take(self, limit: RateLimitItem, *who: str) -> float | None:
        """Counts one more of `who`; None within the limit, else the seconds until it may be tried again."""
        try:
            return _take(self._shared, limit, who)
        except RedisError:
            return _take(self._own, limit, who)

    def forget(self, limit: RateLimitItem, *who: str) -> None:
        """Counts of `who` begin anew."""
        self._own.clear(limit, *who)
        with suppress(RedisError):  # it ends by itself
            self._shared.clear(limit, *who)


def _take(
    limiter: SlidingWindowCounterRateLimiter, limit: RateLimitItem, who: tuple[str, ...]
) -> float | None:
    if limiter.hit(limit, *who):
        return None
    return max(limiter.get_window_stats(limit, *who).reset_time - time.time(), 1.0)


def network_of(address: str | None) -> str:
    """Whom an address stands for: an IPv4 address for itself, an IPv6 one for its /64, which one person has.

    Behind a proxy it is the proxy's: ``X-Forwarded-For`` is not believed, since anybody may write it.
    """
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if found.version == 6:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
