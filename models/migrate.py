"""Brings a database to the tables of this version; run once before the processes start."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x657667  # any number, the same for all: PostgreSQL's advisory lock while migrating


def upgrade(url: str) -> None:
    """Upgrades the database to the newest tables; waits its turn when another process does the same."""
    from alembic import command

    from models.session import Database

    database = Database(url)
    try:
        with database.write() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            command.upgrade(_config(connection), "head")
    finally:
        database.close()


def is_current(connection: Connection) -> bool:
    """Whether the database has exactly this version's tables. Cheap: it does not load Alembic."""
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    try:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    except DBAPIError:
        return False
    return found == head()


def head() -> str:
    """The newest migration's revision: their files are named so that the last in order is the newest."""
    return max(path.stem for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def _config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config
