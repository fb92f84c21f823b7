"""``evergrant import``, killed in the middle and run again; Tesla's own record is the judge."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis
from sqlalchemy import func, select

from evergrant.exits import Exit
from fleet.claims import unverified_claims
from models.grants import grants
from tests.evergrant.running import wait_until
from tests.sandbox.conftest import APP

if TYPE_CHECKING:
    from pathlib import Path

    from tests.evergrant.line import Line

OWNERS = int(os.environ.get("IMPORT_OWNERS", "120"))
"""How many owners move; set it to 10000 for a run of some minutes."""

DEAD = OWNERS // 12
ODD = DEAD + 20
PATIENCE = 60 + OWNERS / 5
"""Seconds."""

AT_ONCE = 8


class Move:
    """What another program kept of many owners, in a file: some of it dead, double or malformed."""

    def __init__(self, line: Line, folder: Path) -> None:
        assert line.tesla is not None
        self.line = line
        self.tesla = line.tesla
        self.names = [f"{folder.name} {number}" for number in range(OWNERS)]
        with ThreadPoolExecutor(4) as pool:
            tokens = list(pool.map(self.tesla.sign_in, self.names))
        for each in tokens[:DEAD]:
            owner = unverified_claims(each["access_token"])["sub"]
            assert self.tesla.http.post(f"{self.tesla.url}/owners/{owner}/withdraw", timeout=10).ok
        rows = [each["refresh_token"] for each in tokens]
        # Malformed, double of a dead one, empty, double.
        rows[ODD:ODD] = ["not a token", rows[0], "", rows[ODD + 10]]
        self.file = folder / "tokens.csv"
        self.file.write_text("refresh_token\n" + "".join(f'"{row}"\n' for row in rows))
        self.report = folder / "report.jsonl"
        line.environment |= {"WORKER_CONCURRENCY": str(AT_ONCE), "ATTEMPT_DEADLINE": "2"}

    @property
    def words(self) -> list[str]:
        return ["import", str(self.file), "--yes", "--report", str(self.report)]

    def alive(self) -> int:
        with self.line.database.read() as connection:
            return int(connection.execute(select(func.count()).select_from(grants)).scalar_one())

    def seen(self) -> list[dict[str, Any]]:
        record = {owner["name"]: owner for owner in self.tesla.record()["owners"]}
        return [record[name] for name in self.names]

    def results(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for text in self.report.read_text().splitlines():
            row = json.loads(text)
            found.setdefault(row["result"], []).append(row["line"])
        return {result: sorted(lines) for result, lines in found.items()}


@pytest.fixture
def move(line_on_both: Line, tmp_path: Path) -> Move:
    return Move(line_on_both, tmp_path)


@pytest.mark.timeout(180 + 8 * PATIENCE)
def test_killed_again_and_again_it_spends_nothing_twice_and_loses_nothing(move: Move) -> None:
    move.tesla.fault("slow", seconds=0.05, where="after")
    kills = 0
    for share in (0.2, 0.5):
        process = move.line.start(*move.words, "--json", quiet=True)
        goal = int(share * (OWNERS - DEAD))
        wait_until(lambda goal=goal: move.alive() >= goal, seconds=PATIENCE, what="so many imported")  # type: ignore[misc]
        process.kill()
        process.wait(10)
        kills += 1
    done = move.line.run(*move.words, code=Exit.FAILED, seconds=PATIENCE)

    # Each line is accounted for, once.
    results = move.results()
    assert sorted(line for lines in results.values() for line in lines) == list(range(2, OWNERS + 4 + 2))
    assert len(results["imported"]) == OWNERS - DEAD
    assert results["dead"] == list(range(2, DEAD + 2))
    assert results["malformed"] == [ODD + 2, ODD + 4]
    assert len(results["double"]) == 2
    assert set(results) == {"imported", "dead", "malformed", "double"}
    assert "settled in an earlier run" in done.stdout

    # Nothing was spent twice, but for what was under way when it was killed: that answer is asked for again.
    seen = move.seen()
    assert [each["superseded_presented"] for each in seen] == [0] * OWNERS
    assert [each["overlaps_live"] for each in seen] == [0] * OWNERS
    assert [each["revoked_presented"] for each in seen[DEAD:]] == [0] * (OWNERS - DEAD)
    assert sum(each["revoked_presented"] - 1 for each in seen[:DEAD]) <= kills * AT_ONCE
    again = sum(each["reused_in_grace"] for each in seen)
    assert again <= kills * AT_ONCE
    assert all(each["rotations"] == 1 + each["reused_in_grace"] for each in seen[DEAD:])

    # What is held is the newest of each: Tesla takes it as a fresh one.
    with move.line.database.read() as connection:
        rows = connection.execute(select(grants)).all()

    def takes(row: Any) -> bool:
        place = {"owner": row.owner, "column": "refresh_token", "generation": row.generation}
        token = move.line.keyring.open(row.refresh_token, **place)
        return move.tesla.refresh(token).status_code == 200

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(takes, rows))
    assert sum(each["reused_in_grace"] for each in move.seen()) == again


def test_a_stop_lets_what_is_under_way_end_and_the_next_run_goes_on(move: Move) -> None:
    process = move.line.start(*move.words, "--rate", "30")
    wait_until(lambda: move.alive() >= 10, seconds=60, what="some imported")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == Exit.LATER, out + err
    assert "to go on" in err
    moved = move.alive()
    assert 10 <= moved < OWNERS - DEAD
    move.line.run(*move.words, code=Exit.FAILED)
    assert move.alive() == OWNERS - DEAD
    assert all(each["calls"] <= 2 + 1 for each in move.seen())
    assert sum(each["reused_in_grace"] for each in move.seen()) == 0


def test_it_asks_first_and_says_why(line: Line, tmp_path: Path) -> None:
    file = tmp_path / "tokens.csv"
    file.write_text("refresh_token\n" + "x" * 40 + "\nshort\n")
    refused = line.run("import", str(file), code=Exit.REFUSED)
    assert "must not use it any more" in refused.stderr
    tried = line.run("import", str(file), "--dry-run", code=Exit.FAILED)
    assert "line 3: malformed" in tried.stdout
    assert "1      usable" in tried.stdout
    assert line.run("import", str(tmp_path / "nothing"), code=Exit.REFUSED)


def test_for_programs_it_speaks_json(line: Line, tmp_path: Path) -> None:
    assert line.tesla is not None
    file = tmp_path / "tokens.jsonl"
    tokens = [line.sign_in(f"Json {number}")["refresh_token"] for number in range(2)]
    file.write_text("".join(json.dumps({"refresh_token": token}) + "\n" for token in tokens))
    done = line.run("import", str(file), "--yes", "--json")
    *rows, last = [json.loads(text) for text in done.stdout.splitlines()]
    assert {row["line"]: row["result"] for row in rows} == {1: "imported", 2: "imported"}
    assert last == {"summary": {"imported": 2}, "before": 0}
    assert not any(token in done.stdout + done.stderr for token in tokens)
    again = line.run("import", str(file), "--yes", "--json")
    assert json.loads(again.stdout.splitlines()[-1]) == {"summary": {"imported": 2}, "before": 2}


def test_it_stops_when_the_operator_must_act(line: Line, tmp_path: Path) -> None:
    file = tmp_path / "tokens.csv"
    token = line.sign_in("Moves Later")["refresh_token"]
    file.write_text(f"{token}\n")
    line.environment["TESLA_CLIENT_SECRET"] = "wrong"
    stopped = line.run("import", str(file), "--yes", code=Exit.OPERATOR)
    assert "TESLA_CLIENT_SECRET" in stopped.stderr
    line.environment["TESLA_CLIENT_SECRET"] = APP["client_secret"]
    Redis.from_url(line.environment["REDIS_URL"]).flushall()
    line.run("import", str(file), "--yes")
