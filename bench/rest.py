"""Starting and resting: a warm `make up` until its sign-in page answers, and what all its processes hold.

What they hold after many refreshes is in `bench.million`.
"""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench import cpu
from bench.ground import answers, bare, free_port, until
from bench.results import table
from settings import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.results import Size


def run(size: Size, say: Callable[[str], None]) -> str:
    times, rest = (1, 5.0) if size.quick else (5, 60.0)
    with tempfile.TemporaryDirectory(prefix="evergrant-bench-") as folder:
        home = Path(folder) / "var"
        first = _start(home, say)
        _stop(first[0])
        starts: list[float] = []
        for _ in range(times):
            process, seconds = _start(home, say)
            starts.append(seconds)
            if len(starts) < times:
                _stop(process)
        time.sleep(rest)
        used = cpu.seconds([process.pid])
        time.sleep(rest)
        idle = (cpu.seconds([process.pid]) - used) / rest
        memory = cpu.memory([process.pid])
        _stop(process)
    return "\n\n".join(
        (
            "## Starting and resting",
            "All of `make up`: web, worker, beat, Flower, the sandbox, Valkey and the manager, on SQLite.",
            table(
                ("", "measured", "goal"),
                ("the first start, which makes the database and all keys", f"{first[1]:.1f} s", ""),
                (f"a warm start, the median of {times}", f"{statistics.median(starts):.1f} s", "≤ 4 s"),
                ("memory of all at rest (PSS)", f"{memory / 1e6:.0f} MB", "< 350 MB"),
                ("CPU of all at rest", f"{idle:.1%} of one core", ""),
            ),
        )
    )


def _start(home: Path, say: Callable[[str], None]) -> tuple[subprocess.Popen[bytes], float]:
    """A whole product, and the seconds until its sign-in page answered."""
    web = free_port()
    environment = {
        **bare(),
        "EVERGRANT_HOME": str(home),
        "WEB_PORT": str(web),
        "FLOWER_PORT": str(free_port()),
        "SANDBOX_PORT": str(free_port()),
    }
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "evergrant", "up"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    until("the sign-in page answers", lambda: answers(web, "/"))
    seconds = time.monotonic() - began
    say(f"started in {seconds:.1f} s")
    until("Evergrant is ready", lambda: answers(web, "/readyz"))
    return process, seconds


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(20)
