"""Connections to the token table, on SQLite and PostgreSQL, and the one clock that its times come from."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import BindParameter, DateTime, Float, MetaData, Text, create_engine, event, literal
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from sqlite3 import Connection as SQLiteConnection

    from sqlalchemy import Connection, Dialect, Engine
    from sqlalchemy.pool import ConnectionPoolEntry
    from sqlalchemy.sql.compiler import SQLCompiler

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


class Instant(TypeDecorator[datetime]):
    """A moment: an aware `datetime` in UTC; `timestamptz` on PostgreSQL, UTC text on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and dialect.name == "sqlite":
            return value.astimezone(UTC).replace(tzinfo=None)
        return value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


OwnerId = Text().with_variant(Text(collation="C"), "postgresql")
"""An owner's id. Sorted by its characters' numbers on every database, so that ids that begin alike stand
together in an index."""

_FLOAT = Float()

IDLE_SECONDS = 1.0
"""A pooled connection that was idle for longer is tried before it is used."""


class now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function that it is
    """The database's clock, plus so many seconds (a number or a `bindparam`): hosts whose clocks differ agree
    on what is due.

    It is the statement's time, not the transaction's, which may have begun much earlier. (PostgreSQL's
    `clock_timestamp` is later still, but changes within a statement and so can't be looked up in an index.)
    """

    type = Instant()
    inherit_cache = True

    def __init__(self, plus: float | BindParameter[float] = 0) -> None:
        if isinstance(plus, BindParameter):
            super().__init__(plus)
        elif plus:
            super().__init__(literal(float(plus), _FLOAT))
        else:
            super().__init__()


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: SQLCompiler, **kw: Any) -> str:
    plus = compiler.process(element.clauses, **kw)
    return f"(statement_timestamp() + make_interval(secs => {plus}))" if plus else "statement_timestamp()"


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: SQLCompiler, **kw: Any) -> str:
    # Six digits, as SQLAlchemy stores them, so that stored and computed times compare as text.
    plus = compiler.process(element.clauses, **kw)
    later = f", printf('%+.3f seconds', {plus})" if plus else ""
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now'{later})"


class Database:
    """The token table's database.

    `url` is SQLAlchemy's; its query may have psycopg's `prepare_threshold` (``none``: nothing is prepared on
    the server, for a PgBouncer in transaction mode that is older than 1.21). `pool_size` is how many
    connections one process may keep; more are opened in a rush and closed after it.
    """

    def __init__(self, url: str, *, pool_size: int = 8) -> None:
        self.engine = _engine(url, pool_size)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading."""
        with self.engine.connect() as connection:
            yield connection

    @property
    def changes_join(self) -> bool:
        """Whether one statement may change several tables."""
        return self.engine.dialect.name == "postgresql"

    def write_once(self) -> AbstractContextManager[Connection]:
        """A connection for a single statement that is committed when it ends: on PostgreSQL without a round
        trip for BEGIN and one for COMMIT."""
        return self.write() if self.engine.dialect.name == "sqlite" else self.engine.connect()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed when the block ends, and rolled back when it raises."""
        with self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    def close(self) -> None:
        self.engine.dispose()


def _engine(url: str, pool_size: int) -> Engine:
    # Parameters carry ciphertexts: they stay out of exceptions' texts and so out of logs.
    place = make_url(url)
    if place.get_backend_name() != "sqlite":
        how: dict[str, Any] = {"connect_timeout": 5, "client_encoding": "utf8", "autocommit": True}
        if (threshold := place.query.get("prepare_threshold")) is not None:
            how["prepare_threshold"] = None if threshold == "none" else int(str(threshold))
        engine = create_engine(
            place.difference_update_query(["prepare_threshold"]),
            hide_parameters=True,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_use_lifo=True,
            pool_recycle=1800,
            connect_args=how,
        )
        event.listen(engine, "begin", _begin_postgresql)
        event.listen(engine, "checkin", _note_idle)
        event.listen(engine, "checkout", _ping_idle)
        return engine
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=pool_size,
        max_overflow=pool_size,
        connect_args={"timeout": 10, "check_same_thread": False},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _begin_postgresql(connection: Connection) -> None:
    # The driver's autocommit is on: a statement alone needs no transaction around it.
    if connection.get_execution_options().get("writes", False):
        connection.exec_driver_sql("BEGIN")


def _note_idle(_connection: object, record: ConnectionPoolEntry) -> None:
    record.info["idle_since"] = time.monotonic()


def _ping_idle(connection: Any, record: ConnectionPoolEntry, _: object) -> None:
    """A connection that was idle for a while may be cut off; one in constant use says so by itself."""
    if time.monotonic() - record.info.get("idle_since", math.inf) > IDLE_SECONDS:
        try:
            connection.execute("")
        except connection.Error:
            raise InvalidatePoolError from None


def _prepare_sqlite(connection: SQLiteConnection, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver's guesses
    connection.execute("PRAGMA journal_mode=WAL")
    # A commit is on the disk when it returns: a token that Tesla issued may exist nowhere else.
    connection.execute("PRAGMA synchronous=FULL")


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the write lock at once; taken later, in mid-transaction, it fails when another writer
    # has been quicker instead of waiting its turn.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
