"""What owners, operators and other programs do to a grant, switched on for one owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sandbox.conftest import APP, CALLBACK

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from tests.sandbox.conftest import Running


def test_another_program_has_used_the_token(sandbox: Running, owner: str) -> None:
    tokens = sandbox.sign_in(owner)
    sandbox.fault("superseded", owner=owner, count=1)
    for _ in range(2):
        answer = sandbox.refresh(tokens["refresh_token"])
        assert (answer.status_code, answer.json()["error"]) == (401, "login_required")
    # Consent stands: that is how it can be told from a withdrawal.
    assert sandbox.fleet("users/region", tokens["access_token"]).status_code == 200
    assert sandbox.owner(owner)["rotations"] == 2


def test_two_at_once(sandbox: Running, owner: str) -> None:
    first = sandbox.sign_in(owner)["refresh_token"]
    sandbox.fault("two_at_once", owner=owner, count=1)
    won = sandbox.refresh(first).json()["refresh_token"]
    assert sandbox.refresh(won).status_code == 401
    # The token that both presented is the one used last, and so in its 24 h.
    again = sandbox.refresh(first).json()["refresh_token"]
    assert sandbox.refresh(again).status_code == 200


def test_a_token_of_another_app(sandbox: Running, owner: str) -> None:
    token = sandbox.sign_in(owner)["refresh_token"]
    sandbox.fault("other_credentials", owner=owner, count=1)
    answer = sandbox.refresh(token)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert "another client" in answer.json()["error_description"]
    assert sandbox.refresh(token).status_code == 200


def test_an_app_that_the_token_was_not_given_to(start: Callable[..., Running]) -> None:
    sandbox = start()
    token = sandbox.sign_in("Ada")["refresh_token"]
    sandbox.stop()
    sandbox = start("--client-id", "another-app")
    asked = {"grant_type": "refresh_token", "client_id": "another-app", "refresh_token": token}
    answer = sandbox.token(asked)
    assert (answer.status_code, answer.json()["error"]) == (401, "login_required")
    sandbox.stop()
    assert start().refresh(token).status_code == 200


def test_scopes_are_missing(sandbox: Running, owner: str) -> None:
    sandbox.fault("missing_scopes", owner=owner)
    tokens = sandbox.sign_in(owner)
    answer = sandbox.fleet("vehicles", tokens["access_token"])
    assert (answer.status_code, answer.json()["error"]) == (403, "Unauthorized missing scopes")
    assert sandbox.fleet("users/region", tokens["access_token"]).status_code == 200
    sandbox.http.delete(f"{sandbox.url}/faults/missing_scopes", timeout=10)
    refreshed = sandbox.refresh(tokens["refresh_token"]).json()
    assert sandbox.fleet("vehicles", refreshed["access_token"]).status_code == 200


def test_consent_is_withdrawn_at_either_call(sandbox: Running, owner: str) -> None:
    tokens = sandbox.sign_in(owner)
    sandbox.fault("consent_withdrawn", owner=owner, count=1)
    assert sandbox.refresh(tokens["refresh_token"]).json()["error"] == "login_required"
    assert sandbox.fleet("users/me", tokens["access_token"]).json()["error"] == "User revoked consent"
    assert sandbox.owner(owner)["revoked_because"] == "withdrawn"

    tokens = sandbox.sign_in(owner)
    sandbox.fault("consent_withdrawn", owner=owner, count=1)
    assert sandbox.fleet("users/me", tokens["access_token"]).json()["error"] == "User revoked consent"
    assert sandbox.refresh(tokens["refresh_token"]).status_code == 401


def test_an_account_that_tesla_does_not_know(sandbox: Running, owner: str) -> None:
    token = sandbox.sign_in(owner)["access_token"]
    sandbox.fault("unknown_user", owner=owner, count=1)
    answer = sandbox.fleet("users/region", token)
    assert (answer.status_code, answer.json()["error"]) == (401, "unknown user")


def test_an_unregistered_region(sandbox: Running, owner: str) -> None:
    token = sandbox.sign_in(owner)["access_token"]
    sandbox.fault("not_registered", owner=owner, count=1)
    answer = sandbox.fleet("vehicles", token)
    assert answer.status_code == 412
    assert "must be registered in the current region" in answer.json()["error"]


def test_the_redirect_uri_differs_by_a_character(start: Callable[..., Running]) -> None:
    sandbox = start()

    def ask() -> requests.Response:
        return sandbox.http.get(sandbox.authorize_url, params=sandbox.ask(), timeout=10)

    sandbox.fault("redirect_mismatch", count=1)
    answer = ask()
    assert answer.status_code == 400
    assert f">{CALLBACK}/<" in answer.text
    assert ask().status_code == 200
    sandbox.fault("redirect_mismatch", owner="Ada")
    assert ask().status_code == 200
    assert sandbox.decide(owner="Ada").status_code == 400
    assert sandbox.decide(owner="Volta").status_code == 303


def test_partner_tokens_are_the_apps_own(sandbox: Running, owner: str) -> None:
    url = f"{sandbox.url}/na/api/1/partner_accounts/public_key?domain=localhost:8000"
    theirs = sandbox.sign_in(owner)["access_token"]
    asked = {**APP, "grant_type": "client_credentials", "audience": f"{sandbox.url}/eu", "scope": "openid"}
    elsewhere = sandbox.token(asked).json()["access_token"]
    for token in (theirs, elsewhere, "nonsense"):
        headers = {"Authorization": f"Bearer {token}"}
        assert sandbox.http.get(url, headers=headers, timeout=10).status_code == 401
