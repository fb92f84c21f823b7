"""The SQLite database of a storm, and how it refuses writes."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class SQLite:
    """A file; another connection's write lock, held for longer than the busy time-out, is what refuses."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._holder: sqlite3.Connection | None = None

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    def refuse_writes(self, *, refuse: bool) -> bool:
        """True when it does as asked; with `refuse` it may have to be asked again, as others write too."""
        if refuse and self._holder is None:
            holder = sqlite3.connect(self.path, timeout=0, isolation_level=None)
            try:
                holder.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                holder.close()
                return False
            self._holder = holder
        elif not refuse and self._holder is not None:
            self._holder.execute("ROLLBACK")
            self._holder.close()
            self._holder = None
        return True
