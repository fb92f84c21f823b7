"""``evergrant export``: every owner and the state of the grant, for other programs. Never a token.

A refresh token that two programs hold is lost to both as soon as one uses it, so none leaves this way.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from evergrant.refusal import RefusalError
from evergrant.terminal import bar, plain, usable_database

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command()
@click.argument("file", default="-", type=click.Path(dir_okay=False, allow_dash=True))
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "jsonl"]),
    help="Without it: as the file's name ends, else jsonl.",
)
@click.option("--state", type=click.Choice(["alive", "needs_consent", "disconnected"]), help="Only these.")
def export(file: str, kind: str | None, state: str | None) -> None:
    """Write all owners and the states of their grants to FILE, or to stdout.

    No token is among it: a refresh token that two programs hold is lost to both.
    """
    from evergrant.owners import all_grants, described

    kind = kind or ("csv" if file.endswith(".csv") else "jsonl")
    count = 0
    with usable_database(), _opened(file) as out, bar("Owners", None, when=file != "-") as progress:
        writer: Any = None
        for grant in all_grants(state=state):
            row = described(grant)
            if kind == "jsonl":
                out.write(json.dumps(row, default=plain) + "\n")
            else:
                if writer is None:
                    writer = csv.DictWriter(out, list(row), lineterminator="\n")
                    writer.writeheader()
                writer.writerow({name: _cell(value) for name, value in row.items()})
            count += 1
            if progress is not None:
                progress.advance(progress.task_ids[0])
    click.echo(f"{count} {'owner' if count == 1 else 'owners'}.", err=True)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join(value)
    return value if isinstance(value, str) else json.dumps(value, default=plain).strip('"')


@contextmanager
def _opened(file: str) -> Iterator[TextIO]:
    """Stdout, or the file, which is there when all is in it."""
    if file == "-":
        yield sys.stdout
        return
    path = Path(file)
    try:
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w") as out:
                yield out
            Path(draft).replace(path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RefusalError(f"{file} can't be written ({error.strerror}). Name another file.") from None
