"""The Celery app: two tasks, `workers.sweep` and `workers.refresh`. Their arguments are ids, never tokens."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.signals import worker_ready, worker_shutting_down
from sqlalchemy.exc import SQLAlchemyError

from workers.lanes import lane
from workers.parts import parts
from workers.refresh import Result
from workers.sweep import sweep

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger(__name__)

app = Celery("evergrant")
app.config_from_object("celeryconfig")


@app.task(name="workers.sweep")
def sweep_task() -> str:
    """Claims what is due and sends it to the lanes."""
    return f"claimed {sweep(parts(), send_refreshes)}"


@app.task(name="workers.refresh")
def refresh_task(owner: str) -> str:
    """Refreshes one owner's grant, if it is due."""
    try:
        outcome = parts().refresher.refresh(owner)
    except SQLAlchemyError as error:
        # Nothing was sent to Tesla; the claim runs out and the sweep comes again.
        log.error("the token table can't be reached (%s)", type(error).__name__)
        return "the token table can't be reached"
    if outcome.cause is not None and outcome.result is not Result.REFRESHED:
        return f"{outcome.result}: {outcome.cause.code}"
    return outcome.result.value


def send_refreshes(owners: Iterable[str]) -> None:
    """Sends one task an owner, each to its lane, over one connection."""
    lanes = parts().settings.lanes
    with app.producer_pool.acquire(block=True) as producer:
        for owner in owners:
            refresh_task.apply_async((owner,), queue=lane(owner, lanes), producer=producer)


_stopping = threading.Event()
DRAIN_SECONDS = 1.0


@worker_ready.connect
def _drain_the_escrow(**_: Any) -> None:
    threading.Thread(target=_drain_until_stopped, name="escrow", daemon=True).start()


@worker_shutting_down.connect
def _stop_draining(**_: Any) -> None:
    _stopping.set()


def _drain_until_stopped() -> None:
    """Takes answers out of the escrow as soon as SQL takes them, whoever put them there."""
    while not _stopping.wait(DRAIN_SECONDS):
        try:
            parts().refresher.drain_all()
        except SQLAlchemyError:
            continue  # still away
        except Exception:
            log.exception("the escrow could not be drained")
