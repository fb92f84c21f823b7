"""The Fleet API: regions, scopes, and tokens that are no longer good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.conftest import Running


def test_region_me_and_vehicles(sandbox: Running, owner: str) -> None:
    token = sandbox.sign_in(owner)["access_token"]
    assert sandbox.fleet("users/region", token).json() == {
        "response": {"region": "na", "fleet_api_base_url": f"{sandbox.url}/na"}
    }
    me = sandbox.fleet("users/me", token).json()["response"]
    assert me["full_name"] == owner
    cars = sandbox.fleet("vehicles", token).json()
    assert cars["count"] == len(cars["response"]) == 2
    for car in cars["response"]:
        assert len(car["vin"]) == 17
        data = sandbox.fleet(f"vehicles/{car['vin']}/vehicle_data", token).json()["response"]
        assert data["id"] == car["id"]
        assert "drive_state" in data
    assert sandbox.fleet("vehicles/1/vehicle_data", token).status_code == 404


@pytest.mark.parametrize("path", ["users/region", "users/me", "vehicles"])
def test_the_wrong_region_names_the_right_one(sandbox: Running, owner: str, path: str) -> None:
    token = sandbox.sign_in(owner, region="EU")["access_token"]
    for region in ("na", "cn"):
        answer = sandbox.fleet(path, token, region)
        assert answer.status_code == 421
        assert f"{sandbox.url}/eu" in answer.json()["error"]
    assert sandbox.fleet(path, token, "eu").status_code == 200


@pytest.mark.parametrize(("path", "scope"), [("users/me", "user_data"), ("vehicles", "vehicle_device_data")])
def test_missing_scopes(sandbox: Running, owner: str, path: str, scope: str) -> None:
    granted = {"openid", "user_data", "vehicle_device_data"} - {scope}
    token = sandbox.sign_in(owner, scope=sorted(granted))["access_token"]
    answer = sandbox.fleet(path, token)
    assert (answer.status_code, answer.json()["error"]) == (403, "Unauthorized missing scopes")


def test_tokens_that_are_not_access_tokens(sandbox: Running, owner: str) -> None:
    tokens = sandbox.sign_in(owner)
    head, body, tail = tokens["access_token"].split(".")
    for wrong in ("", "x", f"{head}.{body}.{tail[::-1]}", tokens["id_token"], tokens["refresh_token"]):
        answer = sandbox.fleet("users/me", wrong)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid bearer token")


def test_an_expired_token(start: Callable[..., Running], owner: str) -> None:
    sandbox = start("--token-seconds", "0")
    answer = sandbox.fleet("users/me", sandbox.sign_in(owner)["access_token"])
    assert (answer.status_code, answer.json()["error"]) == (401, "token expired (401)")


def test_partner_tokens_stand_for_no_owner(sandbox: Running) -> None:
    partner = sandbox.token(
        {
            "grant_type": "client_credentials",
            "client_id": "evergrant-sandbox",
            "client_secret": "sandbox-secret",
            "audience": f"{sandbox.url}/na",
        }
    ).json()
    assert sandbox.fleet("users/me", partner["access_token"]).status_code == 401


@pytest.mark.parametrize(
    ("what", "error"), [("withdraw", "User revoked consent"), ("password", "invalid bearer token")]
)
def test_a_revoked_owner(sandbox: Running, owner: str, what: str, error: str) -> None:
    tokens = sandbox.sign_in(owner)
    assert sandbox.withdraw(owner, what).status_code == 200
    answer = sandbox.fleet("users/me", tokens["access_token"])
    assert (answer.status_code, answer.json()["error"]) == (401, error)
    assert sandbox.refresh(tokens["refresh_token"]).json()["error"] == "login_required"
    again = sandbox.sign_in(owner)
    assert sandbox.fleet("users/me", again["access_token"]).status_code == 200


def test_another_name_for_the_same_machine_is_answered_in_kind(sandbox: Running, owner: str) -> None:
    numeric = f"http://127.0.0.1:{sandbox.port}"
    code = sandbox.code(owner)
    token = sandbox.http.post(
        f"{numeric}/oauth2/v3/token",
        data={
            "grant_type": "authorization_code",
            "client_id": "evergrant-sandbox",
            "client_secret": "sandbox-secret",
            "code": code,
            "redirect_uri": "http://localhost:8000/callback",
            "audience": f"{numeric}/na",
        },
        timeout=10,
    ).json()["access_token"]
    answer = sandbox.http.get(
        f"{numeric}/na/api/1/users/region", headers={"Authorization": f"Bearer {token}"}, timeout=10
    )
    assert answer.json()["response"]["fleet_api_base_url"] == f"{numeric}/na"
