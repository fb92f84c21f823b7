"""The simulation itself: it finds nothing in the protocol, and it finds what is taken out of it."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.simulation import choices
from tests.simulation.mutations import PARTS, without
from tests.simulation.schedule import Stage
from tests.simulation.shrink import shrink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.schedule import Run

ROOT = Path(__file__).parents[2]
SCHEDULES = 300
LONGEST_SEARCH = 3000


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage() as stage, _rare_collections():
        yield stage


@contextmanager
def _rare_collections() -> Iterator[None]:
    """All that pytest and its plugins hold is not looked through again and again: half of the time."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _first_broken(stage: Stage) -> Run:
    for seed in range(1, LONGEST_SEARCH + 1):
        run = stage.run(seed)
        if run.broken is not None:
            return run
    pytest.fail(f"{LONGEST_SEARCH} schedules found nothing")


def test_no_promise_breaks_and_the_faults_do_strike(stage: Stage) -> None:
    counts: Counter[str] = Counter()
    for seed in range(1, SCHEDULES + 1):
        run = stage.run(seed, counts)
        assert run.broken is None, f"schedule {seed}: {run.broken}"

    struck = {name.partition(" at ")[0].partition(":")[0] for name in counts}
    assert {
        "kill",
        "stop",
        "wipe",
        "redis away",
        "table away",
        "disk full",
        "commit",
        "Tesla",
        "jump",
    } <= struck
    assert counts["event: refreshed"] > SCHEDULES
    assert counts["event: spare_kept"] > 0
    readings = [name for name in counts if name.startswith("reading: ")]
    assert len(readings) == 8


@pytest.mark.parametrize("part", PARTS)
def test_a_part_taken_out_is_found(stage: Stage, part: str) -> None:
    with without(part):
        run = _first_broken(stage)
    assert run.broken is not None
    assert stage.run(run.seed).broken is None, "the promise is broken with the part in place, too"


def test_a_schedule_replays_to_the_same_end() -> None:
    seeds = range(1, 40)
    with Stage() as stage:
        first = {seed: stage.run(seed) for seed in seeds}
    with Stage() as another:
        for seed in reversed(seeds):
            decisions = choices.read(choices.write(first[seed].decisions))
            again = another.run(seed, decisions=decisions, traced=True)
            assert again.digest == first[seed].digest, f"schedule {seed}"
            assert again.trace == another.run(seed, traced=True).trace
    assert first[1].digest != first[2].digest


def test_a_shorter_schedule_breaks_the_same_promise(stage: Stage) -> None:
    with without("lock"):
        run = _first_broken(stage)
        assert run.broken is not None
        number = run.broken.number

        def still_breaks(decisions: list[int]) -> bool:
            broken = stage.run(run.seed, decisions=decisions).broken
            return broken is not None and broken.number == number

        shorter = shrink(run.decisions, still_breaks, seconds=3)
        assert still_breaks(shorter)
        assert sum(map(bool, shorter)) < sum(map(bool, run.decisions))


def test_what_is_printed_about_a_broken_promise_can_be_replayed() -> None:
    def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tests.simulation", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    found = simulate("--schedules", "100", "--processes", "1", "--without", "lock", "--shrink-seconds", "1")
    assert found.returncode == 1, found.stderr
    (schedule,) = re.findall(r"--replay '(.+)' --without lock$", found.stdout, re.MULTILINE)
    (end,) = re.findall(r"^End: (\w+)$", found.stdout, re.MULTILINE)

    replayed = simulate("--replay", schedule, "--without", "lock")
    assert replayed.returncode == 1
    assert f"End: {end}\nBROKEN promise 7" in replayed.stdout
    assert simulate("--replay", schedule).returncode == 0, "with the lock in place nothing breaks"


@pytest.mark.parametrize("decisions", [[], [0, 0], [3, 0, 0, 1], [0] * 12 + [35] + [0] * 5 + [1]])
def test_decisions_survive_being_written(decisions: list[int]) -> None:
    read = choices.read(choices.write(decisions))
    assert read == decisions[: len(read)]
    assert not any(decisions[len(read) :])
