"""The cars on the owner's page: the proof that the access token works, or why there is none."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from models.grants import grants as table
from models.session import now
from tests.web.odd_tesla import json_reply
from web import cars

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.web.odd_tesla import OddTesla, Reply
    from tests.web.pages import Browser, Site

VIN = "5YJ3E1EA7KF317042"
CAR: dict[str, Any] = {"display_name": "Nikola", "vin": VIN, "state": "online"}


def listed(*entries: object) -> Callable[[], Reply]:
    return lambda: json_reply(200, {"response": list(entries), "count": len(entries)})


def part(browser: Browser) -> str:
    """What the owner's page fetches."""
    response = browser.get("/owner/cars", headers={"HX-Request": "true"})
    assert response.status_code == 200
    assert "<html" not in response.text
    return " ".join(response.text.split())


@pytest.fixture
def owner(lite: Site) -> Browser:
    browser = lite.browser()
    browser.sign_in()
    return browser


def test_by_name_with_a_masked_vin(lite: Site, owner: Browser, tesla: OddTesla) -> None:
    tesla.vehicles = listed(CAR, {"display_name": None, "vin": "XP7YGCEK0RB000815", "state": "asleep"})
    shown = part(owner)
    assert '<strong>Nikola</strong> <span class="muted">awake</span>' in shown
    assert '<span class="id">7042</span>' in shown
    assert "A car without a name" in shown
    assert '<span class="id">0815</span>' in shown
    assert VIN[:13] not in shown
    assert "the access token works" in shown
    assert tesla.bearers[-1] == tesla.access_tokens[-1]


def test_the_page_does_not_wait_for_it(lite: Site, owner: Browser, tesla: OddTesla) -> None:
    asked = len(tesla.bearers)
    page = owner.get("/owner").text
    assert 'hx-get="/owner/cars" hx-trigger="load"' in page
    assert '<noscript><p><a href="/owner/cars">' in page
    assert len(tesla.bearers) == asked
    tesla.vehicles = listed()
    alone = owner.get("/owner/cars").text  # without scripts: a page
    assert "<html" in alone
    assert "Tesla names no car in this account." in alone


def test_what_tesla_says_is_data(lite: Site, owner: Browser, tesla: OddTesla) -> None:
    token = tesla.access_tokens[-1]
    tesla.vehicles = listed(
        {"display_name": "<script>alert(1)</script>", "vin": "<b>" * 9, "state": "<i>"},
        {"display_name": "N" * 10_000, "vin": 7},
        {"display_name": f"me: {token}"},
        "no car",
        *([CAR] * 30),
    )
    shown = part(owner)
    assert "&lt;script&gt;" in shown
    assert "<script" not in shown
    assert "<b>" not in shown
    assert "N" * 61 not in shown
    assert token not in shown
    assert shown.count("<li>") == cars.MOST
    assert f"And {33 - cars.MOST} more." in shown


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (json_reply(401, {"error": "token expired (401)"}), "Tesla did not accept the token"),
        (json_reply(401, {"error": "User revoked consent"}), "You withdrew consent at Tesla"),
        (json_reply(403, {"error": "Unauthorized missing scopes"}), "A permission is missing"),
        (json_reply(429, {"error": "too fast"}, Retry_After="7"), "Too fast for Tesla"),
        (json_reply(503, {}), "Tesla is not answering"),
        (json_reply(200, {"response": {"a": 1}}), "makes no sense"),
        ((403, {"Content-Type": "text/html"}, b"<html>no"), "Something in front of Tesla"),
        (None, "Tesla is not answering"),
    ],
)
def test_why_there_are_none(lite: Site, owner: Browser, tesla: OddTesla, reply: Reply, words: str) -> None:
    tesla.vehicles = lambda: reply
    shown = part(owner)
    assert words in shown
    assert "the access token works" not in shown


def test_a_tesla_that_dawdles(
    lite: Site, owner: Browser, tesla: OddTesla, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cars, "SECONDS", 0.3)

    def dawdle() -> Reply:
        time.sleep(2)
        return json_reply(200, {"response": []})

    tesla.vehicles = dawdle
    began = time.monotonic()
    assert "Tesla is not answering" in part(owner)
    assert time.monotonic() - began < 1.8


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"access_expires_at": now(-1)}, "The access token has run out. The next refresh brings a new one."),
        ({"access_expires_at": now(-1), "state": "needs_consent"}, "The next sign-in brings a new one."),
        ({"access_token": None}, "Evergrant holds no token of yours"),
        ({"access_token": b"of another key"}, "A token in the table does not open"),
        ({"scopes": "openid offline_access"}, "You did not grant “Vehicle information”"),
    ],
)
def test_tesla_is_not_asked_in_vain(
    lite: Site, owner: Browser, tesla: OddTesla, row: dict[str, object], words: str
) -> None:
    with lite.parts.database.write() as connection:
        connection.execute(update(table).values(**row))
    asked = len(tesla.bearers)
    assert words in part(owner)
    assert len(tesla.bearers) == asked


def test_nobody_asks_tesla_without_end(lite: Site, owner: Browser, tesla: OddTesla) -> None:
    tesla.vehicles = listed(CAR)
    for _ in range(cars.OFTEN.amount):
        assert "Nikola" in part(owner)
    asked = len(tesla.bearers)
    assert "Tesla was asked often enough just now." in part(owner)
    assert len(tesla.bearers) == asked


def test_who_is_signed_out_meanwhile(lite: Site) -> None:
    browser = lite.browser()
    for path in ("/owner/cars", "/owner/live"):
        response = browser.get(path, headers={"HX-Request": "true"})
        assert (response.text, response.headers["HX-Refresh"]) == ("", "true")
    assert browser.get("/owner/cars").headers["Location"] == "/"
