from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from evergrant.programs import Program, configuration
from settings import ROOT
from tests.evergrant.running import wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.processes


def test_what_dies_at_once_is_started_again_for_ever_at_a_bounded_pace(tmp_path: Path) -> None:
    for folder in ("log", "run"):
        (tmp_path / folder).mkdir()
    count = tmp_path / "count"
    config = tmp_path / "supervisord.conf"
    config.write_text(
        configuration(
            [Program(name="web", command=["/bin/sh", "-c", f"echo x >>{count}; exit 1"], stop_seconds=1)],
            home=tmp_path,
            socket=tmp_path / "s",
            console=["/bin/sh", "-c", "sleep 60"],
        )
    )
    lock = os.open(tmp_path / "up.lock", os.O_RDWR | os.O_CREAT)
    # With waits of 1, 2, 3 and 4 s, which supervisor's own are, the fifth start would come after 10 s.
    manager = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import evergrant.manager as m; m.LONGEST_WAIT = 1; m.main()",
            str(config),
            str(lock),
        ],
        cwd=ROOT,
        pass_fds=[lock],
    )
    try:
        wait_until(lambda: count.exists() and len(count.read_text()) >= 10, seconds=7, what="five starts")
    finally:
        manager.terminate()
        assert manager.wait(5) == 0
        os.close(lock)
