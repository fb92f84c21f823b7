"""The database's schema, brought to the newest before anything uses it."""

from __future__ import annotations

import contextlib
import sqlite3
from urllib.parse import quote

from evergrant.refusal import RefusalError


def bring_up_to_date(url: str) -> bool:
    """Migrate the database at `url` (SQLAlchemy's spelling); True when there was something to do.

    Raises `RefusalError` when the database can't be reached. Imports no Alembic while there is nothing to do.
    """
    from models import migrate

    if _sqlite_revision(url) == migrate.head():
        return False

    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError

    from models.session import Database

    try:
        database = Database(url)
        try:
            with database.read() as connection:
                if migrate.is_current(connection):
                    return False
        finally:
            database.close()
        _upgrade(url)
    except (ArgumentError, NoSuchModuleError):
        raise RefusalError(
            "DATABASE_URL is not a URL that SQLAlchemy knows, like postgresql://user:password@host/name."
        ) from None
    except OperationalError as error:
        # The driver's own words name host, user and reason, and never the password.
        raise RefusalError(
            f"The database can't be used: {error.orig}. Its address is DATABASE_URL."
        ) from None
    return True


def _upgrade(url: str) -> None:
    from alembic.util import CommandError

    from models import migrate

    try:
        migrate.upgrade(url)
    except CommandError:
        raise RefusalError(
            "The database was made by a newer version of Evergrant. Run that version, "
            "or set DATABASE_URL to another database."
        ) from None


def _sqlite_revision(url: str) -> str:
    """The revision in an SQLite file, read without SQLAlchemy, whose import takes longer; else empty."""
    path = url.removeprefix("sqlite:///")
    if path == url:
        return ""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as connection,
    ):
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else ""
    return ""
