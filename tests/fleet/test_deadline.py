from __future__ import annotations

import sys
import time

import pytest

from fleet import deadline as module
from fleet.deadline import Deadline, DeadlinePassed


def test_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(module, "_now", lambda: now)
    deadline = Deadline(2)
    assert deadline.remaining == 2
    deadline.check()
    now += 1.5
    assert (deadline.remaining, deadline.passed) == (0.5, False)
    now += 0.5
    assert (deadline.remaining, deadline.passed) == (0, True)
    now += 5
    assert deadline.remaining == 0
    with pytest.raises(DeadlinePassed):
        deadline.check()


def test_none_and_less_than_none_have_passed() -> None:
    assert Deadline(0).passed
    assert Deadline(-1).passed


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the time that a machine sleeps")
def test_the_clock_counts_the_time_that_the_machine_sleeps() -> None:
    assert module._now() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=1)
