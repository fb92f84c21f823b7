"""CPU time and memory of whole process trees, from Linux's /proc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_TICK = 1 / os.sysconf("SC_CLK_TCK")


def tree(*roots: int) -> set[int]:
    """The process ids of these processes and all that descend from them."""
    parents = {int(path.name): _parent(path) for path in Path("/proc").glob("[0-9]*")}
    found = set(roots)
    while True:
        more = {process for process, parent in parents.items() if parent in found} - found
        if not more:
            return found
        found |= more


def seconds(roots: Iterable[int]) -> float:
    """CPU seconds, user's and system's, that these trees have used since each process began. What has ended
    is counted with the parent that waited for it."""
    total = 0
    for process in tree(*roots):
        if fields := _stat(Path(f"/proc/{process}")):
            total += sum(int(ticks) for ticks in fields[11:15])  # utime stime cutime cstime
    return total * _TICK


def memory(roots: Iterable[int]) -> float:
    """Bytes that these trees hold, shared pages divided among those who share them (PSS)."""
    total = 0
    for process in tree(*roots):
        try:
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
    return float(total)


def _stat(path: Path) -> list[str]:
    """The fields of /proc/<pid>/stat from the third on (man 5 proc); empty when the process has ended."""
    try:
        return (path / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _parent(path: Path) -> int:
    fields = _stat(path)
    return int(fields[1]) if fields else 0
