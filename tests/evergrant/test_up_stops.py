"""How `make up` ends, and what it leaves behind: nothing."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.evergrant.running import Running, status_of, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.processes

LIMIT = 10
MAKE = [
    *("make", "up", f"BIN={Path(sys.executable).parent}"),
    # The environment that runs the tests is there already; make is not to install another one.
    *("-o", ".venv/.installed-runtime", "-o", ".venv/pyvenv.cfg"),
]


@pytest.mark.parametrize(
    ("signum", "to_group"),
    [(signal.SIGTERM, False), (signal.SIGINT, False), (signal.SIGINT, True), (signal.SIGHUP, True)],
    ids=["kill", "interrupt make alone", "ctrl-c", "closed terminal"],
)
@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_a_signal_to_make_ends_every_process(
    up: Callable[..., Running], signum: signal.Signals, to_group: bool
) -> None:
    running = up(command=MAKE)
    running.wait_for_page()
    if to_group:
        os.killpg(running.process.pid, signum)
    else:
        running.process.send_signal(signum)
    wait_until(running.all_ended, seconds=LIMIT, what="every process has ended")
    running.process.wait(2)
    assert "evergrant | Stopped." in running.printed
    assert "SIGKILL" not in (running.home / "log" / "manager.log").read_text()


def test_a_stuck_worker_does_not_hold_up_the_stop(up: Callable[..., Running]) -> None:
    running = up()
    running.wait_for_page()
    wait_until(lambda: running.find("up@") != 0, seconds=10, what="the worker")
    os.kill(running.find("up@"), signal.SIGSTOP)
    running.process.send_signal(signal.SIGTERM)
    wait_until(running.all_ended, seconds=LIMIT, what="every process has ended")


def test_a_killed_manager_takes_all_along_and_the_next_start_works(up: Callable[..., Running]) -> None:
    running = up()
    running.wait_for_page()
    os.kill(running.manager, signal.SIGKILL)
    running.process.wait(2)
    wait_until(running.all_ended, seconds=LIMIT, what="every process has ended")
    running.start()
    running.wait_for_page()
    wait_until(lambda: status_of(f"{running.web}/readyz") == 200, seconds=30, what="ready again")
    running.process.send_signal(signal.SIGTERM)
    wait_until(running.all_ended, seconds=LIMIT, what="every process has ended")


def test_a_deep_folder_works_too(tmp_path: Path) -> None:
    # A Unix socket's path has room for about 100 bytes.
    home = tmp_path / ("deep" * 30) / "with space" / "home"
    home.parent.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="eg-", dir="/tmp") as short:
        running = Running(home, TMPDIR=short)
        try:
            running.wait_for_page()
            wait_until(lambda: status_of(f"{running.web}/readyz") == 200, seconds=30, what="ready")
        finally:
            running.end()
