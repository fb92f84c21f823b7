"""The Celery app: sweep, refresh, survey, webhooks and a heartbeat. Arguments are ids, never tokens."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.signals import (
    after_setup_logger,
    after_task_publish,
    beat_init,
    worker_ready,
    worker_shutting_down,
)
from celery.utils import worker_direct
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from workers.drain import start_draining
from workers.lanes import lane
from workers.parts import parts
from workers.refresh import Result
from workers.survey import survey
from workers.sweep import is_superfluous, sweep
from workers.watch import HEARTBEAT_SECONDS, Pulse, Watchdog, silence
from workers.webhooks import Deliverer

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger(__name__)

app = Celery("evergrant")
app.config_from_object("celeryconfig")


@app.task(name="workers.sweep")
def sweep_task() -> str:
    """Claims what is due and sends it to the lanes."""
    try:
        if is_superfluous(parts()):
            return "another has just run"
        claimed = sweep(parts(), send_refreshes)
        for endpoint, claim in deliverer().claim():
            deliver_task.apply_async((endpoint, claim), queue="webhooks")
        return f"claimed {claimed}"
    except (SQLAlchemyError, RedisError, OperationalError) as error:
        # What was claimed and not sent is claimed again when its claim has run out.
        log.error("no sweep: SQL or Redis can't be reached (%s)", type(error).__name__)
        return f"no sweep: {type(error).__name__}"


@app.task(name="workers.refresh")
def refresh_task(owner: str) -> str:
    """Refreshes one owner's grant, if it is due."""
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


@app.task(name="workers.survey")
def survey_task() -> str:
    """Counts what the console shows."""
    try:
        return "counted" if survey(parts()) else "another has just run"
    except SQLAlchemyError as error:
        log.error("no survey: the token table can't be reached (%s)", type(error).__name__)
        return f"no survey: {type(error).__name__}"


@app.task(name="workers.deliver")
def deliver_task(endpoint: str, claim: str) -> str:
    """Hands an endpoint's turn to a thread of its own: a slow receiver keeps no refresh waiting."""
    turn = threading.Thread(
        target=deliverer().turn, args=(endpoint, claim, _stopping), name="webhooks", daemon=True
    )
    turn.start()
    return "under way"


@app.task(name="workers.heartbeat", send_events=False)
def heartbeat_task(worker: str) -> None:
    """Comes back to the worker that sent it: its consumer and its pool work."""
    watchdog().seen()
    pulse(f"worker:{worker}").give()


def send_refreshes(owners: Iterable[str]) -> None:
    """Sends one task an owner, each to its lane, over one connection."""
    lanes = parts().settings.lanes
    with app.producer_pool.acquire(block=True) as producer:
        for owner in owners:
            refresh_task.apply_async((owner,), queue=lane(owner, lanes), producer=producer)


@cache
def deliverer() -> Deliverer:
    return Deliverer(parts())


@cache
def pulse(name: str) -> Pulse:
    return Pulse(parts().database, name)


@cache
def watchdog() -> Watchdog:
    return Watchdog(parts().redis, seconds=silence(parts().settings))


# --- a worker's own threads ---------------------------------------------------------------------------

_stopping = threading.Event()


@worker_ready.connect
def _start(sender: Any, **_: Any) -> None:
    # What fell due while no worker was up need not wait for beat.
    sweep_task.apply_async(queue="sweep")
    start_draining(_stopping)
    parts().counts.run("worker")
    threading.Thread(target=_heartbeat, args=(sender.hostname,), name="heartbeat", daemon=True).start()


@worker_shutting_down.connect
def _stop(**_: Any) -> None:
    _stopping.set()


def _heartbeat(worker: str) -> None:
    while not _stopping.is_set():
        with suppress(OperationalError):  # the broker is away: the watchdog sees that too
            heartbeat_task.apply_async((worker,), queue=worker_direct(worker), expires=60, retry=False)
        _stopping.wait(HEARTBEAT_SECONDS)
        watchdog().look()


# --- beat ---------------------------------------------------------------------------------------------


@beat_init.connect
def _watch_beat(**_: Any) -> None:
    def sent(**_: Any) -> None:
        watchdog().seen()
        pulse("beat").give()

    def watch() -> None:
        while not _stopping.wait(HEARTBEAT_SECONDS):
            watchdog().look()

    after_task_publish.connect(sent, weak=False, sender="workers.sweep")
    threading.Thread(target=watch, name="watchdog", daemon=True).start()


# --- the log ------------------------------------------------------------------------------------------


@after_setup_logger.connect
def _quiet(**_: Any) -> None:
    """One line a refresh is enough, and that one is ours; Flower has the rest."""
    for name in ("celery.worker.strategy", "celery.app.trace", "celery.beat"):
        logging.getLogger(name).setLevel(logging.WARNING)
