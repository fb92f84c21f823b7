"""The decisions of a schedule: drawn from a seed, written down, replayed."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
MOST = len(_DIGITS)
"""The most ways that one decision may have."""


class Choices:
    """Each decision is a number; 0 is the dullest way to go on.

    `given` are decisions to take instead of the seed's; behind their end all are 0.
    """

    def __init__(self, seed: int, given: Sequence[int] | None = None) -> None:
        self.taken: list[int] = []
        self._random = random.Random(seed)
        self._given = given

    def below(self, ways: int) -> int:
        """0 to `ways` - 1, each as likely; at most `MOST`."""
        assert ways <= MOST, ways
        value = int(self._random.random() * ways) if self._given is None else min(self._next(), ways - 1)
        self.taken.append(value)
        return value

    def chance(self, share: float) -> bool:
        """True in `share` of all cases."""
        value = self._random.random() < share if self._given is None else self._next() > 0
        self.taken.append(int(value))
        return value

    def _next(self) -> int:
        assert self._given is not None
        position = len(self.taken)
        return self._given[position] if position < len(self._given) else 0


def write(decisions: Sequence[int]) -> str:
    """Decisions as text: a digit each, long runs of zeros as ``~length.``, none at the end."""
    digits = "".join(_DIGITS[value] for value in decisions).rstrip("0")
    return re.sub("0{5,}", lambda run: f"~{len(run[0])}.", digits)


def read(text: str) -> list[int]:
    """The decisions that `write` wrote. Raises ValueError."""
    digits = re.sub(r"~(\d+)\.", lambda run: "0" * int(run[1]), text)
    return [_DIGITS.index(digit) for digit in digits]
