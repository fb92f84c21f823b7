"""Signs of life that mean something, and an end for a process that is up and stuck.

A worker can stay up and connected and yet take no tasks, most often after its broker was away (celery
issues 8030, 9054, 10205, 10302). So each worker sends itself a small task through the broker: when none comes
back though Redis answers, the process ends, and whoever keeps it running starts it anew.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from models import grants, pulses

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis

    from models.session import Database
    from settings import Settings
    from workers.breaker import Breaker

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
LAST_WORD = 20.0
"""Seconds that a stuck process gets for ending in good order."""


def silence(settings: Settings) -> float:
    """Seconds without a sign of life after which something is taken to be stuck: longer than all of a
    worker's threads may wait for Tesla, and than several sweeps."""
    return max(30.0, 4 * settings.sweep_seconds, 4 * settings.attempt_deadline)


class Watchdog:
    """Ends this process when nothing was `seen` for `seconds` although Redis answered all the while."""

    def __init__(self, redis: Redis, *, seconds: float, end: Callable[[], None] | None = None) -> None:
        self._redis = redis
        self._seconds = seconds
        self._end = end or _end_process
        self._since = time.monotonic()

    def seen(self) -> None:
        """A sign of life."""
        self._since = time.monotonic()

    def look(self) -> None:
        """To be called every few seconds."""
        try:
            self._redis.ping()
        except RedisError:
            self.seen()  # silence has a reason that a new process would not remove
            return
        if time.monotonic() - self._since > self._seconds:
            log.critical("nothing has come through for %.0f s though Redis answers: ending", self._seconds)
            self._end()


def _end_process() -> None:
    threading.Timer(LAST_WORD, os._exit, (1,)).start()
    os.kill(os.getpid(), signal.SIGTERM)


class Pulse:
    """A sign of life in SQL, written at most every `HEARTBEAT_SECONDS` however often it is given."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name
        self._next = 0.0

    def give(self) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + HEARTBEAT_SECONDS / 2
        try:
            pulses.beat(self._database, self._name)
        except SQLAlchemyError as away:
            log.warning("SQL is away (%s): no sign of life is kept", type(away).__name__)


def stall(database: Database, breaker: Breaker, settings: Settings) -> str:
    """What keeps refreshes from going on, in words; empty when nothing does. Raises SQLAlchemy's errors."""
    seconds = silence(settings)
    for name, question in (("beat", "is beat up?"), ("sweep", "is a worker up, and beat?")):
        if not pulses.beaten_within(database, name, seconds):
            return f"no {name} in the last {seconds:.0f} s: {question}"
    if breaker.look().state != "closed" or pulses.beaten_within(database, "refresh", seconds):
        return ""
    with database.read() as connection:
        overdue = grants.is_any_overdue(connection, seconds)
    return f"grants are due and no refresh has ended in the last {seconds:.0f} s" if overdue else ""
