"""When each key was last used."""

from __future__ import annotations

import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from models.api_keys import USED, note_use

if TYPE_CHECKING:
    from models.session import Database


class LastUses:
    """Writes down that keys are used, at most once a minute each and not while the program waits."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._noted: dict[str, float] = {}
        self._waiting: SimpleQueue[str] = SimpleQueue()
        self._lock = threading.Lock()
        self._is_writing = False

    def note(self, key: str) -> None:
        """The key is used now."""
        now = time.monotonic()
        if now - self._noted.get(key, -USED) < USED:
            return
        self._noted[key] = now
        self._waiting.put(key)
        with self._lock:
            if self._is_writing:
                return
            self._is_writing = True
        threading.Thread(target=self._write, name="last-uses", daemon=True).start()

    def _write(self) -> None:
        while True:
            try:
                key = self._waiting.get_nowait()
            except Empty:
                with self._lock:
                    if self._waiting.empty():
                        self._is_writing = False
                        return
                continue
            try:
                with self._database.write() as connection:
                    note_use(connection, key)
            except SQLAlchemyError:
                self._noted.pop(key, None)  # the next use is noted instead
