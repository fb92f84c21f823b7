"""The console's page of the webhooks: where they go, whether they get there, and sending them again."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update
from standardwebhooks import Webhook

from models import webhooks
from models.events import Kind, events, record
from models.session import now
from models.webhooks import deliveries, endpoints
from tests.fleet.wire import Wire
from workers.needs import needs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests

    from tests.web.pages import Browser, Site

PASSWORD = "the-operator's password"
PAGE = "/operator/webhooks"


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire(lambda request: request.reply(204)) as wire:
        yield wire


@pytest.fixture
def console(serve: Callable[..., Site], sqlite: Callable[[], str]) -> Site:
    return serve(sqlite(), operator_password=PASSWORD, webhook_networks="127.0.0.0/8")


@pytest.fixture
def operator(console: Site) -> Browser:
    browser = console.browser()
    assert browser.press("/operator/signin", "/operator/signin", password=PASSWORD).status_code == 303
    return browser


@pytest.fixture
def endpoint(console: Site, wire: Wire) -> str:
    with console.parts.database.write() as connection:
        return webhooks.add(connection, console.parts.keyring, wire.url)[0]


def text(browser: Browser) -> str:
    page = browser.get(PAGE)
    assert page.status_code == 200, page.text
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page.text)).split())


def agree(browser: Browser, where: str) -> requests.Response:
    """Presses the button of the page that asks."""
    page = browser.get(where)
    assert page.status_code == 200, page.text
    found = re.findall(
        r'<form method="post"><input type="hidden" name="csrf_token" value="([^"]+)">', page.text
    )
    return browser.post(where, data={"csrf_token": found[-1]})


def say(site: Site, owner: str = "ann") -> None:
    with site.parts.database.write() as connection:
        record(connection, Kind.CONNECTED, owner=owner)


def noted(site: Site) -> list[str]:
    with site.parts.database.read() as connection:
        query = select(events.c.detail).where(events.c.kind == Kind.BY_OPERATOR).order_by(events.c.id)
        return [str(detail) for detail in connection.execute(query).scalars()]


def test_without_one_it_says_what_they_are_for(operator: Browser) -> None:
    assert "No program is told anything." in text(operator)
    assert 'aria-current="page">Webhooks' in operator.get(PAGE).text


def test_an_endpoint_is_added_and_its_secret_shown_once(console: Site, operator: Browser, wire: Wire) -> None:
    added = operator.press(PAGE, PAGE, url=wire.url, type="grant.needs_consent")
    secret = unescape(re.findall(r"whsec_[^<]+", added.text)[0])
    shown = text(operator)
    assert wire.url in shown
    assert "Only grant.needs_consent." in shown
    assert secret not in shown
    with console.parts.database.read() as connection:
        (one,) = webhooks.read_all(connection)
    assert one.secrets(console.parts.keyring) == [secret]
    operator.press(PAGE, f"{PAGE}/{one.id}/test")
    (request,) = wire.requests
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    Webhook(secret).verify(request.body, {name: request.header(name) or "" for name in names})
    assert "It was taken: HTTP 204." in text(operator)
    assert "127.0.0.1" in noted(console)[0]


def test_what_may_not_be_called_is_refused_in_words(console: Site, operator: Browser) -> None:
    for url in ("http://169.254.169.254/latest", "javascript:alert(1)", ""):
        assert operator.press(PAGE, PAGE, url=url).status_code == 303
        assert "Not added." in text(operator)
    with console.parts.database.read() as connection:
        assert webhooks.read_all(connection) == []


def test_deliveries_are_shown_and_sent_again(console: Site, operator: Browser, endpoint: str) -> None:
    say(console)
    assert "1 message waits." in text(operator)
    with console.parts.database.write() as connection:
        (delivery,) = webhooks.latest(connection, endpoint, 1)
        to = webhooks.read(connection, endpoint)
        assert to is not None
        webhooks.delivered(connection, to, delivery, 204)
    shown = text(operator)
    assert "Taken: grant.connected" in shown
    assert delivery.message in shown
    operator.press(PAGE, f"{PAGE}/{endpoint}/again/{delivery.message}")
    assert "sent again with the next sweep" in text(operator)
    with console.parts.database.read() as connection:
        assert webhooks.waiting(connection) == {endpoint: 1}


def test_one_that_is_off_needs_the_operator_and_is_turned_on(
    console: Site, operator: Browser, endpoint: str
) -> None:
    say(console)
    with console.parts.database.write() as connection:
        connection.execute(
            update(endpoints).values(off_because=webhooks.FAILING, failing_since=now(-6 * 24 * 3600))
        )
        connection.execute(update(deliveries).values(attempts=7, error="HTTP 500", status=500))
    shown = text(operator)
    assert "Off: it took nothing for days." in shown
    assert "HTTP 500; tried 7 times" in shown
    assert any(need.code == f"webhooks_off:{endpoint}" for need in needs(console.parts))
    assert "turned on" in operator.get(f"{PAGE}/{endpoint}/replay").text
    assert agree(operator, f"{PAGE}/{endpoint}/replay").status_code == 303
    assert "On." in text(operator)
    assert not any(need.code.startswith("webhooks_off") for need in needs(console.parts))


def test_a_new_secret_and_the_end(console: Site, operator: Browser, endpoint: str) -> None:
    rotated = agree(operator, f"{PAGE}/{endpoint}/rotate")
    secret = unescape(re.findall(r"whsec_[^<]+", rotated.text)[0])
    with console.parts.database.read() as connection:
        one = webhooks.read(connection, endpoint)
    assert one is not None
    assert one.secrets(console.parts.keyring)[0] == secret
    assert "The old secret signs as well" in text(operator)
    where = f"{PAGE}/{endpoint}/remove"
    assert agree(operator, where).status_code == 303
    assert "No program is told anything." in text(operator)
    assert operator.get(where).status_code == 404
    assert len(noted(console)) == 2


def test_only_the_operator_gets_there(console: Site, endpoint: str) -> None:
    stranger = console.browser()
    for path in (PAGE, f"{PAGE}/{endpoint}/replay", f"{PAGE}/{endpoint}/rotate", f"{PAGE}/{endpoint}/remove"):
        assert stranger.get(path).status_code in {302, 303}
        assert stranger.post(path).status_code in {302, 303, 400}
    with console.parts.database.read() as connection:
        assert len(webhooks.read_all(connection)) == 1
