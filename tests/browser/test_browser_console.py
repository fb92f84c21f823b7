"""An operator's way through the console, in a real Chromium."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from sqlalchemy import select, update

from models import api_keys, pulses, surveys, webhooks
from models.api_keys import Scope
from models.events import Kind, events, record
from models.grants import grants
from models.session import now
from tests.browser.conftest import PASSWORD
from workers.survey import survey

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page, Response

    from tests.browser.conftest import Installation, Visitor

HEAVIEST = 150_000
"""Bytes that a page may weigh with all that belongs to it, before compression."""


def operator(visit: Callable[..., Visitor], scheme: str = "light", width: int = 1280) -> Visitor:
    visitor = visit(scheme, width)
    visitor.open("/operator")
    visitor.page.get_by_label("Password").fill(PASSWORD)
    visitor.page.get_by_role("button", name="Sign in").click()
    visitor.page.wait_for_url(f"{visitor.url}/operator")
    return visitor


def owner_of(installation: Installation, visitor: Visitor) -> str:
    """The id of who has just signed in."""
    visitor.open("/owner")
    with installation.parts.database.read() as connection:
        newest = select(grants.c.owner).order_by(grants.c.connected_at.desc()).limit(1)
        return str(connection.execute(newest).scalar_one())


def count(installation: Installation) -> None:
    """What beat and a worker would do every few seconds."""
    with installation.parts.database.write() as connection:
        connection.execute(surveys.surveys.delete().where(surveys.surveys.c.name == "grants"))
        connection.execute(pulses.pulses.delete().where(pulses.pulses.c.name == "survey"))
        connection.execute(update(events).where(events.c.at > now(-20)).values(at=now(-20)))
    for name in ("beat", "sweep", "refresh", "worker:up@here"):
        pulses.beat(installation.parts.database, name)
    assert survey(installation.parts)


def test_finds_who_withdrew_and_sees_why(installation: Installation, visit: Callable[..., Visitor]) -> None:
    ada = visit()
    ada.sign_in("Ada Ampere")
    owner = owner_of(installation, ada)
    withdrawn = requests.post(f"{installation.sandbox}/owners/{owner}/withdraw", timeout=10)
    assert withdrawn.ok
    ada.page.get_by_role("button", name="Refresh now").click()

    page = operator(visit).page
    page.get_by_role("link", name="Owners", exact=True).click()
    page.get_by_label("Owner’s id begins with").fill(owner[:9])
    page.get_by_role("button", name="Find").click()
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=owner))
    expect(row).to_contain_text("Must sign in again")
    row.get_by_role("link", name=owner).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Ended on")
    expect(page.get_by_text("The owner’s turn.")).to_be_visible()
    expect(page.locator("table.events tbody tr").first).to_contain_text("Ended: consent is needed")


def test_pauses_and_resumes_an_owner(installation: Installation, visit: Callable[..., Visitor]) -> None:
    volta = visit()
    volta.sign_in("Volta Moreau")
    owner = owner_of(installation, volta)
    visitor = operator(visit)
    page = visitor.page
    visitor.open(f"/operator/owner?id={owner}")
    page.get_by_role("link", name="Pause").click()
    page.get_by_role("link", name="Leave it").click()
    page.get_by_role("link", name="Pause").click()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("status")).to_have_text("Paused.")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Paused by the operator")
    volta.page.get_by_role("button", name="Refresh now").click()
    expect(volta.page.get_by_role("status")).to_contain_text("the operator has paused it")

    page.get_by_role("link", name="Resume").click()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Alive.")
    page.get_by_role("link", name="Refresh now").click()
    page.get_by_role("button", name="Refresh now").click()
    expect(page.get_by_role("status")).to_have_text("Refreshed just now.")


def test_an_overview_left_open_changes_by_itself(
    installation: Installation, visit: Callable[..., Visitor]
) -> None:
    count(installation)
    page = operator(visit).page
    loads: list[str] = []
    page.on("load", lambda it: loads.append(it.url))
    page.get_by_text("As a table").first.click()
    hundreds = re.compile(r"\b9\d\d in the last hour")
    expect(page.locator("#refreshes-said")).not_to_contain_text(hundreds)
    with installation.parts.database.write() as connection:
        for _ in range(900):
            record(connection, Kind.REFRESHED, owner="somebody", late=1.5)
    count(installation)
    expect(page.locator("#refreshes-said")).to_contain_text(hundreds, timeout=15_000)
    expect(page.locator("#refreshes-table")).to_have_attribute("open", "")
    assert loads == []


def test_a_session_that_ends_is_noticed(visit: Callable[..., Visitor]) -> None:
    visitor = operator(visit)
    page = visitor.page
    visitor.context.clear_cookies(name="evergrant-operator")
    page.evaluate("document.body.dispatchEvent(new Event('look'))")
    expect(page.get_by_label("Password")).to_be_visible()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="What needs you now")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1600])
def test_everybody_can_read_it(
    installation: Installation, visit: Callable[..., Visitor], scheme: str, width: int
) -> None:
    ohm = visit()
    ohm.sign_in("Ohm Lindqvist")
    owner = owner_of(installation, ohm)
    count(installation)
    visitor = visit(scheme, width)
    page = visitor.page
    weight = Weight(page)

    def look(path: str) -> None:
        weight.bytes = 0
        visitor.open(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        found = Axe().run(page).response["violations"]
        serious = [
            (f["id"], [n["html"] for n in f["nodes"]])
            for f in found
            if f["impact"] in {"serious", "critical"}
        ]
        assert serious == [], path
        assert page.locator("html[lang=en] main h1").count() == 1, path
        assert weight.bytes < HEAVIEST, path
        assert weight.elsewhere(visitor.url) == [], path

    look("/operator/signin")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    for path in (
        "/operator",
        "/operator/owners",
        "/operator/owners?q=nobody",
        f"/operator/owner?id={owner}",
        "/operator/owner?id=nobody",
        f"/operator/owner/disconnect?id={owner}",
        "/operator/events?kind=all",
        "/operator/events?owner=nobody",
        "/operator/webhooks",
        "/operator/keys",
        "/operator/doctor",
        f"/operator/doctor?owner={owner}",
        "/operator/doctor/first-run",
        "/operator/doctor/keypair",
    ):
        look(path)
    with installation.parts.database.write() as connection:
        endpoint, _ = webhooks.add(
            connection, installation.parts.keyring, "https://example.com/" + "long/" * 30
        )
        key, _ = api_keys.create(
            connection, name="long " * 20, scopes=list(Scope), owners=["x" * 60] * 9, lives=3600
        )
        record(connection, Kind.CONNECTED, owner=owner)
    for path in (
        "/operator/webhooks",
        f"/operator/webhooks/{endpoint}/remove",
        "/operator/keys",
        f"/operator/keys/{key}/revoke",
    ):
        look(path)


class Weight:
    """What a page loads."""

    def __init__(self, page: Page) -> None:
        self.bytes = 0
        self._urls: list[str] = []
        page.on("response", self._add)

    def _add(self, response: Response) -> None:
        self._urls.append(response.url)
        self.bytes += int(response.headers.get("content-length", "0"))

    def elsewhere(self, url: str) -> list[str]:
        return [each for each in self._urls if not each.startswith(url)]
