"""One row, as fast as the driver finds it: for what each request of a program asks."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Select
    from sqlalchemy.pool import PoolProxiedConnection

    from models.session import Database

    Fetch = Callable[[PoolProxiedConnection, list[str]], tuple[Any, ...] | None]


class Lookup:
    """A statement that finds one row, compiled once and read in one round trip. SQLAlchemy's own way to a row
    costs several times as much."""

    def __init__(self, database: Database, statement: Select[Any]) -> None:
        self._database = database
        dialect: Any = database.engine.dialect
        is_postgresql = dialect.name == "postgresql"
        style = "numeric_dollar" if is_postgresql else "qmark"
        self._compiled = statement.compile(dialect=type(dialect)(paramstyle=style))
        self._sql = str(self._compiled)
        self._fetch = _libpq(self._sql) if is_postgresql else _dbapi(self._sql)
        self._processors = [
            (place, process)
            for place, column in enumerate(statement.selected_columns)
            if (process := column.type.dialect_impl(dialect).result_processor(dialect, None))
        ]

    def one(self, **parameters: str) -> list[Any] | None:
        """The row's values, or None. Raises SQLAlchemy's errors.

        A connection that has been cut since it was last used, or whose prepared statement no longer fits, is
        replaced, once: it only reads.
        """
        engine = self._database.engine
        named = self._compiled.construct_params(parameters)
        given = [named[name] for name in self._compiled.positiontup or ()]
        if any("\0" in value for value in given):
            return None  # no text in a database has one, and libpq's would end there
        for is_last in (False, True):
            connection = None
            try:
                connection = engine.raw_connection()
                found = self._fetch(connection, given)
            except engine.dialect.loaded_dbapi.Error as error:
                cut = engine.dialect.is_disconnect(error, connection, None)
                if connection is not None:
                    connection.invalidate(error)
                if cut:
                    engine.dispose()  # the others were cut with it
                if is_last:
                    raise DBAPIError.instance(
                        self._sql, None, error, engine.dialect.loaded_dbapi.Error, True, cut, engine.dialect
                    ) from None
            else:
                if found is None:
                    return None
                values = list(found)
                for place, process in self._processors:
                    values[place] = process(values[place])
                return values
            finally:
                if connection is not None:
                    connection.close()
        raise AssertionError("the second try returns or raises")


def _dbapi(sql: str) -> Fetch:
    def fetch(connection: PoolProxiedConnection, given: list[str]) -> tuple[Any, ...] | None:
        cursor = connection.cursor()
        cursor.execute(sql, given)
        found: tuple[Any, ...] | None = cursor.fetchone()
        cursor.close()
        return found

    return fetch


_names = count()


def _libpq(sql: str) -> Fetch:
    """By libpq's own call, which sends, waits and receives in one step: psycopg's cursor lets other threads
    in at each of these, and a busy process pays for every such change."""
    from psycopg.adapt import Transformer
    from psycopg.errors import error_from_result
    from psycopg.pq import ExecStatus

    def fetch(connection: PoolProxiedConnection, given: list[str]) -> tuple[Any, ...] | None:
        driver: Any = connection.driver_connection
        values = [value.encode() for value in given]
        name, transformer = connection.info.get(sql) or (b"", None)
        if transformer is None:
            name, transformer = b"lookup_%d" % next(_names), Transformer(driver)
            if driver.prepare_threshold is None:
                name = b""  # nothing is to stay on the server: another's connection may be there next
            elif (result := driver.pgconn.prepare(name, sql.encode())).status != ExecStatus.COMMAND_OK:
                raise error_from_result(result)
            connection.info[sql] = name, transformer
        if name:
            result = driver.pgconn.exec_prepared(name, values)
        else:
            result = driver.pgconn.exec_params(sql.encode(), values)
        if result.status != ExecStatus.TUPLES_OK:
            raise error_from_result(result)
        transformer.set_pgresult(result)
        rows: list[tuple[Any, ...]] = transformer.load_rows(0, result.ntuples, tuple)
        return rows[0] if rows else None

    return fetch
