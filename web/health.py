"""Whether the process is up (`/healthz`) and whether sign-ins and refreshes work (`/readyz`)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from flask import Blueprint, jsonify
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from fleet.deadline import Deadline
from models import migrate
from workers.watch import stall

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Response

    from workers.parts import Parts

ANSWER_SECONDS = 2.5
"""All checks together; what has not answered by then has failed."""

OK = "ok"


class Check:
    """One look at something that may hang: it runs aside, and never twice at once."""

    def __init__(self, look: Callable[[], str]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._answered = threading.Event()
        self._answer = ""
        self._running = False

    def start(self) -> None:
        """Begins a look, unless one is still under way."""
        with self._lock:
            if self._running:
                return
            self._running = True
            self._answered.clear()
        threading.Thread(target=self._run, name="readyz", daemon=True).start()

    def _run(self) -> None:
        try:
            self._answer = self._look()
        except Exception as error:  # whatever it is, it is why this is not ready
            self._answer = f"failed: {type(error).__name__}"
        finally:
            with self._lock:
                self._running = False
                self._answered.set()

    def answer(self, deadline: Deadline) -> str:
        """`OK`, or what is wrong in words."""
        return self._answer if self._answered.wait(deadline.remaining) else "does not answer"


def blueprint(parts: Parts) -> Blueprint:
    """`/healthz` and `/readyz` for these parts."""
    health = Blueprint("health", __name__)
    checks = {
        "sql": Check(lambda: _sql(parts)),
        "redis": Check(lambda: _redis(parts)),
        "refreshes": Check(lambda: _refreshes(parts)),
    }

    @health.get("/healthz")
    def healthz() -> tuple[str, dict[str, str]]:
        """200 as long as the process answers."""
        return "ok", {"Content-Type": "text/plain; charset=utf-8"}

    @health.get("/readyz")
    def readyz() -> tuple[Response, int]:
        """200 when all checks hold, else 503; each in words."""
        deadline = Deadline(ANSWER_SECONDS)
        for check in checks.values():
            check.start()
        answers = {name: check.answer(deadline) for name, check in checks.items()}
        ready = all(answer == OK for answer in answers.values())
        return jsonify(ready=ready, checks=answers), 200 if ready else 503

    return health


def _sql(parts: Parts) -> str:
    try:
        with parts.database.read() as connection:
            if migrate.is_current(connection):
                return OK
    except SQLAlchemyError as error:
        return f"the token table can't be reached ({type(getattr(error, 'orig', error)).__name__})"
    return "the token table is not migrated to this version"


def _redis(parts: Parts) -> str:
    try:
        parts.redis.ping()
    except RedisError as error:
        return f"Redis can't be reached ({type(error).__name__})"
    return OK


def _refreshes(parts: Parts) -> str:
    try:
        return stall(parts.database, parts.breaker, parts.settings) or OK
    except SQLAlchemyError:
        return "unknown: the token table does not say when the last one was"
