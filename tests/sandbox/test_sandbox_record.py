"""The record is a judge: it misses no overlap and makes none up."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import requests

from sandbox.config import Config
from sandbox.record import COUNTS
from sandbox.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sandbox.conftest import Running

FORM = {"grant_type": "refresh_token", "client_id": "evergrant-sandbox"}


def test_shape(sandbox: Running, owner: str) -> None:
    sandbox.sign_in(owner)
    record = sandbox.record()
    assert set(record["totals"]) >= {*COUNTS, "owners", "alive", "max_calls_per_second", "unknown_presented"}
    seen = sandbox.owner(owner)
    expected = dict.fromkeys(COUNTS, 0) | {
        "name": owner,
        "region": "NA",
        "generation": 0,
        "alive": True,
        "revoked": False,
        "revoked_because": None,
        "under_way": 0,
        "max_under_way": 1,
        "overlaps_live": 0,
        "sign_ins": 1,
        "calls": 1,
    }
    assert {name: seen[name] for name in expected} == expected
    for name in COUNTS:
        assert record["totals"][name] == sum(each[name] for each in record["owners"])


def test_two_live_calls_at_once_are_an_overlap(sandbox: Running, owner: str) -> None:
    token = sandbox.sign_in(owner)["refresh_token"]
    sandbox.fault("slow", owner=owner, count=3, seconds=0.5)
    with ThreadPoolExecutor(3) as pool:
        answers = list(
            pool.map(
                lambda _: requests.post(sandbox.token_url, data=FORM | {"refresh_token": token}, timeout=10),
                range(3),
            )
        )
    assert all(answer.status_code == 200 for answer in answers)
    seen = sandbox.owner(owner)
    assert (seen["max_under_way"], seen["overlaps"], seen["overlaps_after_hangup"]) == (3, 2, 0)
    assert (seen["overlaps_live"], seen["under_way"], seen["reused_in_grace"]) == (2, 0, 2)


def test_who_hung_up_and_tried_again_is_told_apart(sandbox: Running, owner: str) -> None:
    token = sandbox.sign_in(owner)["refresh_token"]
    sandbox.fault("hang", owner=owner, count=1, seconds=1)
    with pytest.raises(requests.Timeout):
        sandbox.refresh(token, timeout=0.3)
    assert sandbox.refresh(token).status_code == 200
    seen = sandbox.owner(owner)
    assert (seen["overlaps"], seen["overlaps_after_hangup"], seen["overlaps_live"]) == (1, 1, 0)
    assert (seen["max_under_way"], seen["rotations"]) == (2, 1)


def test_a_sign_in_beside_a_refresh_is_no_overlap(sandbox: Running, owner: str) -> None:
    token = sandbox.sign_in(owner)["refresh_token"]
    code = sandbox.code(owner)
    sandbox.fault("slow", owner=owner, count=2, seconds=0.5)
    with ThreadPoolExecutor(2) as pool:
        exchange = pool.submit(sandbox.exchange, code)
        sandbox.until(owner, lambda seen: seen["under_way"] == 1)
        assert pool.submit(sandbox.refresh, token).result().status_code == 200
        assert exchange.result().status_code == 200
    seen = sandbox.owner(owner)
    assert (seen["max_under_way"], seen["overlaps"], seen["sign_ins"]) == (2, 0, 2)


def test_calls_one_after_the_other_never_look_like_an_overlap(sandbox: Running) -> None:
    """Many owners at once, each as fast as it can: the busiest moment for a judge."""
    names = [f"Runner {number}" for number in range(8)]
    tokens = {name: sandbox.sign_in(name)["refresh_token"] for name in names}

    def run(name: str) -> None:
        with requests.Session() as http:
            for _ in range(25):
                answer = http.post(sandbox.token_url, data=FORM | {"refresh_token": tokens[name]}, timeout=10)
                tokens[name] = answer.json()["refresh_token"]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, names))
    for name in names:
        seen = sandbox.owner(name)
        assert (seen["generation"], seen["rotations"], seen["calls"]) == (25, 25, 26)
        assert (seen["overlaps"], seen["max_under_way"], seen["superseded_presented"]) == (0, 1, 0)
        assert (seen["reused_in_grace"], seen["answers_cut"]) == (0, 0)


def test_a_superseded_token_over_http(sandbox: Running, owner: str) -> None:
    first = sandbox.sign_in(owner)["refresh_token"]
    second = sandbox.refresh(first).json()["refresh_token"]
    sandbox.refresh(second)
    refused = sandbox.refresh(first)
    assert (refused.status_code, refused.json()["error"]) == (401, "login_required")
    assert sandbox.owner(owner)["superseded_presented"] == 1


@pytest.mark.parametrize("where", ["before", "after"])
def test_an_older_token_after_a_fault_refused_the_newest(sandbox: Running, owner: str, where: str) -> None:
    first = sandbox.sign_in(owner)["refresh_token"]
    second = sandbox.refresh(first).json()["refresh_token"]
    third = sandbox.refresh(second).json()["refresh_token"]
    sandbox.fault("login_required", owner=owner, count=1, where=where)
    assert sandbox.refresh(third).status_code == 401
    sandbox.refresh(first)
    seen = sandbox.owner(owner)
    assert (seen["superseded_presented"], seen["superseded_after_refusal"]) == (0, 1)


def test_strict_mode_says_so_and_revokes(start: Callable[..., Running], owner: str) -> None:
    sandbox = start("--strict")
    first = sandbox.sign_in(owner)["refresh_token"]
    second = sandbox.refresh(first).json()["refresh_token"]
    assert sandbox.refresh(first).status_code == 401
    assert sandbox.refresh(second).status_code == 401
    assert sandbox.record()["strict"]
    assert not sandbox.owner(owner)["alive"]
    assert "superseded token used" in sandbox.http.get(sandbox.url, timeout=10).text


def test_the_busiest_second_is_kept(start: Callable[..., Running], owner: str) -> None:
    sandbox = start()
    token = sandbox.sign_in(owner)["refresh_token"]
    assert sandbox.record()["totals"]["max_calls_per_second"] == 0
    gate = threading.Barrier(4)

    def call(_: int) -> None:
        gate.wait(10)
        requests.post(sandbox.token_url, data=FORM | {"refresh_token": token}, timeout=10)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(call, range(4)))
    assert sandbox.record()["totals"]["max_calls_per_second"] == 4
    sandbox.refresh("NA_nobodys")
    assert sandbox.record()["totals"]["unknown_presented"] == 1


def test_the_page_of_nobody(start: Callable[..., Running]) -> None:
    sandbox = start()
    text = sandbox.http.get(sandbox.url, timeout=10).text
    assert "Nobody has signed in yet" in text
    assert "None: Tesla is well." in text


def test_the_page_stays_usable_with_a_thousand_owners(start: Callable[..., Running], tmp_path: Path) -> None:
    home = Config(home=tmp_path / "home").home
    store = Store(home / "sandbox.db")
    with store.transaction() as db:
        db.executemany(
            "INSERT INTO owners (sub, name, region, first_seen, superseded_presented)"
            " VALUES (?, ?, 'NA', 0, ?)",
            [(f"sub-{number}", f"Owner {number:04}", number == 777) for number in range(1000)],
        )
    store.close()
    sandbox = start()
    first = sandbox.http.get(sandbox.url, timeout=10)
    assert first.elapsed.total_seconds() < 2
    assert len(first.content) < 300_000
    assert "1000 owners" in first.text
    assert "1 superseded tokens presented" in first.text
    names = re.findall(r'<th scope="row">(Owner \d+)<', first.text)
    assert names[:2] == ["Owner 0777", "Owner 0000"]
    assert len(names) == 100
    last = sandbox.http.get(sandbox.url, params={"page": 10}, timeout=10).text
    assert "Owner 0999" in last
    found = sandbox.http.get(sandbox.url, params={"q": "owner 0500"}, timeout=10).text
    assert re.findall(r'<th scope="row">(Owner \d+)<', found) == ["Owner 0500"]
    assert "Nobody of that name" in sandbox.http.get(sandbox.url, params={"q": "<b>"}, timeout=10).text


def test_the_pages_buttons(sandbox: Running, owner: str) -> None:
    token = sandbox.sign_in(owner)["refresh_token"]
    page = sandbox.http.get(sandbox.url, params={"q": owner}, timeout=10)
    assert "script" not in page.text
    assert token not in page.text
    action = re.search(r'action="(/owners/[^"]+/withdraw)"', page.text)
    assert action
    answer = sandbox.http.post(
        sandbox.url + action[1], headers={"Accept": "text/html"}, allow_redirects=False, timeout=10
    )
    assert answer.status_code == 303
    assert sandbox.owner(owner)["revoked_because"] == "withdrawn"
    assert sandbox.http.post(f"{sandbox.url}/owners/nobody/withdraw", timeout=10).status_code == 404
