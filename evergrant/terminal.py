"""What the commands have in common: the database, tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

import click

from evergrant.refusal import RefusalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.progress import Progress
    from sqlalchemy import Connection

    from evergrant.exits import Exit

_NO_SCREEN = 1000
"""Columns that a table may have where no person reads it."""

as_json = click.option("--json", "as_json", is_flag=True, help="For programs.")


@contextmanager
def usable_database() -> Iterator[None]:
    """Says in words what keeps the database from being used."""
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except DBAPIError as error:
        raise RefusalError(
            f"The database can't be used: {error.orig}. Its address is DATABASE_URL; "
            "`evergrant migrate` brings it to the newest schema."
        ) from None


@contextmanager
def connected(*, writes: bool = False) -> Iterator[Connection]:
    """A connection to the token table."""
    from workers.parts import parts

    with usable_database():
        database = parts().database
        with database.write() if writes else database.read() as connection:
            yield connection


def fail(code: Exit, words: str) -> NoReturn:
    """Ends the command with these words on stderr."""
    click.echo(words, err=True)
    sys.exit(code)


def confirm(question: str, *, yes: bool) -> None:
    """Asks before what can't be undone. Where nobody can answer, `--yes` has to."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise RefusalError(f"{question} Say --yes, since nobody is here to be asked.")
    click.confirm(question, abort=True, err=True)


def print_json(value: Any) -> None:
    """One line of JSON."""
    click.echo(json.dumps(value, default=plain))


def plain(value: object) -> str:
    """What JSON has no form for: times as RFC 3339 has them, in UTC."""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    raise TypeError(type(value).__name__)


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Rows under their heads; not wrapped where no person reads them."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")  # an id is of no use without its end
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else _NO_SCREEN
    Console(width=width, markup=False, highlight=False).print(table)


@contextmanager
def bar(words: str, total: int | None, *, when: bool = True) -> Iterator[Progress | None]:
    """A bar on stderr for what takes long, with one task; None where no person looks."""
    if not when or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True, markup=False, highlight=False)) as progress:
        progress.add_task(words, total=total)
        yield progress
        task = progress.tasks[0]
        progress.update(task.id, total=task.completed)


def when(moment: datetime | None, now: datetime, *, none: str = "") -> str:
    """``3 min ago`` or ``in 5 h 57 min``."""
    from web.words import duration

    if moment is None:
        return none
    seconds = (moment - now).total_seconds()
    return f"in {duration(seconds)}" if seconds > 0 else f"{duration(-seconds)} ago"
