"""Who may call: a key, its scope, its owners, its end, its rate, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requests
from sqlalchemy import text

from models import api_keys
from models.api_keys import Scope
from tests.evergrant.running import wait_until
from tests.web.api.conftest import Program, connect, problem
from web.api.app import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.web.pages import Site
    from web.api.operations import Operation

PATHS = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: f"{one.method} {one.path}")


def call(program: requests.Session, url: str, operation: Operation) -> requests.Response:
    path = "/api/v1" + operation.path.replace("{owner}", "ann")
    return program.request(operation.method, url + path, timeout=30)


@PATHS
def test_every_call_needs_a_key(lite: Site, operation: Operation) -> None:
    connect(lite)
    before = lite.table()
    content = problem(response := call(requests.Session(), lite.url, operation), 401, "key_missing")
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="evergrant"'
    assert content["turn"] == "program"
    assert lite.table() == before


@PATHS
def test_every_call_needs_its_scope(lite: Site, operation: Operation) -> None:
    connect(lite)
    before = lite.table()
    others = Program(lite, [scope for scope in Scope if scope != operation.scope])
    content = problem(response := call(others, "", operation), 403, "scope_missing")
    assert content["scope"] == operation.scope
    assert f'error="insufficient_scope", scope="{operation.scope}"' in response.headers["WWW-Authenticate"]
    assert lite.table() == before
    assert call(Program(lite, [operation.scope]), "", operation).status_code != 403


@pytest.mark.parametrize(
    "header",
    [
        "Basic YTpi",
        "Bearer",
        "Bearer nonsense",
        "Bearer evergrant_000000000000_" + "x" * 43,
        "evergrant_000000000000_" + "x" * 43,
        "Bearer evergrant_\xff",
    ],
)
def test_what_is_no_key_opens_nothing(lite: Site, header: str) -> None:
    connect(lite)
    response = requests.get(f"{lite.url}/api/v1/owners", headers={"Authorization": header}, timeout=30)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_revoked_key_opens_nothing_from_the_next_call_on(site: Site, program: Program) -> None:
    connect(site)
    assert program.token().status_code == 200
    with site.parts.database.write() as connection:
        assert api_keys.revoke(connection, program.key_id)
    content = problem(response := program.token(), 401, "key_revoked")
    assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]
    assert "access_token" not in str(content)


def test_a_key_ends(lite: Site) -> None:
    connect(lite)
    problem(Program(lite, lives=-1).token(), 401, "key_ended")
    assert Program(lite, lives=60).token().status_code == 200


def test_a_key_for_some_owners_sees_no_others(site: Site) -> None:
    for owner in ("ann", "bob", "cat"):
        connect(site, owner)
    program = Program(site, owners=["ann", "cat", "zoe"])
    assert program.token("ann").status_code == 200
    problem(program.token("bob"), 403, "owner_not_allowed")
    problem(program.get("/api/v1/owners/bob"), 403, "owner_not_allowed")
    problem(program.post("/api/v1/owners/bob/disconnect"), 403, "owner_not_allowed")
    problem(program.token("zoe"), 404, "no_grant")
    listed = program.get("/api/v1/owners").json()["owners"]
    assert [owner["owner"] for owner in listed] == ["ann", "cat"]
    told = program.get("/api/v1/events").json()["events"]
    assert {event["owner"] for event in told} == {"ann", "cat"}
    assert program.get("/api/v1/events", params={"owner": "bob"}).json()["events"] == []


def test_a_key_has_a_rate(lite: Site) -> None:
    connect(lite)
    program = Program(lite, rate=5)
    answers = [program.token() for _ in range(30)]
    refused = [response for response in answers if response.status_code == 429]
    assert {response.status_code for response in answers} == {200, 429}
    assert answers[0].status_code == 200
    problem(refused[0], 429, "too_fast")
    assert int(refused[0].headers["Retry-After"]) >= 1
    assert Program(lite, rate=5).token().status_code == 200, "each key has its own"


def test_no_cookie_opens_anything_and_none_is_given(lite: Site) -> None:
    browser = lite.browser()
    browser.sign_in(sub="ann")
    assert browser.get("/owner").status_code == 200
    response = browser.get("/api/v1/owners/ann/token")
    problem(response, 401, "key_missing")
    problem(browser.post("/api/v1/owners/ann/disconnect"), 401, "key_missing")
    assert "Set-Cookie" not in response.headers
    assert "Set-Cookie" not in Program(lite).token().headers


def test_the_last_use_is_noted(site: Site, program: Program) -> None:
    connect(site)
    assert program.token().status_code == 200

    def noted() -> bool:
        with site.parts.database.read() as connection:
            key = api_keys.read(connection, program.key_id)
        return key is not None and key.last_used_at is not None

    wait_until(noted, seconds=10, what="the last use is in the table")


@pytest.mark.parametrize("path", ["/api/", "/api/v1", "/api/v1/nothing", "/api/v2/owners", "/gateway/"])
def test_what_is_not_there_is_a_problem_too(lite: Site, path: str) -> None:
    problem(requests.get(lite.url + path, timeout=30), 404, "not_found")


def test_a_method_that_is_not_offered(lite: Site) -> None:
    response = requests.put(f"{lite.url}/api/v1/owners/ann", timeout=30)
    problem(response, 405, "method_not_allowed")
    assert "GET" in response.headers["Allow"]


def test_without_its_table_a_call_says_so(
    serve: Callable[..., Site], postgresql: Callable[[], str], sqlite: Callable[[], str]
) -> None:
    for url in (postgresql(), sqlite()):
        site = serve(url)
        program = Program(site)
        with site.parts.database.write() as connection:
            connection.execute(text("ALTER TABLE api_keys RENAME TO gone"))
        content = problem(response := program.token(), 503, "sql_down")
        assert content["turn"] == "operator"
        assert "Retry-After" in response.headers


def test_no_key_and_no_token_is_in_the_log(lite: Site) -> None:
    connect(lite)
    program = Program(lite)
    program.token()
    program.get("/api/v1/owners", params={"state": program.key})
    program.get(f"/api/v1/owners/{'x' * 300}")
    Program(lite, [Scope.GATEWAY]).token()
    for line in lite.log:
        assert program.key[23:] not in line
        assert "access-of-ann" not in line
