"""Refreshes that programs' calls wait for: for a bounded time, together with all that want the same.

`Refresher.refresh` already makes one attempt of however many want one, on however many machines. Here the
calls that one process serves share a single wait for it, so that two hundred of them cost one.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from fleet.errors import Actor
from web.api.problems import Refusal
from web.threads import SEATS
from workers.refresh import Outcome, Result

if TYPE_CHECKING:
    from workers.refresh import Refresher

PATIENCE = 20.0
"""Seconds that a call waits for a refresh: a little more than one attempt may take."""


class Together:
    """The refreshes that calls wait for, in this process."""

    def __init__(self, refresher: Refresher) -> None:
        self._refresher = refresher
        self._lock = threading.Lock()
        self._under_way: dict[tuple[str, int], Future[Outcome]] = {}

    def refresh(self, owner: str, stale: int) -> Outcome:
        """Has generation `stale` replaced, and waits for that no longer than `PATIENCE`.

        It goes on in a thread of its own, so that nobody's impatience stops it.
        """
        key = (owner, stale)
        with self._lock:
            future = self._under_way.get(key)
            if future is None:
                future = self._under_way[key] = Future()
                threading.Thread(target=self._run, args=(key, future), name="refresh").start()
        try:
            return future.result(PATIENCE)
        except TimeoutError:
            return Outcome(Result.IN_FLIGHT)

    def _run(self, key: tuple[str, int], future: Future[Outcome]) -> None:
        owner, stale = key
        try:
            outcome = self._refresher.refresh(owner, stale=stale, wait=PATIENCE)
        except BaseException as error:  # each who waits gets it
            self._end(key)
            future.set_exception(error)
        else:
            self._end(key)
            future.set_result(outcome)

    def _end(self, key: tuple[str, int]) -> None:
        with self._lock:
            del self._under_way[key]


class Seats:
    """Places to wait for Tesla in; who finds all of them taken gets a `Refusal`."""

    def __init__(self) -> None:
        self._free = threading.BoundedSemaphore(SEATS)

    def take(self) -> None:
        if not self._free.acquire(blocking=False):
            raise Refusal(
                503,
                "too_many_waiting",
                "Too many calls wait for Tesla",
                f"{SEATS} of them wait already.",
                "Ask again in a moment.",
                turn=Actor.WAIT,
                retry_in=1,
            )

    def leave(self) -> None:
        self._free.release()

    def __enter__(self) -> None:
        self.take()

    def __exit__(self, *_: object) -> None:
        self.leave()
