"""``evergrant import``: moves refresh tokens that another program kept here."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import threading
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from evergrant.exits import Exit
from evergrant.refusal import RefusalError
from evergrant.terminal import as_json, bar, confirm, fail, print_json, print_table, usable_database
from evergrant.token_file import Line, read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

    from workers.importer import Importer, Moved

ALIVE = "alive"
"""As `workers.importer.ALIVE` has it; that is not loaded to show the help."""

RESULTS = {
    "imported": "alive here now",
    "beside": "kept beside the live grant that the owner has here",
    "skipped": "not sent: the owner has a live grant here",
    "double": "the same token as another line",
    "dead": "Tesla does not take it; the owner has to sign in",
    "dropped": "the owner has disconnected here; only a new sign-in brings the grant back",
    "malformed": "not a line with a refresh token",
    "waiting": "not moved yet: run the same command again",
    "usable": "worth a try",
}
"""What can become of a line."""

FLAWED = ("dead", "dropped", "malformed")

WARNING = (
    "Tesla's refresh tokens are single use: Evergrant proves each by using it. From then on the program that "
    "kept it must not use it any more, or both lose the owner. Stop that program first. Go on?"
)


@click.command(name="import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--yes", is_flag=True, help="The other program has stopped using them: do not ask.")
@click.option("--dry-run", is_flag=True, help="Read the file and say what is wrong with it; use no token.")
@click.option("--report", type=click.File("w"), help="Write what became of each line there, as JSON lines.")
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    help="Tokens a second, at most; without it half of REFRESH_RATE, so that refreshes have the other half.",
)
@as_json
def import_(
    file: str, yes: bool, dry_run: bool, report: TextIO | None, rate: float | None, as_json: bool
) -> None:
    """Move the refresh tokens in FILE here, each proven by one refresh.

    FILE is CSV whose first line names the columns, one of them `refresh_token` and, where it is known, one
    `owner`; or JSON lines with these names. `-` is stdin.

    The program that kept the tokens must stop using them: they are single use. No token is used twice,
    however often this is killed and run again with the same file. With --json what became of each line goes
    to stdout.
    """
    from workers.importer import OperatorMustAct

    if not dry_run:
        confirm(WARNING, yes=yes)
    run = Run(report=report, as_json=as_json, total=_count(file))
    try:
        with _opened(file) as lines, usable_database():
            run.go(read(lines, file), None if dry_run else _importer(rate, run.stopping))
    except OperatorMustAct as error:
        run.sum_up()
        fail(
            Exit.OPERATOR,
            f"Stopped: {error.cause.title}. {error.cause.repair} Then run the same command again to go on.",
        )
    run.sum_up()
    if run.stopping.is_set():
        click.echo("Stopped before the end. Run the same command again to go on.", err=True)
    sys.exit(run.code)


def _importer(rate: float | None, stopping: threading.Event) -> Importer:
    from models import imports
    from workers.importer import Importer
    from workers.parts import parts

    with parts().database.write() as connection:
        imports.purge(connection)
    return Importer(parts(), rate=rate or parts().settings.refresh_rate / 2, stopping=stopping)


class Run:
    """One run through the file."""

    def __init__(self, *, report: TextIO | None, as_json: bool, total: int | None) -> None:
        self.stopping = threading.Event()
        self.counts: Counter[str] = Counter()
        self.before = 0
        self._report = report
        self._as_json = as_json
        self._total = total
        self._failure: BaseException | None = None
        self._seen: dict[bytes, int] = {}
        self._bar: Progress | None = None

    def go(self, lines: Iterator[Line], importer: Importer | None) -> None:
        """Handles each line; without an importer it only looks at them. Raises what kept it from going on."""
        with self._signals(), bar("Lines", self._total) as self._bar:
            if importer is None:
                for line in lines:
                    result, detail = self._looked_at(line)
                    self._note(line, result or "usable", detail)
            else:
                self._move(lines, importer)
        if self._failure is not None:
            raise self._failure

    def _move(self, lines: Iterator[Line], importer: Importer) -> None:
        from workers.parts import parts

        threads = parts().settings.worker_concurrency
        under_way: dict[Future[Moved], Line] = {}
        with ThreadPoolExecutor(threads, thread_name_prefix="import") as pool:
            for line in lines:
                result, detail = self._looked_at(line)
                if result:
                    self._note(line, result, detail)
                    continue
                while len(under_way) >= 2 * threads:
                    self._collect(under_way, importer)
                if self.stopping.is_set():
                    break
                under_way[pool.submit(importer.move, line.token, owner=line.owner)] = line
            while under_way:
                self._collect(under_way, importer)

    def _looked_at(self, line: Line) -> tuple[str, str]:
        """What becomes of a line by itself; empty when its token is worth a try."""
        from models.imports import digest

        if line.problem:
            return "malformed", line.problem
        first = self._seen.setdefault(bytes.fromhex(digest(line.token)), line.number)
        return ("double", f"the same token as line {first}") if first != line.number else ("", "")

    def _collect(self, under_way: dict[Future[Moved], Line], importer: Importer) -> None:
        done, _ = wait(under_way, timeout=0.5, return_when=FIRST_COMPLETED)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=importer.waits_for or "Lines")
        for future in done:
            line = under_way.pop(future)
            error = future.exception()
            if error is not None:
                self._failure = self._failure or error
                self.stopping.set()
                continue
            moved = future.result()
            result = "skipped" if moved.reason == ALIVE else moved.fate.value
            self._note(line, result, moved.detail or "", moved)

    def _note(self, line: Line, result: str, detail: str, moved: Moved | None = None) -> None:
        self.counts[result] += 1
        before = moved is not None and moved.before
        self.before += before
        row: dict[str, Any] = {
            "line": line.number,
            "result": result,
            "owner": moved.owner if moved else line.owner,
            "reason": moved.reason if moved else None,
            "detail": detail or None,
            "before": before,
        }
        if self._report is not None:
            self._report.write(json.dumps(row) + "\n")
            self._report.flush()
        if self._as_json:
            print_json(row)
        elif result in {*FLAWED, "waiting"}:
            say = click.echo if self._bar is None else self._bar.console.print
            say(f"line {line.number}: {result}: {detail or RESULTS[result]}")
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0])

    def sum_up(self) -> None:
        """Says what became of all."""
        if self._as_json:
            print_json({"summary": dict(self.counts), "before": self.before})
            return
        counted = [(result, words) for result, words in RESULTS.items() if self.counts[result]]
        print_table(
            ("Lines", "Result", ""), [(str(self.counts[result]), result, words) for result, words in counted]
        )
        if self.before:
            click.echo(f"{self.before} of them were settled in an earlier run.")

    @property
    def code(self) -> Exit:
        if self.stopping.is_set() or self.counts["waiting"]:
            return Exit.LATER
        return Exit.FAILED if any(self.counts[result] for result in FLAWED) else Exit.DONE

    # --- around it --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM let what is under way end; a second Ctrl-C does not wait for it."""

        def stop(number: int, _frame: object) -> None:
            if self.stopping.is_set() and number == signal.SIGINT:
                os._exit(130)
            self.stopping.set()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _opened(file: str) -> Iterator[TextIO]:
    if file == "-":
        yield io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="replace")
        return
    try:
        # What is not UTF-8 is no token, and is said of its own line only.
        with Path(file).open(encoding="utf-8-sig", errors="replace") as lines:
            yield lines
    except OSError as error:
        raise RefusalError(f"{file} can't be read ({error.strerror}). Name another file.") from None


def _count(file: str) -> int | None:
    if file == "-":
        return None
    with Path(file).open("rb") as lines:
        return sum(1 for _ in lines)
