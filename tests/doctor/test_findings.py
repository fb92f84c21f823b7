from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from doctor.findings import Check, Look, Verdict, run, summary, worst
from fleet.errors import CAUSES, TeslaError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from doctor.findings import Finding
    from fleet.deadline import Deadline

A, B = Check("a", "A", "why a"), Check("b", "B", "why b")


def test_what_hangs_is_left_behind() -> None:
    forever = threading.Event()

    def hangs(_: Deadline) -> Iterator[Finding]:
        yield A.passes("seen")
        forever.wait()

    began = time.monotonic()
    found = run([Look((A, B), hangs), Look((Check("c", "C", ""),), lambda _: [])], seconds=0.3)
    forever.set()
    assert time.monotonic() - began < 5
    assert [(each.check, each.verdict) for each in found] == [
        ("a", Verdict.PASS),
        ("b", Verdict.UNKNOWN),
        ("c", Verdict.UNKNOWN),
    ]
    assert found[1].seen == "There was no answer in time."


def test_they_work_side_by_side() -> None:
    both = threading.Barrier(2, timeout=5)

    def meets(check: Check) -> Look:
        def work(_: Deadline) -> Iterator[Finding]:
            both.wait()
            yield check.passes("met")

        return Look((check,), work)

    assert worst(run([meets(A), meets(B)])) is Verdict.PASS


def test_a_look_that_breaks_is_not_known() -> None:
    def breaks(_: Deadline) -> Iterator[Finding]:
        yield A.fails("seen", "repair")
        raise RuntimeError("secret")

    first, second = run([Look((A, B), breaks)])
    assert first.verdict is Verdict.FAIL
    assert (second.verdict, second.seen) == (Verdict.UNKNOWN, "Looking at it failed (RuntimeError).")


def test_the_worst_and_the_sentence() -> None:
    good, bad, unknown = A.passes("x."), B.fails("It burns.", "Put it out."), B.cant_know("Dark.")
    assert worst([good, unknown, bad]) is Verdict.FAIL
    assert worst([good, unknown]) is Verdict.UNKNOWN
    assert worst([good]) is Verdict.PASS
    assert summary([good, bad]) == "1 of 2 checks failed. First, “B”: It burns. Put it out."
    assert summary([good]).startswith("All is well")
    assert "can’t be known" in summary([good, unknown])


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("invalid_client", Verdict.FAIL),
        ("wrong_region", Verdict.FAIL),
        ("token_not_accepted", Verdict.FAIL),
        ("tesla_failed", Verdict.UNKNOWN),
        ("rate_limited", Verdict.UNKNOWN),
    ],
)
def test_what_tesla_refuses(code: str, verdict: Verdict) -> None:
    found = A.because(TeslaError(CAUSES[code], status=400))
    assert (found.verdict, found.cause) == (verdict, code)
    assert found.as_dict()["entry"] == f"docs/troubleshooting.md#{code}"
