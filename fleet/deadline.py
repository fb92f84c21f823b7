"""One total deadline for a call, which nothing on the way can stretch."""

from __future__ import annotations

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)


def _now() -> float:
    """Seconds on a clock that never jumps and, on Linux, goes on while the machine sleeps."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


class DeadlinePassed(Exception):
    """The time for a call is over."""

    def __init__(self, message: str = "the deadline has passed") -> None:
        super().__init__(message)


class Deadline:
    """A point in time, `seconds` from now.

    Reads CLOCK_BOOTTIME where there is one, because a machine that slept has lost that time too: a lock
    elsewhere ran on.
    """

    __slots__ = ("_end",)

    def __init__(self, seconds: float) -> None:
        self._end = _now() + seconds

    @property
    def remaining(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self._end - _now())

    @property
    def passed(self) -> bool:
        """True from the end on."""
        return _now() >= self._end

    def check(self) -> None:
        """Raises `DeadlinePassed` from the end on, else does nothing."""
        if self.passed:
            raise DeadlinePassed

    def __repr__(self) -> str:
        return f"Deadline({self.remaining:.3f} s left)"
