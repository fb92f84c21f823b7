from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from fleet.authorize import Discovery, Told, begin, told
from fleet.deadline import Deadline

if TYPE_CHECKING:
    from tests.fleet.wire import Request

URL = "https://auth.tesla.com/oauth2/v3/authorize"


def sign_in(url: str = URL, **more: Any) -> Any:
    more.setdefault("pkce", False)
    return begin(url, "client", "https://example.com/callback", "openid offline_access", **more)


def query(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query, strict_parsing=True))


def test_the_url_asks_for_a_code() -> None:
    one = sign_in()
    assert one.url.startswith(URL + "?")
    assert query(one.url) == {
        "response_type": "code",
        "client_id": "client",
        "redirect_uri": "https://example.com/callback",
        "scope": "openid offline_access",
        "state": one.state,
        "nonce": one.nonce,
    }
    assert "openid%20offline_access" in one.url
    assert one.code_verifier is None


def test_scopes_one_by_one() -> None:
    one = begin(URL, "client", "https://example.com/callback", ["openid", "user_data"], pkce=False)
    assert query(one.url)["scope"] == "openid user_data"


def test_pkce_by_rfc_7636() -> None:
    one = sign_in(pkce=True)
    sent = query(one.url)
    assert sent["code_challenge_method"] == "S256"
    assert 43 <= len(one.code_verifier) <= 128
    digest = hashlib.sha256(one.code_verifier.encode()).digest()
    assert base64.urlsafe_b64decode(sent["code_challenge"] + "=") == digest
    assert one.code_verifier not in one.url


def test_what_tesla_may_be_asked_to_show() -> None:
    assert query(sign_in(login=True).url)["prompt"] == "login"
    assert query(sign_in(prompt_missing_scopes=True).url)["prompt_missing_scopes"] == "true"


def test_a_query_that_is_there_stays() -> None:
    url = sign_in("http://localhost:8080/realms/a/auth?kc_idp_hint=tesla&x=%20y").url
    assert url.startswith("http://localhost:8080/realms/a/auth?kc_idp_hint=tesla&x=%20y&response_type=code&")


def test_no_two_are_alike_and_none_shows_its_secrets() -> None:
    ones = [sign_in(pkce=True) for _ in range(50)]
    secrets = {secret for one in ones for secret in (one.state, one.nonce, one.code_verifier)}
    assert len(secrets) == 150
    assert all(len(secret) >= 43 for secret in secrets)
    assert ones[0].state not in repr(ones[0])


class TestDiscovery:
    @pytest.mark.parametrize(
        ("document", "offers"),
        [
            ({"code_challenge_methods_supported": ["plain", "S256"]}, True),
            ({"code_challenge_methods_supported": ["plain"]}, False),
            ({"code_challenge_methods_supported": "S256"}, False),
            ({}, False),
            ([], False),
            (b"<html>", False),
        ],
    )
    def test_what_the_document_says(self, serve: Any, document: Any, offers: bool) -> None:
        wire = serve(lambda request: request.reply(200, document))
        discovery = Discovery((f"http://127.0.0.1:{wire.port}/oauth2/v3/",))
        assert discovery.offers_pkce(Deadline(5)) is offers
        assert wire.requests[0].path == "/oauth2/v3/.well-known/openid-configuration"
        assert discovery.offers_pkce(Deadline(5)) is offers
        assert len(wire.requests) == 1

    @pytest.mark.parametrize("failing", ["status", "silence"])
    def test_one_that_can_not_be_read_is_asked_again_soon(
        self, serve: Any, monkeypatch: pytest.MonkeyPatch, failing: str
    ) -> None:
        def script(request: Request) -> None:
            if len(wire.requests) > 1:
                request.reply(200, {"code_challenge_methods_supported": ["S256"]})
            elif failing == "status":
                request.reply(503, b"")
            else:
                request.hang()

        wire = serve(script)
        discovery = Discovery((f"http://127.0.0.1:{wire.port}",))
        assert not discovery.offers_pkce(Deadline(0.3))
        assert not discovery.offers_pkce(Deadline(0.3))
        assert len(wire.requests) == 1
        monkeypatch.setattr(Discovery, "FAILED_SECONDS", 0.0)
        discovery._until = 0.0
        assert discovery.offers_pkce(Deadline(5))
        assert len(wire.requests) == 2

    def test_of_several_issuers_one_is_enough(self, serve: Any) -> None:
        wire = serve(lambda request: request.reply(200, {"code_challenge_methods_supported": ["S256"]}))
        assert Discovery(("http://127.0.0.1:9", f"http://127.0.0.1:{wire.port}")).offers_pkce(Deadline(5))


REDIRECT_JSON = {"error": {"message": "We don't recognize this redirect URI/URL.", "code": 400}}
REDIRECT_PAGE = (
    b"<html><head><title>t</title></head><p>The 'redirect_uri' supplied is not registered for this.</p>"
)


@pytest.mark.parametrize(
    ("reply", "expected", "words"),
    [
        ((200, b"<form>Sign in</form>"), Told.GO_ON, "HTTP 200"),
        ((302, b""), Told.GO_ON, "HTTP 302"),
        ((400, REDIRECT_JSON), Told.REDIRECT_MISMATCH, "redirect URI"),
        ((400, REDIRECT_PAGE), Told.REDIRECT_MISMATCH, "The 'redirect_uri' supplied"),
        ((200, REDIRECT_PAGE), Told.REDIRECT_MISMATCH, "not registered"),
        ((400, b"<p>This client_id is not known.</p>"), Told.UNKNOWN_CLIENT, "client_id"),
        ((403, b"<h1>Access denied</h1>"), Told.UNCLEAR, "Access denied"),
        ((503, b""), Told.UNCLEAR, "HTTP 503"),
        ((400, b"redirect_uri=EU_0123456789abcdef0123"), Told.REDIRECT_MISMATCH, "[removed]"),
    ],
)
def test_what_an_authorize_request_is_told(serve: Any, reply: Any, expected: Told, words: str) -> None:
    wire = serve(lambda request: request.reply(*reply))
    found, said = told(sign_in(wire.url).url, Deadline(5))
    assert (found, words in said) == (expected, True), said
    assert "redirect_uri=https%3A" in wire.requests[0].path


def test_nobody_answers_an_authorize_request() -> None:
    assert told(sign_in("http://127.0.0.1:9/authorize").url, Deadline(2))[0] is Told.UNCLEAR
