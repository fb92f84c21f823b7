"""Orders to die or to stand still at a named step, which whatever process comes there first carries out.

An order is a file, so that it survives every process and needs nothing that the storm strikes.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

KILL, STOP = "kill", "stop"


@dataclass(frozen=True)
class Order:
    number: int
    step: str
    action: str  # KILL or STOP

    @property
    def name(self) -> str:
        return f"{self.number:05d}.{self.step}.{self.action}"

    @classmethod
    def named(cls, name: str) -> Order:
        number, step, action = name.split(".")
        return cls(int(number), step, action)


class Orders:
    """The folder that they wait in; made when missing."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._numbers = itertools.count(1)

    def give(self, step: str, action: str) -> Order:
        order = Order(next(self._numbers), step, action)
        (self._folder / order.name).touch()
        return order

    def take(self, step: str, actions: tuple[str, ...]) -> Order | None:
        """The oldest order for this step, which nobody else gets then."""
        for name in sorted(os.listdir(self._folder)):  # noqa: PTH208 - names are all that is needed
            order = Order.named(name)
            if order.step == step and order.action in actions:
                try:
                    (self._folder / name).unlink()
                except FileNotFoundError:
                    continue  # another process was quicker
                return order
        return None

    @property
    def waiting(self) -> int:
        """How many nobody has come to carry out yet."""
        return len(os.listdir(self._folder))  # noqa: PTH208

    def withdraw(self, order: Order) -> bool:
        """Takes it back; False when it has been carried out, or is just now."""
        try:
            (self._folder / order.name).unlink()
        except FileNotFoundError:
            return False
        return True

    def withdraw_all(self) -> int:
        """Takes back what nobody has come to carry out; returns how many."""
        names = os.listdir(self._folder)  # noqa: PTH208
        for name in names:
            (self._folder / name).unlink(missing_ok=True)
        return len(names)
