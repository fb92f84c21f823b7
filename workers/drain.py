"""Keeps taking answers out of the escrow, in every process that may put some in."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from workers.parts import parts

if TYPE_CHECKING:
    from threading import Event

log = logging.getLogger(__name__)

SECONDS = 1.0


def start_draining(stopping: Event) -> None:
    """A thread that does so until `stopping` is set; the process may end without waiting for it."""
    threading.Thread(target=_drain, args=(stopping,), name="escrow", daemon=True).start()


def _drain(stopping: Event) -> None:
    while not stopping.wait(SECONDS):
        try:
            parts().refresher.drain_all()
        except SQLAlchemyError:
            continue  # still away
        except Exception:
            log.exception("the escrow could not be drained")
