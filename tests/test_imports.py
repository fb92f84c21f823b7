"""Imports point one way; the contracts are in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_imports_point_one_way() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " kept, 0 broken" in done.stdout


def test_beat_and_flower_do_not_load_what_they_do_not_do(tmp_path: Path) -> None:
    asked = "import sys, workers.app; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=ROOT,
        env={"EVERGRANT_HOME": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "celery" in done.stdout.split()
    assert not {"fleet", "models", "sqlalchemy", "requests", "flask", "prompt_toolkit"} & set(
        done.stdout.split()
    )
