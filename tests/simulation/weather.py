"""What breaks in a schedule, and which readings of Tesla hold in it.

Each schedule has faults of a few kinds only, often many of them: rare combinations come up sooner that way
than with a little of everything.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from workers.steps import Step

if TYPE_CHECKING:
    from collections import Counter

    from tests.simulation.choices import Choices

PLACES = (
    *(str(step) for step in Step),
    "table",
    "committed",
    "sent",
    "fsync",
    "redis",
    "forget",
    "asleep",
    "coming back",
    "exchanging",
    "signed in",
)
"""Where an actor that is at work may pause."""

HOTTEST = (
    *PLACES,
    *("written", "connected", "sent", "answered", "sent", "answered", "table", "committed") * 4,
)
"""Where schedules have faults most often: around the call to Tesla and what is stored of it."""

STOPS = (3.0, 14.5, 17.0, 40.0, 70.0)
"""For how many seconds a process is stopped: within its deadline, at its edge, past it, and past the lock."""

OUTAGES = (1.0, 10.0, 20.0, 60.0)

WORLD_EVENTS = ("wipe", "redis away", "table away", "disk full", "jump")

BEFORE = ("503", "429", "invalid_client", "request lost")
AFTER = ("silence", "cut", "cut behind the refresh token", "503 afterwards", "HTML", "not rotated")


class Weather:
    """Drawn from the seed alone, so that taking decisions out of a schedule does not change it."""

    def __init__(self, seed: int, choices: Choices, counts: Counter[str]) -> None:
        draw = random.Random(f"weather {seed}")
        self.strict = draw.random() < 0.25
        self.reuse_kills = draw.random() < 0.5
        self.sign_in_revokes = draw.random() < 0.5
        self.token_life = draw.choice((60, 300, 300, 28800))
        self.without_breaker = draw.random() < 0.5
        self.calm = draw.random() < 0.08  # nothing breaks, tasks are still sent twice
        self.pacing = random.Random(f"pacing {seed}")
        self.ids = random.Random(f"ids {seed}")
        self.ticks = draw.choice((30, 60, 100))
        self.over = False  # from now on nothing breaks

        def some(kinds: tuple[str, ...], share: float) -> tuple[str, ...]:
            return tuple(kind for kind in kinds if draw.random() < share)

        self.events = some(WORLD_EVENTS, 0.4) + some(("withdraw",), 0.1)
        self.event_share = draw.choice((0.01, 0.03, 0.08))
        self.kill_share = draw.choice((0.0, 0.0, 0.01, 0.04))
        self.stop_share = draw.choice((0.0, 0.0, 0.02, 0.06, 0.15))
        self.hot = {
            place: draw.choice(("kill", "stop", "either"))
            for place in draw.sample(HOTTEST, draw.choice((0, 1, 2)))
        }
        self.sweeps_struck = draw.random() < 0.2
        self.strikes = draw.choice((2, 4, 8))  # kills and stops
        self.fates = some(BEFORE + AFTER, 0.35)
        self.fate_share = draw.choice((0.0, 0.2, 0.5)) if self.fates else 0.0
        self.slow_share = draw.choice((0.0, 0.0, 0.1, 0.3))
        self.unreachable_share = draw.choice((0.0, 0.0, 0.1))
        self.refusal_share = draw.choice((0.0, 0.0, 0.05, 0.3))
        self.refusals = some(("before", "after", "killed before", "killed after"), 0.5)
        self.hang_share = draw.choice((0.0, 0.0, 0.0, 0.05))
        self.task_share = draw.choice((0.2, 0.4))
        self.owner_acts = draw.choice((0, 0, 0, 1, 2))
        self.owner_clicks = draw.choice((0, 0, 1, 2))
        self.two_sweeps = draw.random() < 0.3
        self.slow_drain = draw.choice((1.0, 1.0, 10.0, 60.0))
        self.operator_acts = draw.choice((0, 0, 0, 1, 2))
        self.two_tabs = draw.random() < 0.5
        self._choices = choices
        self._counts = counts

    @property
    def broken(self) -> bool:
        """Whether things break now."""
        return not (self.calm or self.over)

    def reading(self) -> str:
        """In words."""
        return ", ".join(
            (
                "strict" if self.strict else "24 h grace",
                "re-use kills the lost answer" if self.reuse_kills else "re-use leaves the lost answer",
                "a sign-in revokes the older family" if self.sign_in_revokes else "families are apart",
            )
        )

    # --- Tesla's ------------------------------------------------------------------------------------

    def unreachable(self) -> bool:
        if not self.broken or not self.unreachable_share or not self._choices.chance(self.unreachable_share):
            return False
        self._counts["unreachable"] += 1
        return True

    def fate_of_a_call(self, *, fresh: bool) -> str:
        """What happens to a call; "" is a genuine answer. A token that has been used is always rotated."""
        if not self.broken or not self.fate_share or not self._choices.chance(self.fate_share):
            return ""
        fate = self.fates[self._choices.below(len(self.fates))]
        if fate == "not rotated" and not fresh:
            return ""
        self._counts[f"Tesla: {fate}"] += 1
        return fate

    def way_there(self) -> int:
        return self._way("slow before")

    def way_back(self) -> int:
        return self._way("slow after")

    def _way(self, name: str) -> int:
        """Milliseconds."""
        if not self.broken or not self.slow_share or not self._choices.chance(self.slow_share):
            return 100
        self._counts[f"Tesla: {name}"] += 1
        return (2_000, 14_000, 16_000, 40_000)[self._choices.below(4)]

    # --- the table's --------------------------------------------------------------------------------

    def refusal(self) -> str:
        """What happens to a commit; "" is nothing."""
        if not self.broken or not self.refusals or not self._choices.chance(self.refusal_share):
            return ""
        kind = self.refusals[self._choices.below(len(self.refusals))]
        self._counts[f"commit: {kind}"] += 1
        return kind

    def hang(self) -> int:
        """For how many milliseconds the table does not answer, the thread that asks and nobody else."""
        if not self.broken or not self.hang_share or not self._choices.chance(self.hang_share):
            return 0
        self._counts["the table hangs"] += 1
        return (2_000, 14_000, 18_000, 40_000)[self._choices.below(4)]

    # --- the scheduler's ----------------------------------------------------------------------------

    def strike(self, place: str) -> str:
        """What hits an actor that pauses there: "", "kill" or "stop"."""
        if not self.broken or not self.strikes:
            return ""
        kind = self.hot.get(place)
        if kind is not None and self._choices.chance(0.5):
            if kind == "either":
                kind = ("kill", "stop")[self._choices.below(2)]
        elif self.kill_share and self._choices.chance(self.kill_share):
            kind = "kill"
        elif self.stop_share and self._choices.chance(self.stop_share):
            kind = "stop"
        else:
            return ""
        self.strikes -= 1
        self._counts[f"{kind} at {place}"] += 1
        return kind

    def stop_seconds(self) -> float:
        return STOPS[self._choices.below(len(STOPS))]

    def outage_seconds(self) -> float:
        return OUTAGES[self._choices.below(len(OUTAGES))]

    def event(self) -> str:
        """What befalls the world in this tick; "" is nothing."""
        if not self.broken or not self.events or not self._choices.chance(self.event_share):
            return ""
        kind = self.events[self._choices.below(len(self.events))]
        self._counts[kind] += 1
        return kind

    def task(self) -> str:
        """What happens to a task on its way: "", "twice", "late" or "lost". Tasks may come twice whatever the
        weather."""
        if self.over or not self._choices.chance(self.task_share):
            return ""
        kind = "twice" if self.calm else ("twice", "late", "lost")[self._choices.below(3)]
        self._counts[f"task {kind}"] += 1
        return kind
