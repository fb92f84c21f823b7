"""What a look finds: *pass*, *fail* or *can't know*, each within its time, whatever hangs."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from fleet.deadline import Deadline
from fleet.errors import CAUSES, Actor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fleet.errors import TeslaError

SECONDS = 5.0
"""All looks together: with what starting and printing take on a busy machine, ten."""


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    UNKNOWN = "can't know"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`seen` is what was found, `why` why it matters, `repair` what to do about it (empty where all is well).
    `cause` is a code of `fleet.errors.CAUSES`, where the table has one for it. `details` are pairs of a label
    and a text to be shown word for word."""

    check: str
    title: str
    verdict: Verdict
    seen: str
    why: str
    repair: str = ""
    cause: str | None = None
    details: tuple[tuple[str, str], ...] = ()
    differ: tuple[str, str] | None = None
    """Ours and the other, which should be equal to the letter."""

    @property
    def entry(self) -> str:
        """Where the whole story of its cause is; empty where it has none."""
        return CAUSES[self.cause].entry if self.cause in CAUSES else ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "check": self.check,
            "title": self.title,
            "verdict": self.verdict.value,
            "seen": self.seen,
            "why": self.why,
            "repair": self.repair,
            "cause": self.cause,
            "entry": self.entry,
            "details": dict(self.details),
        }


@dataclass(frozen=True)
class Check:
    """Something to look at. `name` is stable, `title` is what holds when it passes."""

    name: str
    title: str
    why: str

    def passes(self, seen: str, *details: tuple[str, str]) -> Finding:
        return self._found(Verdict.PASS, seen, details=details)

    def fails(
        self,
        seen: str,
        repair: str,
        *details: tuple[str, str],
        cause: str | None = None,
        differ: tuple[str, str] | None = None,
    ) -> Finding:
        return self._found(Verdict.FAIL, seen, repair=repair, details=details, cause=cause, differ=differ)

    def cant_know(
        self, seen: str, repair: str = "", *details: tuple[str, str], cause: str | None = None
    ) -> Finding:
        return self._found(Verdict.UNKNOWN, seen, repair=repair, details=details, cause=cause)

    def because(self, error: TeslaError, *details: tuple[str, str]) -> Finding:
        """What Tesla's refusal means for this: a failure or, where Tesla fails, that it can't be known."""
        cause = error.cause
        if cause.actor is Actor.WAIT and cause.code not in {"wrong_region", "token_not_accepted"}:
            return self.cant_know(f"{error}.", cause.repair, *details, cause=cause.code)
        return self.fails(f"{error}.", cause.repair, *details, cause=cause.code)

    def _found(self, verdict: Verdict, seen: str, **more: Any) -> Finding:
        return Finding(check=self.name, title=self.title, verdict=verdict, seen=seen, why=self.why, **more)


@dataclass(frozen=True)
class Look:
    """One thing that is done to find out about `checks`. `work` yields a finding for each as it comes to it,
    and may hang or raise: what it has not found is then not known."""

    checks: tuple[Check, ...]
    work: Callable[[Deadline], Iterable[Finding]] = field(repr=False)


def run(looks: Sequence[Look], seconds: float = SECONDS) -> list[Finding]:
    """All findings, in the order of the looks and their checks. They work side by side; who has not ended in
    time is left behind."""
    deadline = Deadline(seconds)
    found: dict[str, Finding] = {}
    done: queue.SimpleQueue[Finding | None] = queue.SimpleQueue()
    for look in looks:
        # Not a pool: its threads would be waited for when this process ends.
        threading.Thread(target=_work, args=(look, seconds - 0.5, done), name="doctor", daemon=True).start()
    left = len(looks)
    while left:
        try:
            finding = done.get(timeout=deadline.remaining)
        except queue.Empty:
            break
        if finding is None:
            left -= 1
        else:
            found[finding.check] = finding
    return [found.get(check.name) or check.cant_know(_LATE) for look in looks for check in look.checks]


_LATE = "There was no answer in time."


def _work(look: Look, seconds: float, done: queue.SimpleQueue[Finding | None]) -> None:
    names = {check.name for check in look.checks}
    try:
        for finding in look.work(Deadline(seconds)):
            names.discard(finding.check)
            done.put(finding)
    except Exception as error:  # a look that breaks is not the installation's fault
        for check in look.checks:
            if check.name in names:
                done.put(check.cant_know(f"Looking at it failed ({type(error).__name__})."))
    finally:
        done.put(None)


def worst(findings: Iterable[Finding]) -> Verdict:
    """What decides the exit code."""
    verdicts = {finding.verdict for finding in findings}
    return next((bad for bad in (Verdict.FAIL, Verdict.UNKNOWN) if bad in verdicts), Verdict.PASS)


def summary(findings: Sequence[Finding]) -> str:
    """How the whole is, in one sentence."""
    failed = [finding for finding in findings if finding.verdict is Verdict.FAIL]
    unknown = [finding for finding in findings if finding.verdict is Verdict.UNKNOWN]
    if failed:
        first = f"First, “{failed[0].title}”: {failed[0].seen} {failed[0].repair}"
        return f"{len(failed)} of {len(findings)} checks failed. {first}"
    if unknown:
        return f"Nothing failed; {len(unknown)} of {len(findings)} can’t be known from here."
    return f"All is well: {len(findings)} checks passed."
