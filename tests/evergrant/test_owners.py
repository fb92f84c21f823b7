"""``evergrant owners``, ``token`` and ``export``, as a person and as a program use them."""

from __future__ import annotations

import csv
import io
import json
import signal
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update

from evergrant.exits import Exit
from fleet.claims import unverified_claims
from models import pausing
from models.grants import State, grants
from models.session import now

if TYPE_CHECKING:
    from pathlib import Path

    from tests.evergrant.line import Line


def test_owners_are_listed_shown_and_counted(line: Line) -> None:
    assert "no owners" in line.run("owners", "list").stdout
    for number in range(3):
        line.connect(f"owner-{number}", region="EU" if number else "NA")
    listed = line.run("owners", "list").stdout
    assert all(f"owner-{number}" in listed for number in range(3))
    assert "in 44 min" in listed
    some = line.run("owners", "list", "--limit", "2")
    assert "owner-2" not in some.stdout
    assert "more" in some.stderr
    objects = [json.loads(text) for text in line.run("owners", "list", "--json").stdout.splitlines()]
    assert [each["owner"] for each in objects] == ["owner-0", "owner-1", "owner-2"]
    europe = line.run("owners", "list", "--region", "EU", "--json").stdout.splitlines()
    assert [json.loads(text)["region"] for text in europe] == ["EU", "EU"]

    shown = line.run("owners", "show", "owner-1").stdout
    assert shown.startswith("Alive.")
    assert "Signed in" in shown
    described = json.loads(line.run("owners", "show", "owner-1", "--json").stdout)
    assert (described["state"], described["events"][0]["kind"]) == ("alive", "connected")
    assert described["connected_at"].endswith("Z")
    assert "owners list" in line.run("owners", "show", "nobody", code=Exit.NOT_FOUND).stderr


def test_no_command_but_token_shows_a_token(line: Line, tmp_path: Path) -> None:
    line.connect("ann")
    kept = tmp_path / "owners.csv"
    commands = (
        ["owners", "list"],
        ["owners", "list", "--json"],
        ["owners", "show", "ann"],
        ["owners", "show", "ann", "--json"],
        ["export"],
        ["export", str(kept)],
    )
    printed = "".join(done.stdout + done.stderr for done in (line.run(*words) for words in commands))
    assert "ann" in printed
    assert "-token" not in printed + kept.read_text()
    token = line.run("token", "ann")
    assert (token.stdout, token.stderr) == ("the-access-token\n", "")


def test_a_token_that_lives_too_short_is_refreshed_first(line: Line) -> None:
    tokens = line.sign_in("Short Lived")
    owner = line.connect(tokens=tokens, expires_in=60)
    with line.database.write() as connection:
        connection.execute(update(grants).values(refreshed_at=now(-40), access_expires_at=now(20)))
    given = json.loads(line.run("token", owner, "--json").stdout)
    assert given["access_token"] != tokens["access_token"]
    assert unverified_claims(given["access_token"])["sub"] == owner
    assert given["expires_in"] >= 50
    assert line.grant(owner).generation == 1
    assert line.run("token", owner, "--min-ttl", "5").stdout.strip() == given["access_token"]
    assert line.grant(owner).generation == 1, "it was good enough"


def test_refresh_and_disconnect(line: Line) -> None:
    owner = line.connect(tokens=line.sign_in("Refreshed By Hand"))
    assert "generation 1" in line.run("owners", "refresh", owner).stdout
    assert json.loads(line.run("owners", "refresh", owner, "--json").stdout)["result"] == "refreshed"
    assert "--yes" in line.run("owners", "disconnect", owner, code=Exit.REFUSED).stderr
    assert line.grant(owner).state == State.ALIVE
    line.run("owners", "disconnect", owner, "--yes")
    assert line.grant(owner).state == State.DISCONNECTED
    assert "already" in line.run("owners", "disconnect", owner, "--yes").stdout
    line.run("owners", "refresh", owner, code=Exit.CONSENT)
    assert "sign in" in line.run("token", owner, code=Exit.CONSENT).stderr
    line.run("owners", "refresh", "nobody", code=Exit.NOT_FOUND)


def test_who_is_slow_to_start_gets_the_result_of_who_was_quicker(line: Line) -> None:
    owner = line.connect(tokens=line.sign_in("Slow To Start"))
    slow = line.start("owners", "refresh", owner)
    slow.send_signal(signal.SIGSTOP)
    assert "generation 1" in line.run("owners", "refresh", owner).stdout
    slow.send_signal(signal.SIGCONT)
    out, err = slow.communicate(timeout=60)
    assert (slow.returncode, out) == (0, "Refreshed by another process just now: generation 1.\n"), err


def test_the_exit_code_says_whose_turn_it_is(line: Line) -> None:
    assert line.tesla is not None
    owner = line.connect(tokens=line.sign_in("Unlucky"), expires_in=60)
    with line.database.write() as connection:
        connection.execute(update(grants).values(refreshed_at=now(-60), access_expires_at=now(-1)))
    line.tesla.fault("down_503", count=10)
    assert "Tesla" in line.run("token", owner, code=Exit.LATER).stderr
    line.tesla.http.delete(f"{line.tesla.url}/faults", timeout=10)
    assert pausing.pause(line.database, owner, correlation_id="c")
    assert "paused" in line.run("owners", "refresh", owner, code=Exit.OPERATOR).stderr


def test_a_withdrawn_consent_is_the_owners_turn(line: Line) -> None:
    assert line.tesla is not None
    owner = line.connect(tokens=line.sign_in("Withdrawn"))
    line.tesla.withdraw("Withdrawn")
    line.run("owners", "refresh", owner, code=Exit.CONSENT)
    assert line.grant(owner).state == State.NEEDS_CONSENT


def test_a_wrong_client_secret_is_the_operators_turn(line: Line) -> None:
    owner = line.connect(tokens=line.sign_in("Patient"))
    line.environment["TESLA_CLIENT_SECRET"] = "wrong"
    words = line.run("owners", "refresh", owner, code=Exit.OPERATOR).stderr
    assert "TESLA_CLIENT_SECRET" in words
    assert line.grant(owner).state == State.ALIVE


def test_export_is_complete_in_both_formats(line: Line, tmp_path: Path) -> None:
    for number in range(5):
        line.connect(f"owner-{number}")
    exported = line.run("export")
    assert len(exported.stdout.splitlines()) == 5
    assert "5 owners" in exported.stderr
    rows = list(csv.DictReader(io.StringIO(line.run("export", "--format", "csv").stdout)))
    assert [row["owner"] for row in rows] == [f"owner-{number}" for number in range(5)]
    assert rows[0]["scopes"] == "openid offline_access"
    kept = tmp_path / "owners.csv"
    line.run("export", str(kept), "--state", "alive")
    assert kept.read_text().splitlines()[0].startswith("owner,state")
    assert list(tmp_path.glob(".owners*")) == []
    assert "can't be written" in line.run("export", "/nowhere/owners.csv", code=Exit.REFUSED).stderr


@pytest.mark.parametrize(
    ("setting", "value", "word"),
    [
        ("DATABASE_URL", "sqlite:////nowhere/evergrant.db", "DATABASE_URL"),
        ("ENCRYPTION_KEYS", "k1:short", "ENCRYPTION_KEYS"),
        ("WEBHOOK_NETWORKS", "everywhere", "WEBHOOK_NETWORKS"),
    ],
)
def test_what_is_set_wrong_is_said_in_words(line: Line, setting: str, value: str, word: str) -> None:
    line.environment[setting] = value
    assert word in line.run("owners", "list", code=Exit.REFUSED).stderr


def test_the_help_explains_each_exit_code(line: Line) -> None:
    help_text = line.run("--help").stdout
    assert all(f"\n    {code.value}  " in help_text for code in Exit)


def test_a_first_migration_needs_no_folder(line: Line, tmp_path: Path) -> None:
    line.environment |= {"DATABASE_URL": "", "EVERGRANT_HOME": str(tmp_path / "new")}
    assert "newest schema" in line.run("migrate").stdout
    assert "no owners" in line.run("owners", "list").stdout
