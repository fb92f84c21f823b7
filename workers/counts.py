"""What happens, counted for Prometheus: by each process for itself, and every few seconds into one place.

That place is Redis, so one page to scrape shows what all processes on all hosts have done, also those that
live no longer. Without Redis the numbers wait in the processes; a Redis that was wiped begins at zero, which
Prometheus takes for a restart. Nothing here holds up or breaks a refresh.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import socket
import threading
import time
from bisect import bisect_left
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from fleet.errors import TeslaError
from fleet.tokens import TokenEndpoint
from models.answers import Settled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis

    from fleet.deadline import Deadline
    from fleet.tokens import Tokens
    from models.answers import Answer

SECONDS = 5.0
"""How often a process adds its numbers to everybody's."""

COUNTERS = {
    "attempts": ("outcome", "Calls to the token endpoint, by what came of them: refreshed, or the cause."),
    "answers": ("became", "Tesla's answers, by what became of them: stored, spare or dropped."),
    "spares_used": ("", "Grants that live on because a spare was tried after the current refresh token."),
}
"""Name: its label, if any, and what it says."""

HISTOGRAMS = {
    "call_seconds": ((0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15), "How long calls to the token endpoint took."),
    "lateness_seconds": (
        (1, 2.5, 5, 10, 15, 30, 60, 300, 1800),
        "Seconds from a grant's falling due to its attempt.",
    ),
}
"""Name: its bounds, and what it says."""

_COUNTS, _PROCESSES = "evergrant:counts", "evergrant:processes"
_FORGOTTEN = 30  # seconds after which a process that says nothing has ended


class Counts:
    """This process's numbers. Thread-safe; a forked child begins its own."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._role = "other"
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._added: dict[str, float] = {}
        self._in_flight = 0
        self._running = False

    def run(self, role: str) -> None:
        """Says what this process is, and that it is there."""
        self._role = role
        self._start()

    def add(self, name: str, label: str = "", amount: float = 1) -> None:
        """Counts one more of one of `COUNTERS`."""
        self._start()
        field = f"{name}|{label}"
        with self._lock:
            self._added[field] = self._added.get(field, 0) + amount

    def observe(self, name: str, value: float) -> None:
        """Counts a value in one of `HISTOGRAMS`."""
        bounds = HISTOGRAMS[name][0]
        self.add(name, str(bisect_left(bounds, value)))
        self.add(name, "sum", value)

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """A call is under way."""
        self._start()
        began = time.monotonic()
        with self._lock:
            self._in_flight += 1
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1
            self.observe("call_seconds", time.monotonic() - began)

    def settled(self, answer: Answer, became: Settled) -> None:
        """An answer has come into the table."""
        self.add("answers", became.value)
        if became is Settled.STORED:
            if answer.late is not None:
                self.observe("lateness_seconds", answer.late)
            if answer.from_spare:
                self.add("spares_used")

    # --- into Redis ------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._pid != os.getpid():
            self._begin()
        if not self._running:
            self._running = True
            threading.Thread(target=self._flush_now_and_then, name="counts", daemon=True).start()
            atexit.register(self.flush)

    def _flush_now_and_then(self) -> None:
        while True:
            self.flush()
            time.sleep(SECONDS)

    def flush(self) -> None:
        """Adds what was counted since the last time to everybody's numbers; without Redis it waits."""
        with self._lock:
            added, self._added = self._added, {}
            here = {"role": self._role, "in_flight": self._in_flight, **_resources()}
        key = f"{socket.gethostname()}/{self._pid}"
        pipe = self._redis.pipeline(transaction=True)
        for field, amount in added.items():
            pipe.hincrbyfloat(_COUNTS, field, amount)
        pipe.sadd(_PROCESSES, key)
        pipe.set(f"{_PROCESSES}:{key}", json.dumps(here), ex=_FORGOTTEN)
        try:
            pipe.execute()
        except (RedisError, OSError, ValueError):  # the last two when its connection is closed under it
            for field, amount in added.items():
                name, _, label = field.partition("|")
                self.add(name, label, amount)


def _resources() -> dict[str, float]:
    """CPU seconds and resident bytes of this process, as far as the system says."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {"cpu_seconds": used.ru_utime + used.ru_stime}
    with suppress(OSError), open("/proc/self/statm") as statm:  # noqa: PTH123 - quicker, and often done
        found["resident_bytes"] = float(int(statm.read().split()[1]) * resource.getpagesize())
    return found


def everybodys(redis: Redis) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """All that was counted, by ``name|label``, and the processes that are there, by ``host/pid``. Raises
    Redis's errors."""
    counted = {_text(field): float(value) for field, value in redis.hgetall(_COUNTS).items()}
    names = sorted(map(_text, redis.smembers(_PROCESSES)))
    said = redis.mget([f"{_PROCESSES}:{name}" for name in names]) if names else []
    processes = {name: json.loads(text) for name, text in zip(names, said, strict=True) if text}
    if gone := set(names) - set(processes):
        redis.srem(_PROCESSES, *gone)
    return counted, processes


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


class CountedEndpoint(TokenEndpoint):
    """The token endpoint, its refreshes counted."""

    def __init__(self, counts: Counts, **how: Any) -> None:
        super().__init__(**how)
        self._counts = counts

    def refresh(
        self, refresh_token: str, *, deadline: Deadline, before_send: Callable[[], None] | None = None
    ) -> Tokens:
        """As `TokenEndpoint.refresh`."""
        try:
            with self._counts.in_flight():
                tokens = super().refresh(refresh_token, deadline=deadline, before_send=before_send)
        except TeslaError as error:
            self._counts.add("attempts", error.cause.code)
            raise
        self._counts.add("attempts", "refreshed")
        return tokens
