"""How fast each key is used."""

from __future__ import annotations

import threading
import time


class Rates:
    """Counted by each process for itself: a look into Redis would cost more than the call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._full_at: dict[str, float] = {}

    def take(self, key: str, rate: int) -> float | None:
        """Counts one more call; None within the rate, else the seconds until it may be tried again.

        A key that was quiet may make a second's calls at once.
        """
        now = time.monotonic()
        with self._lock:
            # When all calls so far would have been made, had they come one by one.
            full_at = max(self._full_at.get(key, 0.0), now) + 1 / rate
            if full_at - now > max(1.0, 1 / rate):
                return full_at - now - max(1.0, 1 / rate)
            self._full_at[key] = full_at
            return None
