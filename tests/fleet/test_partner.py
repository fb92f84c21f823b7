from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fleet.deadline import Deadline
from fleet.errors import TeslaError
from fleet.partner import PartnerApi, domain_of, pairing_link
from fleet.regions import Regions

if TYPE_CHECKING:
    from tests.fleet.wire import Wire

TOKEN = "eyJ-partner-token"
KEY = "04" + "ab" * 64


def api(wire: Wire) -> PartnerApi:
    return PartnerApi(Regions({"EU": f"http://127.0.0.1:{wire.port}/eu"}))


def test_registering_and_asking_for_the_key(serve: Any) -> None:
    def tesla(request: Any) -> None:
        request.reply(200, {"response": {"public_key": KEY.upper()}})

    wire = serve(tesla)
    assert api(wire).register("EU", "a.example", TOKEN, Deadline(5))["response"]
    assert api(wire).public_key("EU", "localhost:8000", TOKEN, Deadline(5)) == KEY
    first, second = wire.requests
    assert first.head.startswith(b"POST /eu/api/1/partner_accounts ")
    assert first.body == b'{"domain": "a.example"}'
    assert second.path == "/eu/api/1/partner_accounts/public_key?domain=localhost%3A8000"
    assert first.header("Authorization") == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ((404, {"error": "not_found"}), "not_registered"),
        ((200, {"response": None}), "not_registered"),
        ((200, {"response": {"public_key": ""}}), "not_registered"),
        ((412, {"error": "Account 1 must be registered in the current region"}), "not_registered"),
        ((424, {"error": f"Public key download failed for {TOKEN}"}), "key_not_fetched"),
        ((401, {"error": "invalid bearer token"}), "token_not_accepted"),
        ((503, b""), "tesla_failed"),
    ],
)
def test_failures_are_sorted_and_say_no_token(serve: Any, reply: Any, code: str) -> None:
    wire = serve(lambda request: request.reply(*reply))
    with pytest.raises(TeslaError) as caught:
        api(wire).public_key("EU", "a.example", TOKEN, Deadline(5))
    assert caught.value.cause.code == code
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "domain"),
    [
        ("https://Consent.Example.com/app", "consent.example.com"),
        ("https://example.com:443", "example.com"),
        ("http://localhost:8000", "localhost:8000"),
    ],
)
def test_the_domain(url: str, domain: str) -> None:
    assert domain_of(url) == domain
    assert pairing_link(domain) == f"https://tesla.com/_ak/{domain}"
