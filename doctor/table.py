"""The token table, for looking only: where it is not there, none is made."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from models import migrate
from models.session import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from settings import Settings


class NoTable(Exception):
    """It can't be read; the message says why, `repair` what to do."""

    def __init__(self, why: str, repair: str) -> None:
        super().__init__(why)
        self.repair = repair


@contextmanager
def table(settings: Settings) -> Iterator[Database]:
    """The database, of this version. Raises `NoTable`, also for what fails in the block."""
    file = settings.database.removeprefix("sqlite:///")
    if file != settings.database and not Path(file).exists():
        raise NoTable(
            f"There is no {file} yet.", "Run `make migrate`, or `make up`, which does it by itself."
        )
    try:
        database = Database(settings.database, pool_size=1)
    except (ArgumentError, NoSuchModuleError):
        raise NoTable(
            "`DATABASE_URL` is not a URL that SQLAlchemy knows.", "Set it right and restart."
        ) from None
    try:
        with database.read() as connection:
            current = migrate.is_current(connection)
        if not current:
            raise NoTable("It is not migrated to this version.", "Run `make migrate`.")
        yield database
    except SQLAlchemyError as error:
        # The driver's own words name host, user and reason, and never the password.
        why = str(getattr(error, "orig", None) or type(error).__name__).strip().splitlines()[0]
        raise NoTable(
            f"It can’t be reached: {why}.", "Start it, or set `DATABASE_URL` right and restart."
        ) from None
    finally:
        database.close()
