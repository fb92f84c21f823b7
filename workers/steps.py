"""The named steps of the refresh protocol: where the tests kill, freeze and reorder it.

In production nothing listens, and a step costs a comparison.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Step(StrEnum):
    """In the order in which a refresh reaches them."""

    LOCKED = "locked"  # the owner's Redis lock is held, or Redis is away
    ADMITTED = "admitted"  # breaker and rate allow it
    WRITTEN = "written"  # the attempt is committed; nothing is sent yet
    DRAINED = "drained"  # the escrow holds nothing more of this owner's
    CONNECTED = "connected"  # a connection stands; the deadline is looked at next, then the request is sent
    ANSWERED = "answered"  # Tesla's answer is here and nowhere durable yet
    ESCROWED = "escrowed"  # SQL refused it; it is in the escrow
    SETTLED = "settled"  # the answer is committed
    ENDED = "ended"  # it brought no answer; that is committed
    UNLOCKED = "unlocked"


listener: Callable[[Step, str], None] | None = None


def reached(step: Step, owner: str) -> None:
    if listener is not None:
        listener(step, owner)
