"""Looks at the token table all the time, to know how long an owner was without a valid access token."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from models.grants import State, grants
from models.session import now

if TYPE_CHECKING:
    from models.session import Database


class Watch:
    """`look` is called about once a second. While SQL is away, what was read last counts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._expires: dict[str, float] = {}  # owner to monotonic time
        self._states: dict[str, str] = {}
        self._since: dict[str, float] = {}
        self.longest: dict[str, float] = {}
        """Owner to seconds, of those who were ever without."""

    def look(self, offset: float = 0.0) -> bool:
        """`offset` is by how many seconds the table's clock is ahead of ours. False when SQL is away."""
        read = self._read(offset)
        at = time.monotonic()
        for owner, expires in self._expires.items():
            if self._states[owner] != State.ALIVE or expires > at:
                self._since.pop(owner, None)
            else:
                since = self._since.setdefault(owner, min(at, expires) if offset == 0 else at)
                self.longest[owner] = max(self.longest.get(owner, 0.0), at - since)
        return read

    def _read(self, offset: float) -> bool:
        query = select(
            grants.c.owner, grants.c.state, grants.c.access_expires_at, now(offset).label("read_at")
        )
        try:
            with self._database.read() as connection:
                rows = connection.execute(query).all()
        except SQLAlchemyError:
            return False
        at = time.monotonic()
        never = datetime.min.replace(tzinfo=rows[0].read_at.tzinfo) if rows else None
        for row in rows:
            left: timedelta = (row.access_expires_at or never) - row.read_at
            self._expires[row.owner] = at + left.total_seconds()
            self._states[row.owner] = row.state
        return True

    def without_now(self) -> set[str]:
        """Who had no valid access token at the last look, although the grant is alive."""
        return set(self._since)

    def states(self) -> dict[str, str]:
        """Owner to the grant's state at the last look."""
        return dict(self._states)
