from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evergrant.claim import claim
from evergrant.refusal import RefusalError
from tests.evergrant.running import wait_until

HOLD = """
import os, pathlib, subprocess, sys
from evergrant.claim import claim
lock = claim(pathlib.Path(sys.argv[1]))
stay = "import time; print('up', flush=True); time.sleep(60)"
left = subprocess.Popen([sys.executable, "-c", stay], pass_fds=[lock])
print(left.pid, flush=True)
left.wait()
"""


@pytest.fixture
def manager(tmp_path: Path) -> subprocess.Popen[str]:
    """A process that holds the claim on `tmp_path`, and has a child that inherited it."""
    return subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)


def child_of(manager: subprocess.Popen[str]) -> int:
    assert manager.stdout is not None
    words = {manager.stdout.readline().strip() for _ in range(2)}
    return int((words - {"up"}).pop())


def test_only_one_at_a_time(tmp_path: Path, manager: subprocess.Popen[str]) -> None:
    child = child_of(manager)
    with pytest.raises(RefusalError, match=f"already runs here, process {manager.pid}"):
        claim(tmp_path)
    manager.kill()
    manager.wait()
    os.kill(child, signal.SIGKILL)
    os.close(claim(tmp_path))


def test_waits_for_what_a_killed_manager_left(tmp_path: Path, manager: subprocess.Popen[str]) -> None:
    child = child_of(manager)
    manager.kill()
    manager.wait()
    ender = subprocess.Popen(["/bin/sh", "-c", f"sleep 0.5; kill {child}"])
    began = time.monotonic()
    os.close(claim(tmp_path))
    assert 0.3 < time.monotonic() - began < 5
    ender.wait()


def test_ends_what_does_not_end_by_itself(
    tmp_path: Path, manager: subprocess.Popen[str], capfd: pytest.CaptureFixture[str]
) -> None:
    child = child_of(manager)
    os.kill(child, signal.SIGSTOP)
    manager.kill()
    manager.wait()
    os.close(claim(tmp_path, patience=0.3))
    wait_until(lambda: not _runs(child), seconds=2, what="the leftover is gone")
    assert "Waiting for a process of an earlier run to end." in capfd.readouterr().err


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
