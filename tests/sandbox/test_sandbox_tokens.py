"""The token endpoint's answers, on a day without faults."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from sandbox.tesla import sub_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.conftest import Running


def claims(sandbox: Running, token: str) -> dict[str, Any]:
    discovery = sandbox.http.get(
        f"{sandbox.url}/oauth2/v3/.well-known/openid-configuration", timeout=10
    ).json()
    keys = KeySet.import_key_set(sandbox.http.get(discovery["jwks_uri"], timeout=10).json())
    decoded = jwt.decode(token, keys, algorithms=["RS256"])
    assert decoded.claims["iss"] == discovery["issuer"]
    return dict(decoded.claims)


def test_the_answer_and_its_tokens_have_teslas_shape(sandbox: Running, owner: str) -> None:
    code = sandbox.code(owner, sandbox.ask(nonce="n-7"), region="EU")
    answer = sandbox.exchange(code, audience=f"{sandbox.url}/eu")
    assert answer.headers["Cache-Control"] == "no-store"
    tokens = answer.json()
    assert set(tokens) == {"access_token", "refresh_token", "id_token", "token_type", "expires_in"}
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 60)
    assert tokens["refresh_token"].startswith("EU_")
    access = claims(sandbox, tokens["access_token"])
    assert access["sub"] == sub_of(owner)
    assert access["aud"][0] == f"{sandbox.url}/eu"
    assert "vehicle_location" in access["scp"]
    assert access["ou_code"] == "EU"
    assert access["azp"] == "evergrant-sandbox"
    assert access["exp"] - access["iat"] == 60
    assert abs(access["iat"] - time.time()) < 5
    identity = claims(sandbox, tokens["id_token"])
    assert (identity["aud"], identity["sub"], identity["nonce"]) == (
        "evergrant-sandbox",
        sub_of(owner),
        "n-7",
    )


def test_a_refresh_answers_the_same_and_a_new_refresh_token(sandbox: Running, owner: str) -> None:
    first = sandbox.sign_in(owner)
    second = sandbox.refresh(first["refresh_token"]).json()
    assert set(second) == set(first)
    assert second["refresh_token"] != first["refresh_token"]
    before, after = (claims(sandbox, answer["access_token"]) for answer in (first, second))
    assert before["jti"] != after["jti"]
    assert before["scp"] == after["scp"]


def test_json_is_as_good_as_a_form(sandbox: Running, owner: str) -> None:
    first = sandbox.sign_in(owner)
    body = {
        "grant_type": "refresh_token",
        "client_id": "evergrant-sandbox",
        "refresh_token": first["refresh_token"],
    }
    answer = sandbox.http.post(sandbox.token_url, json=body, timeout=10)
    assert answer.json()["refresh_token"]


@pytest.mark.parametrize(
    "granted", ["openid user_data", "offline_access user_data", "user_data"], ids=lambda scopes: str(scopes)
)
def test_no_refresh_token_without_both_scopes(sandbox: Running, owner: str, granted: str) -> None:
    answer = sandbox.exchange(sandbox.code(owner, scope=granted.split())).json()
    assert "refresh_token" not in answer
    assert ("id_token" in answer) == ("openid" in granted)
    assert sandbox.owner(owner)["generation"] is None


def test_a_code_works_once(sandbox: Running, owner: str) -> None:
    code = sandbox.code(owner)
    assert sandbox.exchange(code).status_code == 200
    again = sandbox.exchange(code)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_auth_code")
    assert sandbox.owner(owner)["sign_ins"] == 1


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_secret": ""}, 401, "invalid_client"),
        ({"client_id": "wrong"}, 401, "invalid_client"),
        ({"redirect_uri": "http://localhost:8000/callback/"}, 400, "invalid_redirect_url"),
        ({"audience": "https://fleet.example"}, 400, "invalid_request"),
        ({"audience": ""}, 400, "invalid_request"),
        ({"code": "NA_nobodys"}, 400, "invalid_auth_code"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": ""}, 400, "invalid_request"),
    ],
)
def test_a_wrong_exchange_is_refused_and_leaves_the_code_good(
    sandbox: Running, owner: str, changes: dict[str, str], status: int, error: str
) -> None:
    code = sandbox.code(owner)
    refused = sandbox.exchange(**({"code": code} | changes))
    assert (refused.status_code, refused.json()["error"]) == (status, error)
    assert refused.json()["error_description"]
    assert sandbox.exchange(code).status_code == 200


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"client_id": "wrong"}, 401, "invalid_client"),
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_secret": "sandbox-secret"}, 200, None),
        ({"refresh_token": "NA_nobodys"}, 401, "login_required"),
        ({"refresh_token": ""}, 400, "invalid_request"),
    ],
)
def test_a_refresh_needs_the_client_id_and_no_wrong_secret(
    sandbox: Running, owner: str, changes: dict[str, str], status: int, error: str | None
) -> None:
    token = sandbox.sign_in(owner)["refresh_token"]
    asked = {
        "grant_type": "refresh_token",
        "client_id": "evergrant-sandbox",
        "refresh_token": token,
    } | changes
    answer = sandbox.token(asked)
    assert (answer.status_code, answer.json().get("error")) == (status, error)


def test_an_app_without_a_secret(start: Callable[..., Running], owner: str) -> None:
    sandbox = start("--client-secret", "")
    assert sandbox.exchange(sandbox.code(owner), client_secret="").status_code == 200
    assert sandbox.exchange(sandbox.code(owner), client_secret="any").status_code == 401


def test_partner_token(sandbox: Running) -> None:
    asked = {
        "grant_type": "client_credentials",
        "client_id": "evergrant-sandbox",
        "client_secret": "sandbox-secret",
        "audience": f"{sandbox.url}/na",
        "scope": "openid vehicle_device_data",
    }
    answer = sandbox.token(asked).json()
    assert set(answer) == {"access_token", "token_type", "expires_in"}
    assert claims(sandbox, answer["access_token"])["sub"] == "evergrant-sandbox"
    assert sandbox.token(asked | {"client_secret": "wrong"}).json()["error"] == "invalid_client"


def test_a_body_that_is_not_an_object_is_refused(sandbox: Running) -> None:
    for body in ("[]", "{", "null", '"x"'):
        answer = sandbox.http.post(
            sandbox.token_url, data=body, headers={"Content-Type": "application/json"}, timeout=10
        )
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
