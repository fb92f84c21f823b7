"""Every fault, as it looks from the other end of the wire, and what it leaves behind."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from sandbox.faults import FAULTS, Answer, BadRule, Weather
from sandbox.tesla import sub_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.conftest import Running

    Shape = Callable[[requests.Response], bool]


def _json_is(status: int, error: str) -> Shape:
    return lambda answer: answer.status_code == status and answer.json()["error"] == error


def _html(status: int) -> Shape:
    return lambda answer: (
        answer.status_code == status and answer.headers["Content-Type"].startswith("text/html")
    )


def _broken_json(answer: requests.Response) -> bool:
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.content)
    return answer.status_code == 200 and len(answer.content) > 100


def _limited(answer: requests.Response) -> bool:
    headers = answer.headers
    return (
        answer.status_code == 429
        and headers["Retry-After"] == headers["RateLimit-Reset"] == "5"
        and headers["RateLimit-Remaining"] == "0"
    )


ANSWERED: dict[str, Shape] = {
    "down_503": _json_is(503, "temporarily_unavailable"),
    "html_503": _html(503),
    "html_200": _html(200),
    "empty": lambda answer: answer.status_code == 200 and answer.content == b"",
    "truncated_json": _broken_json,
    "huge": lambda answer: answer.status_code == 200 and len(answer.content) > 7_000_000,
    "rate_limit": _limited,
    "waf_403": _html(403),
    "server_error_400": lambda answer: (
        _json_is(400, "server_error")(answer) and {"error_uri", "referenceID"} <= set(answer.json())
    ),
    "invalid_client": _json_is(401, "invalid_client"),
    "unauthorized_client": _json_is(401, "unauthorized_client"),
    "invalid_request": _json_is(400, "invalid_request"),
    "invalid_redirect_url": _json_is(400, "invalid_redirect_url"),
    "invalid_auth_code": _json_is(400, "invalid_auth_code"),
    "login_required": _json_is(401, "login_required"),
    "invalid_grant": _json_is(400, "invalid_grant"),
}
"""Those that are answered in whole."""

ON_THE_WIRE = {"reset", "hang", "cut_body", "drip"}
ALTERED: dict[str, Callable[[dict[str, Any]], bool]] = {
    "no_expires_in": lambda tokens: "expires_in" not in tokens,
    "absurd_expires_in": lambda tokens: tokens["expires_in"] != 60,
    "odd_token_type": lambda tokens: tokens["token_type"] != "Bearer",
    "extra_fields": lambda tokens: len(tokens) > 5,
    "slow": lambda tokens: "access_token" in tokens,
}
ELSEWHERE = {"no_refresh_token", "same_refresh_token", "wrong_region", "access_revoked", "jwks_down"}
BY_PEOPLE = {
    "superseded",
    "two_at_once",
    "other_credentials",
    "missing_scopes",
    "consent_withdrawn",
    "redirect_mismatch",
    "unknown_user",
    "not_registered",
}
"""In test_sandbox_people.py."""


def test_every_fault_is_tried_below() -> None:
    assert set(ANSWERED) | ON_THE_WIRE | set(ALTERED) | ELSEWHERE | BY_PEOPLE == set(FAULTS)


def good_before(sandbox: Running, owner: str, token: str) -> None:
    """The fault struck before the rotation: the token is as fresh as ever."""
    assert sandbox.refresh(token).status_code == 200
    seen = sandbox.owner(owner)
    assert (seen["rotations"], seen["answers_cut"], seen["reused_in_grace"]) == (1, 0, 0)


def lost_after(sandbox: Running, owner: str, token: str) -> None:
    """It struck after: the new token is lost, and the old one is in its 24 h."""
    seen = sandbox.until(owner, lambda seen: bool(seen["answers_cut"]))
    assert (seen["rotations"], seen["answers_cut"], seen["answers_undelivered"]) == (1, 1, 0)
    assert sandbox.refresh(token).status_code == 200
    assert sandbox.owner(owner)["reused_in_grace"] == 1


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("fault", ANSWERED)
def test_answered_in_whole(sandbox: Running, owner: str, fault: str, where: str) -> None:
    token = sandbox.sign_in(owner)["refresh_token"]
    sandbox.fault(fault, owner=owner, where=where, count=1)
    answer = sandbox.refresh(token)
    assert ANSWERED[fault](answer)
    (good_before if where == "before" else lost_after)(sandbox, owner, token)


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("reset", "ConnectionResetError"),
        ("hang", "RemoteDisconnected"),
        ("cut_body", "IncompleteRead"),
    ],
)
def test_cut_on_the_wire(sandbox: Running, owner: str, fault: str, error: str, where: str) -> None:
    token = sandbox.sign_in(owner)["refresh_token"]
    sandbox.fault(fault, owner=owner, where=where, count=1, seconds=0.2)
    start = time.monotonic()
    with pytest.raises(requests.RequestException, match=error):
        sandbox.refresh(token)
    assert (time.monotonic() - start > 0.19) == (fault == "hang")
    (good_before if where == "before" else lost_after)(sandbox, owner, token)


def ask_raw(sandbox: Running, token: str) -> socket.socket:
    """A refresh on a bare socket."""
    body = f"grant_type=refresh_token&client_id=evergrant-sandbox&refresh_token={token}"
    client = socket.create_connection(("127.0.0.1", sandbox.port), timeout=10)
    client.sendall(
        f"POST /oauth2/v3/token HTTP/1.1\r\nHost: localhost:{sandbox.port}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    return client


def test_drip_sends_headers_and_body_a_byte_at_a_time(sandbox: Running, owner: str) -> None:
    token = sandbox.sign_in(owner)["refresh_token"]
    sandbox.fault("drip", owner=owner, where="after", count=1, seconds=1)
    start = time.monotonic()
    pieces = []
    with ask_raw(sandbox, token) as client:
        while piece := client.recv(1 << 16):
            pieces.append((time.monotonic() - start, piece))
    assert pieces[-1][0] > 0.9
    assert len(pieces) > 100
    head, _, body = b"".join(piece for _, piece in pieces).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert json.loads(body)["refresh_token"]
    assert sandbox.owner(owner)["answers_cut"] == 0  # who is patient gets it all


def test_drip_does_not_stretch_to_who_hangs_up(sandbox: Running, owner: str) -> None:
    token = sandbox.sign_in(owner)["refresh_token"]
    sandbox.fault("drip", owner=owner, where="after", count=1, seconds=60)
    with ask_raw(sandbox, token) as client:
        assert client.recv(1)
    lost_after(sandbox, owner, token)


def test_drip_before_is_a_503(sandbox: Running, owner: str) -> None:
    token = sandbox.sign_in(owner)["refresh_token"]
    sandbox.fault("drip", owner=owner, count=1, seconds=0.2)
    assert sandbox.refresh(token).status_code == 503
    good_before(sandbox, owner, token)


@pytest.mark.parametrize("fault", ALTERED)
def test_altered_answers_are_good_all_the_same(sandbox: Running, owner: str, fault: str) -> None:
    token = sandbox.sign_in(owner)["refresh_token"]
    sandbox.fault(fault, owner=owner, count=1, seconds=0.1)
    tokens = sandbox.refresh(token).json()
    assert ALTERED[fault](tokens)
    assert sandbox.refresh(tokens["refresh_token"]).status_code == 200
    assert sandbox.owner(owner)["answers_cut"] == 0


def test_absurd_lifetimes_take_turns(sandbox: Running, owner: str) -> None:
    token = sandbox.sign_in(owner)["refresh_token"]
    sandbox.fault("absurd_expires_in", owner=owner, count=6)
    seen = []
    for _ in range(6):
        tokens = sandbox.refresh(token).json()
        token = tokens["refresh_token"]
        seen.append(tokens["expires_in"])
    assert {repr(value) for value in seen} == {"-1", "0", "1000000000000000", "'soon'", "None", "1e+308"}


def test_no_refresh_token_before_and_after(sandbox: Running, owner: str) -> None:
    token = sandbox.sign_in(owner)["refresh_token"]
    sandbox.fault("no_refresh_token", owner=owner, count=1)
    tokens = sandbox.refresh(token).json()
    assert "access_token" in tokens
    assert "refresh_token" not in tokens
    assert sandbox.owner(owner)["rotations"] == 0
    sandbox.fault("no_refresh_token", owner=owner, count=1, where="after")
    assert "refresh_token" not in sandbox.refresh(token).json()
    lost_after(sandbox, owner, token)


def test_the_same_refresh_token_stays_good(sandbox: Running, owner: str) -> None:
    token = sandbox.sign_in(owner)["refresh_token"]
    sandbox.fault("same_refresh_token", owner=owner, count=1)
    assert sandbox.refresh(token).json()["refresh_token"] == token
    good_before(sandbox, owner, token)


def test_slow_waits_before_or_after_the_rotation(sandbox: Running, owner: str) -> None:
    token = sandbox.sign_in(owner)["refresh_token"]
    for where, rotations in (("before", 0), ("after", 1)):
        sandbox.fault("slow", owner=owner, where=where, count=1, seconds=0.5)
        with ask_raw(sandbox, token) as client:
            seen = sandbox.until(owner, lambda seen: seen["under_way"] == 1 and bool(seen["calls"]))
            if rotations:
                seen = sandbox.until(owner, lambda seen: seen["rotations"] == 2)
            assert seen["rotations"] == rotations * 2
            assert client.recv(1)


def test_an_answer_whose_client_hung_up_counts_as_cut(sandbox: Running, owner: str) -> None:
    token = sandbox.sign_in(owner)["refresh_token"]
    sandbox.fault("slow", owner=owner, count=1, seconds=0.3)
    with ask_raw(sandbox, token):
        sandbox.until(owner, lambda seen: seen["under_way"] == 1)
    seen = sandbox.until(owner, lambda seen: bool(seen["rotations"] and not seen["under_way"]))
    assert (seen["answers_cut"], seen["answers_undelivered"]) == (1, 1)


def test_a_fault_on_the_exchange_of_a_code(sandbox: Running, owner: str) -> None:
    code = sandbox.code(owner)
    sandbox.fault("down_503", owner=owner, grant="authorization_code", count=1)
    assert sandbox.exchange(code).status_code == 503
    assert sandbox.exchange(code).status_code == 200


def test_an_answer_that_carried_no_new_token_is_not_cut(sandbox: Running, owner: str) -> None:
    sandbox.fault("html_200", owner=owner, where="after", count=2)
    assert sandbox.exchange(sandbox.code(owner, scope=["openid"])).text.startswith("<!doctype")
    token = sandbox.exchange(sandbox.code(owner))
    assert token.text.startswith("<!doctype")
    seen = sandbox.owner(owner)
    assert (seen["sign_ins"], seen["generation"], seen["answers_cut"]) == (2, 0, 1)


# --- other endpoints ---------------------------------------------------------------------------------


def test_wrong_region_names_another_one(sandbox: Running, owner: str) -> None:
    token = sandbox.sign_in(owner)["access_token"]
    sandbox.fault("wrong_region", owner=owner, count=1)
    answer = sandbox.fleet("users/region", token)
    assert answer.status_code == 421
    assert f"{sandbox.url}/eu" in answer.json()["error"]
    assert sandbox.fleet("users/region", token).status_code == 200


def test_access_revoked_kills_the_current_access_token_only(sandbox: Running, owner: str) -> None:
    tokens = sandbox.sign_in(owner)
    sandbox.fault("access_revoked", owner=owner, count=1)
    for _ in range(2):
        assert sandbox.fleet("users/me", tokens["access_token"]).status_code == 401
    refreshed = sandbox.refresh(tokens["refresh_token"]).json()
    assert sandbox.fleet("users/me", refreshed["access_token"]).status_code == 200


@pytest.mark.parametrize("fault", [name for name in ANSWERED if name != "huge"])
def test_tesla_down_at_the_fleet_api(sandbox: Running, owner: str, fault: str) -> None:
    tokens = sandbox.sign_in(owner)
    sandbox.fault(fault, owner=owner, endpoint="fleet", count=1)
    assert sandbox.refresh(tokens["refresh_token"]).status_code == 200
    assert ANSWERED[fault](sandbox.fleet("users/region", tokens["access_token"]))
    assert sandbox.fleet("users/region", tokens["access_token"]).status_code == 200


def test_the_fleet_api_hangs_up(sandbox: Running, owner: str) -> None:
    token = sandbox.sign_in(owner)["access_token"]
    sandbox.fault("reset", owner=owner, endpoint="fleet", count=1)
    with pytest.raises(requests.RequestException, match="ConnectionResetError"):
        sandbox.fleet("users/me", token)


def test_jwks_down(sandbox: Running) -> None:
    sandbox.fault("jwks_down", count=1)
    keys = f"{sandbox.url}/oauth2/v3/discovery/keys"
    assert [sandbox.http.get(keys, timeout=10).status_code for _ in range(2)] == [503, 200]


# --- rules -------------------------------------------------------------------------------------------


def test_rules_are_listed_counted_and_cleared(start: Callable[..., Running]) -> None:
    sandbox = start()
    token = sandbox.sign_in("Ada")["refresh_token"]
    rule = sandbox.fault("down_503", owner="ada")
    sandbox.fault("waf_403", owner="Volta")
    assert rule["owner"] == sub_of("Ada")
    assert [sandbox.refresh(token).status_code for _ in range(3)] == [503] * 3
    listed = sandbox.http.get(f"{sandbox.url}/faults", timeout=10).json()
    assert [(each["fault"], each["struck"]) for each in listed["rules"]] == [("down_503", 3), ("waf_403", 0)]
    assert listed["struck"]["down_503"] == 3
    assert listed["struck"]["waf_403"] == 0
    assert set(listed["faults"]) == set(FAULTS)
    assert sandbox.http.delete(f"{sandbox.url}/faults/down_503", timeout=10).json() == {"cleared": 1}
    assert sandbox.refresh(token).status_code == 200
    assert sandbox.http.delete(f"{sandbox.url}/faults", timeout=10).json() == {"cleared": 1}
    assert sandbox.http.get(f"{sandbox.url}/faults", timeout=10).json()["rules"] == []


def test_a_browser_is_led_back_to_the_page(sandbox: Running) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    form = {"fault": "waf_403", "owner": "nobody", "where": "after", "count": "", "seconds": ""}
    answer = sandbox.http.post(
        f"{sandbox.url}/faults", data=form, headers=browser, allow_redirects=False, timeout=10
    )
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    rules = sandbox.http.get(f"{sandbox.url}/faults", timeout=10).json()["rules"]
    rule = next(rule for rule in rules if rule["owner"] == sub_of("nobody"))
    assert rule["left"] is None
    answer = sandbox.http.post(
        f"{sandbox.url}/faults/clear",
        data={"rule": rule["id"]},
        headers=browser,
        allow_redirects=False,
        timeout=10,
    )
    assert answer.status_code == 303
    assert rule not in sandbox.http.get(f"{sandbox.url}/faults", timeout=10).json()["rules"]


@pytest.mark.parametrize(
    "rule",
    [
        {"fault": "sunshine"},
        {},
        {"fault": "empty", "where": "during"},
        {"fault": "empty", "count": 0},
        {"fault": "empty", "count": "many"},
        {"fault": "empty", "probability": 2},
        {"fault": "hang", "seconds": -1},
        {"fault": "empty", "times": 1},
        {"fault": "empty", "endpoint": "jwks"},
        {"fault": "slow", "endpoint": "fleet"},
    ],
)
def test_rules_that_make_no_sense(sandbox: Running, rule: dict[str, Any]) -> None:
    answer = sandbox.http.post(f"{sandbox.url}/faults", json=rule, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"]
    with pytest.raises(BadRule):
        Weather(0).add(rule)


def strikes(seed: int, owners: list[str]) -> dict[str, list[bool]]:
    weather = Weather(seed)
    weather.add({"fault": "empty", "probability": 0.5})
    seen: dict[str, list[bool]] = {}
    for owner in owners:
        seen.setdefault(owner, []).append(weather.strike("token", owner) is not None)
    return seen


def test_the_same_seed_throws_the_same_dice_in_any_order() -> None:
    calls = ["a", "b", "c"] * 40
    assert strikes(7, calls) == strikes(7, sorted(calls))
    assert strikes(7, calls) != strikes(8, calls)
    struck = sum(sum(each) for each in strikes(7, calls).values())
    assert 35 < struck < 85


def test_the_table_tells_what_each_does() -> None:
    weather = Weather(0)
    for fault in FAULTS.values():
        assert fault.description
        assert not (fault.instead and fault.alter)
        if fault.instead:
            assert isinstance(fault.instead(weather.add({"fault": fault.name}), None), Answer)
