"""Each bench runs, at a size that takes seconds: its numbers mean nothing, its parts can't rot."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.__main__ import BENCHES
from settings import ROOT


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", BENCHES)
def test_it_runs(name: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "bench", name, "--quick"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=220,
    )
    assert ran.returncode == 0, ran.stderr
    assert "\n| --- |" in ran.stdout
    assert "nan" not in ran.stdout, ran.stdout
