"""A token that is good now, from however many calls, for one call to Tesla."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from sqlalchemy import update

from models import consent
from models.grants import grants
from models.pausing import pause
from models.session import now
from tests.web.api.conftest import Program, connect, problem, row
from tests.web.odd_tesla import json_reply

if TYPE_CHECKING:
    from tests.web.pages import Site


def test_a_token_with_all_that_using_it_takes(site: Site, program: Program) -> None:
    connect(site)
    response = program.token()
    assert response.status_code == 200
    content = response.json()
    expires_at = datetime.fromisoformat(content.pop("expires_at"))
    assert abs((expires_at - datetime.now(UTC)).total_seconds() - 28800) < 60
    assert 28700 < content.pop("expires_in") <= 28800
    assert content == {
        "owner": "ann",
        "access_token": "access-of-ann",
        "token_type": "Bearer",
        "min_ttl_met": True,
        "scopes": ["openid", "offline_access"],
        "region": "EU",
        "fleet_url": f"{site.tesla.url}/eu",
        "generation": 0,
    }
    assert response.headers["Cache-Control"] == "no-store"
    assert site.tesla.forms == [], "Tesla is not asked"


@pytest.mark.parametrize("owner", ["ann", "änn ü", "a+b&c", "50%", "a;b"])
def test_the_answer_in_front_of_flask_and_the_one_behind_are_the_same(
    site: Site, program: Program, owner: str
) -> None:
    connect(site, owner, expires_in=3600)
    path = f"/api/v1/owners/{quote(owner)}/token"
    for query in ("", "?min_ttl=5", "?min_ttl=36000"):
        both = [program.get(path + query), program.get(path + query + ("&x" if query else "?x"))]
        fields = [response.json() for response in both]
        for content in fields:
            assert 3500 < content.pop("expires_in") <= 3600
        assert fields[0] == fields[1]
        headers = [
            {
                name: value
                for name, value in response.headers.items()
                if name not in {"X-Correlation-Id", "Date"}
            }
            for response in both
        ]
        assert headers[0] == headers[1]
        assert {len(response.headers["X-Correlation-Id"]) for response in both} == {16}


@pytest.mark.parametrize(("left", "refreshed"), [(5, True), (-5, True), (30, False)])
def test_what_is_about_to_end_is_refreshed_first(
    site: Site, program: Program, left: int, refreshed: bool
) -> None:
    connect(site, expires_in=left)
    age(site, 600)
    response = program.token()
    assert response.status_code == 200
    assert len(site.tesla.forms) == refreshed
    assert response.json()["generation"] == int(refreshed)
    assert response.json()["min_ttl_met"]
    if refreshed:
        assert response.json()["expires_in"] > 28000


def test_min_ttl_decides(site: Site, program: Program) -> None:
    connect(site, expires_in=1000)
    age(site, 600)
    assert program.token(min_ttl=900).json()["generation"] == 0
    assert program.token(min_ttl=1100).json()["generation"] == 1
    assert len(site.tesla.forms) == 1


def test_more_than_tokens_ever_live_is_no_refresh_with_each_call(site: Site, program: Program) -> None:
    site.tesla.token = lambda _: json_reply(200, site.tesla.tokens(expires_in=600))
    connect(site, expires_in=300)
    age(site, 300)
    answers = [program.token(min_ttl=86_400).json() for _ in range(5)]
    assert [answer["generation"] for answer in answers] == [1] * 5
    assert not any(answer["min_ttl_met"] for answer in answers)
    assert len(site.tesla.forms) == 1


def test_tokens_that_hardly_live_are_no_refresh_with_each_call(site: Site, program: Program) -> None:
    site.tesla.token = lambda _: json_reply(200, site.tesla.tokens(expires_in=4))
    connect(site, expires_in=-1)
    for _ in range(5):
        assert program.token().json()["generation"] == 1
    assert len(site.tesla.forms) == 1


def test_many_at_once_are_one_call_to_tesla(site: Site, program: Program) -> None:
    connect(site, expires_in=-1)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: Program.token(program), range(20)))
    assert {response.status_code for response in answers} == {200}
    assert len({response.json()["access_token"] for response in answers}) == 1
    assert len(site.tesla.forms) == 1


def test_while_tesla_is_down_a_token_that_lives_is_handed_out(site: Site, program: Program) -> None:
    connect(site, expires_in=300)
    age(site, 600)
    site.tesla.token = lambda _: json_reply(503, {})
    response = program.token(min_ttl=3600)
    assert response.status_code == 200
    assert response.json()["access_token"] == "access-of-ann"
    assert response.json()["min_ttl_met"] is False
    assert 200 < response.json()["expires_in"] <= 300


def test_while_tesla_is_down_and_none_lives_the_answer_says_when_to_come_back(
    site: Site, program: Program
) -> None:
    connect(site, expires_in=-1)
    site.tesla.token = lambda _: json_reply(503, {})
    content = problem(response := program.token(), 503, "tesla_failed")
    assert content["turn"] == "wait"
    assert int(response.headers["Retry-After"]) >= 1


def test_when_the_app_is_not_accepted_it_is_the_operators_turn(site: Site, program: Program) -> None:
    connect(site, expires_in=-1)
    site.tesla.token = lambda _: json_reply(401, {"error": "invalid_client"})
    content = problem(program.token(), 503, "invalid_client")
    assert content["turn"] == "operator"
    assert "TESLA_CLIENT_SECRET" in content["repair"] + content["detail"]


def test_when_consent_is_gone_the_answer_says_why_and_where_to_reconnect(
    site: Site, program: Program
) -> None:
    connect(site, expires_in=-1)
    site.tesla.token = lambda _: json_reply(401, {"error": "login_required"})
    for _ in range(2):  # the one who finds out, and who comes later
        content = problem(program.token(), 409, "needs_consent")
        assert content["reason"] == "login_required"
        assert content["turn"] == "owner"
        assert content["reconnect_url"] == f"{site.url}/signin/missing"
        assert content["owner"] == "ann"
    assert len(site.tesla.forms) == 1
    browser = site.browser()
    assert browser.get(content["reconnect_url"].removeprefix(site.url)).status_code == 302


def test_disconnected_is_the_owners_word(site: Site, program: Program) -> None:
    connect(site)
    consent.disconnect(site.parts.database, "ann", correlation_id="c")
    content = problem(program.token(), 409, "disconnected")
    assert content["reconnect_url"]


def test_paused_is_the_operators_word(site: Site, program: Program) -> None:
    connect(site, expires_in=300)
    age(site, 600)
    assert pause(site.parts.database, "ann", correlation_id="c")
    response = program.token(min_ttl=3600)
    assert response.status_code == 200, "what lives is good all the same"
    assert response.json()["min_ttl_met"] is False
    problem(program.post("/api/v1/owners/ann/refresh"), 409, "paused")
    with site.parts.database.write() as connection:
        connection.execute(update(grants).values(access_expires_at=now(-1)))
    assert problem(program.token(), 409, "paused")["turn"] == "operator"
    assert program.get("/api/v1/owners/ann").json()["paused_at"]
    assert site.tesla.forms == []


@pytest.mark.parametrize(
    "owner", ["nobody", "x" * 300, "%00", "a%00b", "%F0%9F%9A%97", "a%20b", "%FF", "%E2%80%A8"]
)
def test_an_owner_who_is_not_there(site: Site, program: Program, owner: str) -> None:
    problem(program.token(owner), 404, "no_grant")


@pytest.mark.parametrize("min_ttl", ["-1", "x", "1.5", "", "99999999999999999999", "1e3"])
def test_a_min_ttl_that_is_none(lite: Site, min_ttl: str) -> None:
    connect(lite)
    content = problem(Program(lite).token(min_ttl=min_ttl), 422, "invalid")
    assert content["errors"][0]["parameter"] == "min_ttl"
    assert "min_ttl" in content["detail"]


def test_a_token_whose_key_is_gone_is_the_operators_turn(lite: Site) -> None:
    connect(lite)
    with lite.parts.database.write() as connection:
        connection.execute(update(grants).values(access_token=b"gone:" + b"x" * 60))
    content = problem(Program(lite).token(), 503, "encryption_key")
    assert content["turn"] == "operator"


def age(site: Site, seconds: float) -> None:
    """The grant was refreshed so many seconds earlier."""
    with site.parts.database.write() as connection:
        connection.execute(update(grants).values(refreshed_at=now(-seconds)))
    assert row(site).refreshed_at
