"""The command line under its own name."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from settings import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def test_it_is_callable_from_any_folder(tmp_path: Path) -> None:
    folder = tmp_path / "project" / ".venv" / "bin"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "evergrant" / "evergrant.sh", folder / "evergrant")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    for path in (*ROOT.glob("*/__init__.py"), *ROOT.glob("*.py")):
        name = path.relative_to(ROOT).parts[0]
        (tmp_path / "project" / name).symlink_to(ROOT / name)
    ended = subprocess.run(
        [folder / "evergrant", "--help"], cwd="/", capture_output=True, text=True, timeout=60
    )
    assert "Keeps Tesla owners' consent alive." in ended.stdout
