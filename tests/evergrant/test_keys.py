"""``evergrant keys``, as a person and as a program use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from evergrant.keys import SCOPES
from models.api_keys import KeyLookup, Scope
from models.session import Database
from settings import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Line:
    """A command line on an empty database."""

    def __init__(self, home: Path, url: str) -> None:
        self.environment = dict(os.environ, EVERGRANT_HOME=str(home), DATABASE_URL=url, TESLA_CLIENT_ID="")
        self.database = Database(url)

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "evergrant", "keys", *words],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture
def line(tmp_path: Path, sqlite: Callable[[], str]) -> Iterator[Line]:
    line = Line(tmp_path, sqlite())
    yield line
    line.database.close()


def test_the_scopes_are_those_that_there_are() -> None:
    assert tuple(Scope) == SCOPES


def test_a_key_is_made_listed_and_revoked(line: Line) -> None:
    made = line.run("create", "cron", "--scope", "tokens:read", "--owner", "ann", "--days", "7")
    key = made.stdout.strip()
    use = KeyLookup(line.database).find(key, "ann")
    assert use is not None
    assert use.allows_owner
    assert use.key.ends_at is not None
    assert "not shown again" in made.stderr
    listed = line.run("list").stdout
    assert use.key.id in listed
    assert "cron" in listed
    assert "good until" in listed
    assert key.rpartition("_")[2] not in listed
    line.run("revoke", use.key.id)
    assert "revoked" in line.run("list").stdout
    assert use.key.id in line.run("revoke", use.key.id, code=3).stderr


def test_for_programs_it_speaks_json(line: Line) -> None:
    made = json.loads(
        line.run(
            "create", "a b", "--scope", "gateway", "--scope", "owners:read", "--rate", "9", "--json"
        ).stdout
    )
    assert KeyLookup(line.database).find(made["key"]) is not None
    described = json.loads(line.run("list", "--json").stdout)
    assert described["id"] == made["id"]
    assert described["scopes"] == ["owners:read", "gateway"]
    assert described["owners"] is None
    assert described["rate"] == 9
    assert described["good"] is True
    assert json.loads(line.run("revoke", made["id"], "--json").stdout) == {"id": made["id"], "revoked": True}
    assert json.loads(line.run("list", "--json").stdout)["good"] is False


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["create", "x"], "--scope"),
        (["create", "x", "--scope", "everything"], "tokens:read"),
        (["create", "x", "--scope", "gateway", "--days", "0"], "--days"),
        (["create", "x", "--scope", "gateway", "--rate", "0"], "--rate"),
        (["create"], "NAME"),
        (["create", "a\nb", "--scope", "gateway"], "NAME"),
    ],
)
def test_what_can_not_be_made_is_said(line: Line, words: list[str], said: str) -> None:
    assert said in line.run(*words, code=2).stderr
    assert line.run("list", "--json").stdout == ""


def test_a_database_that_is_not_there_is_said(line: Line, tmp_path: Path) -> None:
    line.environment["DATABASE_URL"] = f"sqlite:///{tmp_path}/nothing/evergrant.db"
    assert "DATABASE_URL" in line.run("list", code=2).stderr
