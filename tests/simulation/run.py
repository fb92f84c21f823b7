"""Plays many schedules, on all cores; exits with 1 when a promise broke."""

# ruff: noqa: T201 - it talks to a terminal
from __future__ import annotations

import argparse
import atexit
import gc
import multiprocessing
import os
import shutil
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.simulation import choices
from tests.simulation.mutations import PARTS, without
from tests.simulation.schedule import Stage
from tests.simulation.shrink import shrink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.schedule import Run

CHUNK = 100
EVERY = 5.0
"""Seconds between two lines of progress."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000, help="how many; default 10000")
    parser.add_argument("--seed", type=int, default=1, help="of the first; the next has the next number")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: one a core")
    parser.add_argument(
        "--replay", metavar="SCHEDULE", help="a schedule as it was printed: play it, step by step"
    )
    parser.add_argument("--without", choices=PARTS, help="take this part out of the protocol")
    parser.add_argument(
        "--shrink-seconds", type=float, default=30, help="to make a schedule shorter; default 30"
    )
    given = parser.parse_args(arguments)
    if given.replay is not None:
        return _replay(given.replay, given.without)
    return _play_many(given)


# --- one -------------------------------------------------------------------------------------------------


def written(seed: int, decisions: list[int] | None) -> str:
    """A schedule as text, for `--replay`: its seed, and its decisions where they are not the seed's."""
    return str(seed) if decisions is None else f"{seed}:{choices.write(decisions)}"


def read(schedule: str) -> tuple[int, list[int] | None]:
    """Seed and decisions of a `written` schedule. Raises ValueError."""
    seed, colon, decisions = schedule.partition(":")
    return int(seed), choices.read(decisions) if colon else None


def _replay(schedule: str, part: str | None) -> int:
    seed, decisions = read(schedule)
    with ExitStack() as stack:
        stage = stack.enter_context(Stage())
        if part is not None:
            stack.enter_context(without(part))
        run = stage.run(seed, decisions=decisions, traced=True)
        print(f"Reading: {stage.reading}.")
    _show(run)
    return int(run.broken is not None)


def _show(run: Run) -> None:
    print("\n".join(run.trace))
    print(f"End: {run.digest}")
    print(f"BROKEN {run.broken}" if run.broken else "No promise was broken.")


# --- many ------------------------------------------------------------------------------------------------


def _play_many(given: argparse.Namespace) -> int:
    started = time.monotonic()
    counts: Counter[str] = Counter()
    broken: int | None = None
    shown = started
    end = given.seed + given.schedules
    chunks = [(start, min(start + CHUNK, end), given.without) for start in range(given.seed, end, CHUNK)]
    # Fresh interpreters: a forked one would carry this one's SQLite connections along.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(given.processes, len(chunks)), context, initializer=_prepare) as pool:
        for found, failed in pool.map(_play, chunks):
            counts.update(found)
            if failed is not None:
                broken = failed
                pool.shutdown(wait=False, cancel_futures=True)
                break
            if time.monotonic() - shown > EVERY:
                shown = time.monotonic()
                done, seconds = counts["schedules"], shown - started
                left = (given.schedules - done) * seconds / done
                print(
                    f"{done} of {given.schedules} schedules, {done / seconds:.0f}/s, {left:.0f} s left",
                    flush=True,
                )
    _table(counts, time.monotonic() - started)
    if broken is None:
        print(f"No promise was broken in {counts['schedules']} schedules.")
        return 0
    _explain(broken, given)
    return 1


_stage: Stage | None = None


def _prepare() -> None:
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    global _stage
    _stage = Stage()
    _stage.__enter__()
    atexit.register(_stage.__exit__, None, None, None)
    gc.freeze()
    gc.disable()  # it is told when, below


def _end_with_the_parent() -> None:
    """A child whose parent was killed would wait for its next work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        if _stage is not None:
            shutil.rmtree(_stage.folder, ignore_errors=True)
        os._exit(1)


def _play(chunk: tuple[int, int, str | None]) -> tuple[Counter[str], int | None]:
    start, end, part = chunk
    assert _stage is not None
    counts: Counter[str] = Counter()
    failed = None
    with ExitStack() as stack:
        if part is not None:
            stack.enter_context(without(part))
        for seed in range(start, end):
            if _stage.run(seed, counts).broken is not None:
                failed = seed
                break
    gc.collect()
    return counts, failed


def _explain(seed: int, given: argparse.Namespace) -> None:
    """Prints the schedule that broke a promise, shorter if that can be done."""
    part = given.without
    with ExitStack() as stack:
        stage = stack.enter_context(Stage())
        if part is not None:
            stack.enter_context(without(part))
        run = stage.run(seed)
        if run.broken is None:
            print(f"Schedule {seed} broke a promise in another process and does not here.")
            return
        number = run.broken.number
        print(f"BROKEN {run.broken}\nSchedule: {written(seed, None)}")

        def still_breaks(decisions: list[int]) -> bool:
            broken = stage.run(seed, decisions=decisions).broken
            return broken is not None and broken.number == number

        shortest = shrink(run.decisions, still_breaks, seconds=given.shrink_seconds)
        run = stage.run(seed, decisions=shortest, traced=True)
        print(f"The shortest found that breaks promise {number} too, under this reading: {stage.reading}.\n")
        _show(run)
        again = f"--replay '{written(seed, shortest)}'" + (f" --without {part}" if part else "")
        print(f"Again: python -m tests.simulation {again}")


def _table(counts: Counter[str], seconds: float) -> None:
    rate = counts["schedules"] / seconds
    print(f"\n{counts['schedules']} schedules in {seconds:.0f} s, {rate:.0f}/s\n")
    for title, lines in _groups(counts):
        print(title)
        for name, number in lines:
            print(f"  {number:>10}  {name}")


def _groups(counts: Counter[str]) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """The counts under headings: what is in front of a name's colon, or of its " at "."""
    whole = ("schedules", "steps", "calls")
    yield "in all", [(name, counts[name]) for name in whole]
    groups: dict[str, list[tuple[str, int]]] = {}
    for name, number in sorted((name, number) for name, number in counts.items() if name not in whole):
        heading, separator, below = name.partition(": ")
        if not separator:
            heading, separator, below = name.partition(" at ")
        if not separator:
            heading, below = "other", name
        groups.setdefault(heading, []).append((below, number))
    yield from groups.items()
