"""An operator's way through the console, in a real Chromium."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import requests
from playwright.sync_api import expect
from sqlalchemy import select, update

from models import pulses, surveys
from models.events import Kind, events, record
from models.grants import grants
from models.session import now
from tests.browser.conftest import PASSWORD
from workers.survey import survey

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.browser.conftest import Installation, Visitor


def operator(visit: Callable[..., Visitor], scheme: str = "light", width: int = 1280) -> Visitor:
    visitor = visit(scheme, width)
    visitor.sign_in_as_operator()
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
