"""When a grant falls due, and how long to wait after a failure. All in seconds."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

JITTER = 0.1
"""Share of the time until due by which a refresh may come earlier, so that owners who signed in together
drift apart."""

FIRST_WAIT = 2.0
LONGEST_WAIT = 120.0


@dataclass(frozen=True)
class Pacing:
    """`refresh_at` is the share of an access token's life after which it is refreshed, `sweep_seconds` how
    often the sweep looks."""

    refresh_at: float
    sweep_seconds: float
    random: random.Random = field(default_factory=random.SystemRandom)

    def due_after(self, life: float) -> float:
        """Seconds from a token's start to its refresh, for a token that lives `life` seconds.

        A token so short that `refresh_at` would leave no time for three sweeps is refreshed earlier, though
        not before half of its life.
        """
        latest = max(life - 3 * self.sweep_seconds, life / 2)
        return min(life * self.refresh_at, latest) * (1 - JITTER * self.random.random())

    def wait_after(self, failures: int) -> float:
        """How long to wait after so many failures in a row: exponential with full jitter."""
        ceiling = min(FIRST_WAIT * 2 ** min(failures, 16), LONGEST_WAIT)
        return self.random.uniform(0, ceiling)
