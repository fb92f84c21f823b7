"""Owners as programs see them, what they may do to them, and what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from models import api_keys, consent
from models.events import Kind, record
from models.grants import State
from models.signin_links import signin_links
from tests.web.api.conftest import Program, connect, problem, row
from tests.web.odd_tesla import json_reply

if TYPE_CHECKING:
    from tests.web.pages import Site


def owners(program: Program, **query: str | int) -> list[str]:
    response = program.get("/api/v1/owners", params=query)
    assert response.status_code == 200, response.text
    return [owner["owner"] for owner in response.json()["owners"]]


def test_the_pages_hold_everybody_once(site: Site, program: Program) -> None:
    everybody = sorted(f"owner-{number:02d}" for number in range(7))
    for owner in reversed(everybody):
        connect(site, owner)
    found, after = [], None
    while True:
        query = {"limit": 3} | ({"after": after} if after else {})
        page = program.get("/api/v1/owners", params=query).json()
        found += [owner["owner"] for owner in page["owners"]]
        assert len(page["owners"]) <= 3
        after = page["next"]
        if after is None:
            break
    assert found == everybody


def test_the_filters(site: Site, program: Program) -> None:
    connect(site, "ann")
    connect(site, "bob", region="NA")
    connect(site, "cat")
    consent.disconnect(site.parts.database, "cat", correlation_id="c")
    assert owners(program) == ["ann", "bob", "cat"]
    assert owners(program, state="alive") == ["ann", "bob"]
    assert owners(program, state="disconnected") == ["cat"]
    assert owners(program, region="NA") == ["bob"]
    assert owners(program, region="NA", state="disconnected") == []
    assert owners(program, after="ann", state="alive") == ["bob"]


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 1001}, {"state": "dead"}, {"region": "eu"}, {"after": "a\0"}]
)
def test_parameters_that_can_not_be_used(lite: Site, query: dict[str, str | int]) -> None:
    content = problem(Program(lite).get("/api/v1/owners", params=query), 422, "invalid")
    assert content["errors"][0]["parameter"] == next(iter(query))


def test_one_owner(site: Site, program: Program) -> None:
    connect(site)
    content = program.get("/api/v1/owners/ann").json()
    assert content["owner"] == "ann"
    assert content["state"] == "alive"
    assert content["missing_scopes"] == ["user_data"]
    assert content["reconnect_url"] is None
    assert content["refresh_at"].endswith("Z")
    assert "token" not in " ".join(content)
    problem(program.get("/api/v1/owners/nobody"), 404, "no_grant")


def test_one_owner_who_has_to_sign_in_again(site: Site, program: Program) -> None:
    connect(site, due_in=-1)
    site.tesla.token = lambda _: json_reply(401, {"error": "login_required"})
    problem(program.post("/api/v1/owners/ann/refresh"), 409, "needs_consent")
    content = program.get("/api/v1/owners/ann").json()
    assert content["state"] == "needs_consent"
    assert content["reason"]["code"] == row(site).reason
    assert content["reason"]["explanation"]
    assert content["reason"]["turn"]
    assert content["reconnect_url"] == f"{site.url}/signin/missing"


# --- refresh now --------------------------------------------------------------------------------------


def test_refresh_now(site: Site, program: Program) -> None:
    connect(site)
    content = program.post("/api/v1/owners/ann/refresh").json()
    assert content["result"] == "refreshed"
    assert content["owner"]["generation"] == 1
    assert "access_token" not in str(content)
    assert len(site.tesla.forms) == 1


def test_what_was_refreshed_meanwhile_is_not_refreshed_again(site: Site, program: Program) -> None:
    connect(site)
    for result in ("refreshed", "fresh", "fresh"):
        response = program.post("/api/v1/owners/ann/refresh", json={"generation": 0})
        assert response.json()["result"] == result
    assert len(site.tesla.forms) == 1


def test_a_refresh_that_brings_nothing(site: Site, program: Program) -> None:
    connect(site)
    site.tesla.token = lambda _: json_reply(429, {}, Retry_After="7")
    content = problem(response := program.post("/api/v1/owners/ann/refresh"), 503, "rate_limited")
    assert content["turn"] == "wait"
    assert int(response.headers["Retry-After"]) >= 7
    problem(program.post("/api/v1/owners/nobody/refresh"), 404, "no_grant")


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "bad_request"),
        (b"\xff", "application/json", 400, "bad_request"),
        (b"[" * 20_000, "application/json", 400, "bad_request"),
        (b'"\\ud800"', "application/json", 400, "bad_request"),
        (b"[]", "application/json", 422, "invalid"),
        (b"null", "application/json", 422, "invalid"),
        (b'{"generation": -1}', "application/json", 422, "invalid"),
        (b'{"generation": 1e400}', "application/json", 422, "invalid"),
        (b'{"generation": %d}' % 2**80, "application/json", 422, "invalid"),
        (b"generation=0", "application/x-www-form-urlencoded", 415, "not_json"),
        (b'{"x": "' + b"x" * 70_000 + b'"}', "application/json", 413, "too_large"),
    ],
)
def test_bodies_that_can_not_be_used(lite: Site, body: bytes, kind: str, status: int, code: str) -> None:
    connect(lite)
    program = Program(lite)
    sent = program.post("/api/v1/owners/ann/refresh", data=body, headers={"Content-Type": kind})
    problem(sent, status, code)
    assert lite.tesla.forms == []


# --- disconnect ---------------------------------------------------------------------------------------


def test_disconnect(site: Site, program: Program) -> None:
    connect(site)
    for _ in range(2):
        response = program.post("/api/v1/owners/ann/disconnect")
        assert response.status_code == 200
        assert response.json()["state"] == "disconnected"
    grant = row(site)
    assert grant.state == State.DISCONNECTED
    assert grant.sealed_access_token is None
    problem(program.post("/api/v1/owners/nobody/disconnect"), 404, "no_grant")


# --- events -------------------------------------------------------------------------------------------


def test_events_newest_first_a_page_at_a_time(site: Site, program: Program) -> None:
    connect(site, "ann")
    connect(site, "bob")
    with site.parts.database.write() as connection:
        record(connection, Kind.NEEDS_CONSENT, owner="ann", reason="login_required", detail="words")
        record(connection, Kind.OPERATOR_MUST_ACT, reason="invalid_client")
    found, before = [], None
    while True:
        query = {"limit": 2} | ({"before": before} if before else {})
        page = program.get("/api/v1/events", params=query).json()
        found += page["events"]
        before = page["next"]
        if before is None:
            break
    assert [(event["kind"], event["owner"]) for event in found] == [
        ("operator_must_act", None),
        ("needs_consent", "ann"),
        ("connected", "bob"),
        ("connected", "ann"),
        ("key_made", None),
    ]
    assert found[1]["reason"]["explanation"]
    assert found[1]["at"].endswith("Z")
    only = program.get("/api/v1/events", params={"owner": "ann"}).json()["events"]
    assert [event["kind"] for event in only] == ["needs_consent", "connected"]


@pytest.mark.parametrize("query", [{"before": 0}, {"before": 2**63}, {"limit": 0}, {"owner": ""}])
def test_event_parameters_that_can_not_be_used(lite: Site, query: dict[str, str | int]) -> None:
    problem(Program(lite).get("/api/v1/events", params=query), 422, "invalid")


def test_who_is_erased_is_in_no_list_of_ours(site: Site) -> None:
    connect(site)
    program = Program(site, owners=["ann", "bob"])
    assert program.post("/api/v1/signin-links", json={"owner": "ann"}).status_code == 201
    consent.erase(site.parts.database, "ann")
    problem(program.token(), 403, "owner_not_allowed")
    with site.parts.database.read() as connection:
        assert api_keys.owners_of(connection, program.key_id) == ["bob"]
        assert connection.execute(select(signin_links)).all() == []
