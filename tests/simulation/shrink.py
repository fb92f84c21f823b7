"""Makes a schedule that breaks a promise shorter, as long as it breaks the same one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def shrink(decisions: list[int], still_breaks: Callable[[list[int]], bool], *, seconds: float) -> list[int]:
    """Fewer decisions other than 0 that still do it; the best found within `seconds`."""
    until = time.monotonic() + seconds
    best = _trimmed(decisions)

    def attempt(shorter: list[int]) -> bool:
        nonlocal best
        shorter = _trimmed(shorter)
        if shorter == best or time.monotonic() > until or not still_breaks(shorter):
            return False
        best = shorter
        return True

    size = max(len(best) // 2, 1)
    while size and time.monotonic() < until:
        changed = False
        start = 0
        while start < len(best) and time.monotonic() < until:
            piece = best[start : start + size]
            # Taken out, what follows moves up; set to 0, it stays where it is.
            if attempt(best[:start] + best[start + size :]) or (
                any(piece) and attempt(best[:start] + [0] * len(piece) + best[start + size :])
            ):
                changed = True
            else:
                start += size
        if not changed or size > 1:
            size = size // 2 if size > 1 or not changed else 1
    return best


def _trimmed(decisions: list[int]) -> list[int]:
    end = len(decisions)
    while end and not decisions[end - 1]:
        end -= 1
    return decisions[:end]
