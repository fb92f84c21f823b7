"""The consent page, as browsers and scripts use it."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.tesla import sub_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from tests.sandbox.conftest import Running

    Redirected = Callable[[requests.Response], dict[str, str]]


def page(sandbox: Running, **changes: str) -> requests.Response:
    return sandbox.http.get(
        sandbox.authorize_url, params=sandbox.ask(**changes), allow_redirects=False, timeout=10
    )


def test_page_offers_owners_scopes_and_both_answers(sandbox: Running) -> None:
    answer = page(sandbox, nonce="n-1", locale="de-DE", prompt="login", prompt_missing_scopes="true")
    assert answer.status_code == 200
    for text in ("Ada Ampere", "vehicle_location", ">Allow<", ">Deny<", 'name="state" value="state-1"'):
        assert text in answer.text
    assert "script" not in answer.text
    assert "style=" not in answer.text


def test_allow_leads_back_with_code_state_issuer_and_locale(
    sandbox: Running, owner: str, redirected: Redirected
) -> None:
    answer = redirected(sandbox.decide(owner=owner, region="EU"))
    assert answer["code"].startswith("EU_")
    assert answer["state"] == "state-1"
    assert answer["issuer"] == f"{sandbox.url}/oauth2/v3"
    assert answer["locale"]


def test_everything_may_come_as_fields_of_the_form(
    sandbox: Running, owner: str, redirected: Redirected
) -> None:
    form = sandbox.ask() | {"owner": owner, "decision": "allow"}
    answer = sandbox.http.post(sandbox.authorize_url, data=form, allow_redirects=False, timeout=10)
    assert sandbox.exchange(redirected(answer)["code"]).json()["refresh_token"]


@pytest.mark.parametrize(("decision", "error"), [("deny", "access_denied"), ("cancel", "login_cancelled")])
def test_a_no_leads_back_with_its_error(
    sandbox: Running, redirected: Redirected, decision: str, error: str
) -> None:
    answer = redirected(sandbox.decide(decision=decision))
    assert (answer["error"], answer["state"]) == (error, "state-1")
    assert "code" not in answer


@pytest.mark.parametrize(
    "uri",
    [
        "http://localhost:8000/callback/",
        "https://localhost:8000/callback",
        "http://127.0.0.1:8000/callback",
        "http://localhost:8000/Callback",
        "http://localhost:8000/callback?x=1",
        "http://evil.example/<b>",
    ],
)
def test_a_redirect_uri_off_by_a_letter_is_shown_and_never_followed(sandbox: Running, uri: str) -> None:
    for answer in (page(sandbox, redirect_uri=uri), sandbox.decide(sandbox.ask(redirect_uri=uri))):
        assert answer.status_code == 400
        assert "Location" not in answer.headers
        assert uri.replace("<", "&lt;").replace(">", "&gt;") in answer.text
        assert "<dd>http://localhost:8000/callback</dd>" in answer.text


@pytest.mark.parametrize("changes", [{"client_id": "somebody"}, {"client_id": ""}, {"state": ""}])
def test_what_can_not_be_trusted_with_a_redirect_gets_a_page(
    sandbox: Running, changes: dict[str, str]
) -> None:
    answer = page(sandbox, **changes)
    assert answer.status_code == 400
    assert "Location" not in answer.headers


@pytest.mark.parametrize(
    "changes",
    [
        {"response_type": "token"},
        {"scope": ""},
        {"scope": "openid everything"},
        {"code_challenge": "x" * 43, "code_challenge_method": "plain"},
    ],
)
def test_other_mistakes_lead_back_as_invalid_request(
    sandbox: Running, redirected: Redirected, changes: dict[str, str]
) -> None:
    answer = redirected(page(sandbox, **changes))
    assert (answer["error"], answer["state"]) == ("invalid_request", "state-1")


def test_two_redirect_uris_may_be_registered(start: Callable[..., Running]) -> None:
    sandbox = start("--redirect-uri", "http://localhost:8000/callback", "--redirect-uri", "http://other/cb")
    assert page(sandbox, redirect_uri="http://other/cb").status_code == 200
    assert page(sandbox).status_code == 200


def test_owners_may_be_typed_and_keep_their_sub(sandbox: Running, owner: str, redirected: Redirected) -> None:
    redirected(sandbox.decide(owner="Ada Ampere", other_owner=f"  {owner.upper()} "))
    assert sandbox.owner(owner.upper())["sub"] == sub_of(owner)


@pytest.mark.parametrize(
    "fields", [{"owner": " "}, {"owner": "x" * 81}, {"region": "MOON"}, {"decision": ""}]
)
def test_a_form_that_makes_no_sense_is_shown_again(sandbox: Running, fields: dict[str, Any]) -> None:
    answer = sandbox.decide(**fields)
    assert answer.status_code == 400
    assert 'role="alert"' in answer.text


def test_the_region_is_remembered(sandbox: Running, owner: str) -> None:
    assert sandbox.code(owner).startswith("NA_")
    assert sandbox.code(owner, region="EU").startswith("EU_")
    assert sandbox.code(owner).startswith("EU_")


def test_unticked_scopes_are_not_granted_and_more_than_asked_is_not_either(
    sandbox: Running, owner: str
) -> None:
    ask = sandbox.ask(scope="openid offline_access user_data")
    code = sandbox.code(owner, ask, scope=["openid", "user_data", "vehicle_cmds"])
    answer = sandbox.exchange(code).json()
    assert sandbox.owner(owner)["scopes"] == ["openid", "user_data"]
    assert "refresh_token" not in answer


def test_require_requested_scopes_refuses_an_unticked_one(sandbox: Running, owner: str) -> None:
    ask = sandbox.ask(require_requested_scopes="true")
    assert sandbox.decide(ask, owner=owner, scope=["openid"]).status_code == 400
    assert sandbox.decide(ask, owner=owner).status_code == 303


def test_pkce(sandbox: Running, owner: str) -> None:
    verifier = "v" * 50
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    ask = sandbox.ask(code_challenge=challenge, code_challenge_method="S256")
    code = sandbox.code(owner, ask)
    for wrong in ("", "w" * 50):
        refused = sandbox.exchange(code, code_verifier=wrong)
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert sandbox.exchange(code, code_verifier=verifier).status_code == 200
