"""Lanes: the user-keyed queues. One owner's tasks are always in the same lane."""

from __future__ import annotations

import zlib


def lane(owner: str, lanes: int) -> str:
    """The lane of this owner, ``refresh.00`` … : a stable hash, the same on every machine."""
    return lane_name(zlib.crc32(owner.encode()) % lanes)


def lane_name(number: int) -> str:
    return f"refresh.{number:02d}"


def all_lanes(lanes: int) -> list[str]:
    return [lane_name(number) for number in range(lanes)]
