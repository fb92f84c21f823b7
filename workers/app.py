"""The Celery app: sweep, refresh, survey, webhooks and a heartbeat. Arguments are ids, never tokens.

What the tasks do is in `workers.work`, which is loaded by who does it: beat and Flower only know their names.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
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

from settings import get_settings
from workers.lanes import lane

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

app = Celery("evergrant")
app.config_from_object("celeryconfig")


def _work() -> ModuleType:
    from workers import work

    return work


@app.task(name="workers.sweep")
def sweep_task() -> str:
    """Claims what is due and sends it to the lanes."""
    done: str = _work().sweep(send_refreshes, send_deliveries)
    return done


@app.task(name="workers.refresh")
def refresh_task(owner: str) -> str:
    """Refreshes one owner's grant, if it is due."""
    done: str = _work().refresh(owner)
    return done


@app.task(name="workers.survey")
def survey_task() -> str:
    """Counts what the console shows."""
    done: str = _work().survey()
    return done


@app.task(name="workers.deliver")
def deliver_task(endpoint: str, claim: str) -> str:
    """Hands an endpoint's turn to a thread of its own: a slow receiver keeps no refresh waiting."""
    turn = threading.Thread(
        target=_work().deliverer().turn, args=(endpoint, claim, _stopping), name="webhooks", daemon=True
    )
    turn.start()
    return "under way"


@app.task(name="workers.heartbeat", send_events=False)
def heartbeat_task(worker: str) -> None:
    """Comes back to the worker that sent it: its consumer and its pool work."""
    _work().heartbeat(worker)


def send_refreshes(owners: Iterable[str]) -> None:
    """Sends one task an owner, each to its lane, over one connection."""
    lanes = get_settings().lanes
    with app.producer_pool.acquire(block=True) as producer:
        for owner in owners:
            refresh_task.apply_async((owner,), queue=lane(owner, lanes), producer=producer)


def send_deliveries(turns: Iterable[tuple[str, str]]) -> None:
    """Sends one task an endpoint whose turn it is."""
    for endpoint, claim in turns:
        deliver_task.apply_async((endpoint, claim), queue="webhooks")


# --- a worker's own threads ---------------------------------------------------------------------------

_stopping = threading.Event()


@worker_ready.connect
def _start(sender: Any, **_: Any) -> None:
    _work().start(_stopping)
    # What fell due while no worker was up need not wait for beat.
    sweep_task.apply_async(queue="sweep")
    threading.Thread(target=_heartbeat, args=(sender.hostname,), name="heartbeat", daemon=True).start()


@worker_shutting_down.connect
def _stop(**_: Any) -> None:
    _stopping.set()


def _heartbeat(worker: str) -> None:
    from workers.watch import HEARTBEAT_SECONDS

    while not _stopping.is_set():
        with suppress(OperationalError):  # the broker is away: the watchdog sees that too
            heartbeat_task.apply_async((worker,), queue=worker_direct(worker), expires=60, retry=False)
        _stopping.wait(HEARTBEAT_SECONDS)
        _work().watchdog().look()


# --- beat ---------------------------------------------------------------------------------------------


@beat_init.connect
def _watch_beat(**_: Any) -> None:
    from models.session import Database
    from workers.redis_url import hints
    from workers.watch import HEARTBEAT_SECONDS, Pulse, Watchdog, silence

    settings = get_settings()
    pulse = Pulse(Database(settings.database, pool_size=1), "beat")
    watchdog = Watchdog(hints(settings.redis), seconds=silence(settings))

    def sent(**_: Any) -> None:
        watchdog.seen()
        pulse.give()

    def watch() -> None:
        while not _stopping.wait(HEARTBEAT_SECONDS):
            watchdog.look()

    after_task_publish.connect(sent, weak=False, sender="workers.sweep")
    threading.Thread(target=watch, name="watchdog", daemon=True).start()


# --- the log ------------------------------------------------------------------------------------------


@after_setup_logger.connect
def _quiet(**_: Any) -> None:
    """One line a refresh is enough, and that one is ours; Flower has the rest."""
    for name in ("celery.worker.strategy", "celery.app.trace", "celery.beat"):
        logging.getLogger(name).setLevel(logging.WARNING)
