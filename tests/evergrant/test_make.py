from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from settings import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="needs make")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The project's Makefile in a folder of its own."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    for name in ("Makefile", ".env.example", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "evergrant", folder / "evergrant")
    return folder


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(shutil.which("make")), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_make_alone_lists_every_target(clone: Path) -> None:
    listed = set(re.findall(r"^  make (\S+) +\S", make(clone).stdout, re.MULTILINE))
    phony = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert listed == set(phony[0].split())


@pytest.mark.parametrize(
    ("python", "sentence"),
    [
        ('case "$1" in --version) echo Python 3.9.1;; *) exit 1;; esac', "is Python 3.9.1"),
        ('case "$2" in *venv*) exit 1;; esac', "can't make virtual environments"),
        ("nothing-of-this-name", "needs Python 3.11 or newer"),
    ],
    ids=["too old", "no venv", "none"],
)
def test_an_unfit_python_is_said(clone: Path, python: str, sentence: str) -> None:
    fake = clone.parent / "python"
    fake.write_text(f"#!/bin/sh\n{python}\n")
    fake.chmod(0o755)
    done = make(clone, "up", f"PYTHON={fake}")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "PYTHON=/path/to/python3" in done.stderr
    assert not (clone / ".venv" / "pyvenv.cfg").exists()


def test_clean_leaves_the_state_alone(clone: Path) -> None:
    for folder in (".venv/bin", ".mypy_cache", "web/__pycache__", "var/__pycache__"):
        (clone / folder).mkdir(parents=True)
    (clone / "var" / "evergrant.db").write_text("grants")
    done = make(clone, "clean")
    assert "./var stays" in done.stdout
    assert sorted(path.name for path in clone.rglob("*") if path.is_dir()) == [
        "__pycache__",
        "evergrant",
        "var",
        "web",
    ]
    assert (clone / "var" / "evergrant.db").exists()


def test_env_fills_in_secrets_once(clone: Path) -> None:
    assert make(clone, "env").returncode == 0
    written = (clone / ".env").read_text()
    assert (clone / ".env").stat().st_mode & 0o777 == 0o600
    secrets = dict(re.findall(r"^([A-Z_]+)=(.+)$", written, re.MULTILINE))
    assert set(secrets) == {
        *("POSTGRES_PASSWORD", "ENCRYPTION_KEYS", "SECRET_KEY", "OPERATOR_PASSWORD"),
        "COMPOSE_PROFILES",
    }
    assert "stays as it is" in make(clone, "env").stdout
    assert (clone / ".env").read_text() == written


def test_env_takes_over_the_keys_that_up_made(clone: Path) -> None:
    kept = clone / "var" / "secrets"
    kept.mkdir(parents=True)
    (kept / "encryption_keys").write_text("k2:bmV3\nk1:b2xk\n")
    make(clone, "env")
    assert "\nENCRYPTION_KEYS=k2:bmV3,k1:b2xk\n" in (clone / ".env").read_text()
