"""bench/RESULTS.md: each bench's own part is replaced, the others stay."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True)
class Size:
    """How much is measured. `quick`: so little that it only shows that it runs. The other two are for
    `bench.million`."""

    quick: bool = False
    owners: int = 1_000_000
    minutes: float = 10.0


RESULTS = Path(__file__).with_name("RESULTS.md")

_HEAD = """# What Evergrant costs

Written by `make bench`. Ratios are of numbers measured side by side in one run; CPU is that of all processes
together, user's and system's, without the stand-in for Tesla.
"""


def write(name: str, text: str) -> None:
    """Puts this bench's part where it was before, or at the end."""
    before = RESULTS.read_text() if RESULTS.exists() else _HEAD
    part = f"<!-- {name} -->\n{text.strip()}\n\n*{_when()} on {machine()}.*\n<!-- end of {name} -->\n"
    here = re.compile(rf"<!-- {name} -->\n.*?<!-- end of {name} -->\n", re.DOTALL)
    if here.search(before):
        RESULTS.write_text(here.sub(lambda _: part, before))
    else:
        RESULTS.write_text(f"{before}\n{part}")


def table(*rows: tuple[object, ...]) -> str:
    """A table in Markdown; the first row is its head."""
    lines = [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def machine() -> str:
    """The machine's kind: what the numbers are to be read with."""
    return (
        f"{os.cpu_count()} cores of {_processor()}, {platform.system()}, Python {platform.python_version()}"
    )


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


def _when() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")
