"""The token table: the product's `Database` on a real SQLite file and the world's clock, able to refuse."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from models.session import Database, metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from tests.simulation.weather import Weather
    from tests.simulation.world import World

_TABLES = ("grants", "spares", "events", "erasures", "pulses")


class Table(Database):
    """One file for a whole run; `open` empties it for the next schedule."""

    world: World
    weather: Weather
    committed: Callable[[], None]

    def __init__(self, path: Path) -> None:
        super().__init__(f"sqlite:///{path}")
        self.path = path
        self.away_until = 0
        event.listen(self.engine, "connect", self._prepare)
        metadata.create_all(self.engine)
        self.raw = sqlite3.connect(path, isolation_level=None)
        """A connection of the judge's own, behind SQLAlchemy's back."""

    def _prepare(self, connection: sqlite3.Connection, _record: object) -> None:
        # Nothing here has to survive this machine.
        connection.execute("PRAGMA journal_mode=MEMORY")
        connection.execute("PRAGMA synchronous=OFF")
        connection.create_function("strftime", -1, self._strftime)

    def _strftime(self, _form: str, _now: str, plus: str = "0 seconds") -> str:
        return self.world.text(float(plus.split()[0]))

    def open(self, world: World, weather: Weather) -> None:
        self.world = world
        self.weather = weather
        self.away_until = 0
        self.committed = lambda: None
        for table in _TABLES:
            self.raw.execute(f"DELETE FROM {table}")  # noqa: S608

    @contextmanager
    def read(self) -> Iterator[Connection]:
        self._touch()
        with super().read() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        actor = self.world.current
        self.world.pause("table", until=self.world.ms + (0 if actor is None else self.weather.hang()))
        self._touch()
        with super().write() as connection:
            yield connection
            fate = "" if actor is None else self.weather.refusal()
            if actor is not None and actor.kind in {"owner", "operator"}:
                fate = fate.removeprefix("killed ")
            if fate == "killed before":
                self.world.die()
            if fate == "before":
                self.world.say(f"{actor}: the table refuses a commit")
                raise _refused()
        self.committed()
        if fate == "killed after":
            self.world.die()
        if fate == "after":
            self.world.say(f"{actor}: the word of a commit is lost")
            raise _refused()
        self.world.pause("committed")

    def _touch(self) -> None:
        self.world.check()
        if self.world.ms < self.away_until:
            raise _refused()

    def row(self, owner: str) -> dict[str, Any]:
        """An owner's row as it is."""
        found = self.raw.execute("SELECT * FROM grants WHERE owner = ?", (owner,))
        (values,) = found
        return dict(zip((name for name, *_ in found.description), values, strict=True))

    def put(self, row: dict[str, Any], **changed: object) -> None:
        """Writes an owner's row as it was, but for what is changed."""
        values = row | changed
        marks = ", ".join("?" * len(values))
        self.raw.execute(
            f"INSERT OR REPLACE INTO grants ({', '.join(values)}) VALUES ({marks})",  # noqa: S608
            list(values.values()),
        )

    def events(self) -> list[tuple[str, int]]:
        """How many of each kind there are."""
        return self.raw.execute("SELECT kind, count(*) FROM events GROUP BY kind ORDER BY kind").fetchall()

    def forget_events(self) -> None:
        self.raw.execute("DELETE FROM events")

    def bytes(self) -> bytes:
        """All of it, erased rows too."""
        return self.path.read_bytes()


def _refused() -> OperationalError:
    error: Any = sqlite3.OperationalError("the table is away")
    return OperationalError("", {}, error)
