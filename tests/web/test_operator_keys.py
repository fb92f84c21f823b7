"""The console's page of the keys: made, shown once, listed, revoked."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING

import pytest
import requests
from sqlalchemy import select

from models import api_keys
from models.api_keys import KeyLookup, Scope
from models.events import Kind, events

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.web.pages import Browser, Site

PASSWORD = "the-operator's password"
PAGE = "/operator/keys"


@pytest.fixture
def console(serve: Callable[..., Site], sqlite: Callable[[], str]) -> Site:
    return serve(sqlite(), operator_password=PASSWORD)


@pytest.fixture
def operator(console: Site) -> Browser:
    browser = console.browser()
    assert browser.press("/operator/signin", "/operator/signin", password=PASSWORD).status_code == 303
    return browser


def text(browser: Browser) -> str:
    page = browser.get(PAGE)
    assert page.status_code == 200, page.text
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page.text)).split())


def made(browser: Browser, **fields: str) -> str:
    page = browser.press(PAGE, PAGE, **{"name": "cron", "scope": "tokens:read"} | fields)
    return unescape(re.findall(r"evergrant_[^<]+", page.text)[0])


def test_only_the_operator_sees_and_makes_keys(console: Site) -> None:
    stranger = console.browser()
    assert stranger.get(PAGE).status_code == 303
    with console.parts.database.read() as connection:
        assert api_keys.latest(connection) == []


def test_without_one_it_says_what_they_are_for(operator: Browser) -> None:
    assert "No program has a key." in text(operator)
    assert 'aria-current="page">Keys' in operator.get(PAGE).text


def test_a_key_is_made_and_shown_once(console: Site, operator: Browser) -> None:
    key = made(operator, owners="ann\n bob", days="7")
    use = KeyLookup(console.parts.database).find(key, "ann")
    assert use is not None
    assert use.key.may(Scope.TOKENS_READ)
    assert use.allows_owner
    assert use.key.ends_at is not None
    shown = text(operator)
    assert "cron" in shown
    assert use.key.id in shown
    assert "Only ann, bob." in shown
    assert "Good; ends in 6 d 23 h" in shown
    assert key[23:] not in shown


@pytest.mark.parametrize(
    "fields", [{"name": " "}, {"name": "x" * 101}, {"scope": "everything"}, {"days": "0"}, {"days": "x"}]
)
def test_what_can_not_be_made_is_said(console: Site, operator: Browser, fields: dict[str, str]) -> None:
    given = {"name": "cron", "scope": "tokens:read"} | fields
    assert operator.press(PAGE, PAGE, **given).status_code == 303
    assert "Not made." in text(operator)
    with console.parts.database.read() as connection:
        assert api_keys.latest(connection) == []


def test_a_key_is_revoked_after_a_question(console: Site, operator: Browser) -> None:
    key = made(operator)
    headers = {"Authorization": f"Bearer {key}"}
    where = f"{PAGE}/{key.split('_')[1]}/revoke"
    url = f"{console.url}/api/v1/owners/ann/token"
    assert requests.get(url, headers=headers, timeout=30).status_code == 404
    question = operator.get(where)
    assert "cron" in question.text
    token = re.findall(r'name="csrf_token" value="([^"]+)"', question.text)[-1]
    assert requests.post(console.url + where, timeout=30).status_code == 400
    assert requests.get(url, headers=headers, timeout=30).status_code == 404, "a question revokes nothing"
    assert operator.post(where, data={"csrf_token": token}).status_code == 303
    assert requests.get(url, headers=headers, timeout=30).status_code == 401
    assert "Revoked just now" in text(operator)
    with console.parts.database.read() as connection:
        query = select(events.c.kind, events.c.detail).order_by(events.c.id)
        assert [(kind, detail.startswith("cron")) for kind, detail in connection.execute(query)] == [
            (Kind.KEY_MADE, True),
            (Kind.KEY_REVOKED, True),
        ]


@pytest.mark.parametrize("key", ["000000000000", "x", "%00"])
def test_a_key_that_is_none(operator: Browser, key: str) -> None:
    assert operator.get(f"{PAGE}/{key}/revoke").status_code == 404
