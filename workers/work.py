"""What the tasks do, with this process's parts. It knows nothing of Celery."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from workers import survey as surveying
from workers import sweep as sweeping
from workers.drain import start_draining
from workers.parts import parts
from workers.refresh import Result
from workers.watch import Pulse, Watchdog, silence
from workers.webhooks import Deliverer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from threading import Event

log = logging.getLogger(__name__)


def sweep(
    send_refreshes: Callable[[Iterable[str]], None],
    send_deliveries: Callable[[Iterable[tuple[str, str]]], None],
) -> str:
    """A sweep, unless another has just run; what came of it in words."""
    try:
        if sweeping.is_superfluous(parts()):
            return "another has just run"
        claimed = sweeping.sweep(parts(), send_refreshes)
        send_deliveries(deliverer().claim())
        return f"claimed {claimed}"
    except (SQLAlchemyError, RedisError, OperationalError) as error:
        # What was claimed and not sent is claimed again when its claim has run out.
        log.error("no sweep: SQL or Redis can't be reached (%s)", type(error).__name__)
        return f"no sweep: {type(error).__name__}"


def refresh(owner: str) -> str:
    """Refreshes one owner's grant, if it is due; what came of it in words."""
    try:
        outcome = parts().refresher.refresh(owner)
    except SQLAlchemyError as error:
        # Nothing was sent to Tesla; the claim runs out and the sweep comes again.
        log.error("the token table can't be reached (%s)", type(error).__name__)
        return "the token table can't be reached"
    pulse("refresh").give()
    if outcome.cause is not None and outcome.result is not Result.REFRESHED:
        return f"{outcome.result}: {outcome.cause.code}"
    return outcome.result.value


def survey() -> str:
    """Counts what the console shows; what came of it in words."""
    try:
        return "counted" if surveying.survey(parts()) else "another has just run"
    except SQLAlchemyError as error:
        log.error("no survey: the token table can't be reached (%s)", type(error).__name__)
        return f"no survey: {type(error).__name__}"


def heartbeat(worker: str) -> None:
    """This worker's consumer and its pool work."""
    watchdog().seen()
    pulse(f"worker:{worker}").give()


def start(stopping: Event) -> None:
    """What a worker does besides tasks, until `stopping` is set."""
    start_draining(stopping)
    parts().counts.run("worker")


@cache
def deliverer() -> Deliverer:
    return Deliverer(parts())


@cache
def pulse(name: str) -> Pulse:
    return Pulse(parts().database, name)


@cache
def watchdog() -> Watchdog:
    return Watchdog(parts().redis, seconds=silence(parts().settings))
