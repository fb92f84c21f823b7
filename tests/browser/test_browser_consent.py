"""An owner's way through the pages, in a real Chromium."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.browser.conftest import Visitor


def test_sign_in_see_it_alive_and_refresh(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    visitor.sign_in("Volta Moreau")
    page = visitor.page
    expect(page.get_by_role("heading", level=1)).to_contain_text("Alive. Refreshed just now; next in 5 h")
    expect(page.get_by_text("Europe", exact=False).first).to_be_visible()
    moment = page.get_by_role("heading", level=1).locator("time")
    assert (moment.get_attribute("title") or "").endswith(" UTC")

    page.get_by_role("button", name="Refresh now").click()
    expect(page.get_by_role("status")).to_have_text("Refreshed just now.")
    expect(page.locator("table.events tbody tr").first).to_contain_text("Refreshed")

    cookies = {cookie["name"]: cookie for cookie in visitor.context.cookies(visitor.url)}
    assert set(cookies) == {"evergrant", "evergrant-browser"}
    assert all(cookie["httpOnly"] and cookie["sameSite"] == "Lax" for cookie in cookies.values())
    assert page.evaluate("document.cookie") == ""


def test_untick_and_be_asked_again(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    page = visitor.page
    visitor.open("/")
    page.get_by_role("link", name="Sign in with Tesla").click()
    page.locator("input[name=scope][value=offline_access]").uncheck()
    page.get_by_role("button", name="Allow").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("The grant can't be kept alive")
    expect(page.get_by_text("Your turn.")).to_be_visible()

    page.get_by_role("link", name="Sign in again").click()
    assert "prompt_missing_scopes=true" in page.url
    page.locator("input[name=scope][value=vehicle_location]").uncheck()
    page.get_by_role("button", name="Allow").click()
    row = page.get_by_role("row", name="Vehicle location")
    expect(row).to_contain_text("Not granted.")

    page.get_by_role("link", name="Grant what is missing").click()
    assert "prompt_missing_scopes=true" in page.url
    page.get_by_role("button", name="Allow").click()
    expect(row).not_to_contain_text("Not granted.")
    expect(page.get_by_role("link", name="Grant what is missing")).to_have_count(0)


def test_deny(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    page = visitor.page
    visitor.open("/")
    page.get_by_role("link", name="Sign in with Tesla").click()
    page.get_by_role("button", name="Deny").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("You said no at Tesla")
    expect(page.get_by_role("link", name="Sign in again")).to_be_visible()


def test_going_back_and_reloading_the_callback(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    came_back: list[str] = []
    visitor.page.on("request", lambda request: came_back.append(request.url))
    visitor.sign_in("Ohm Lindqvist")
    (callback,) = [url for url in came_back if "/callback?" in url]
    visitor.page.goto(callback)
    expect(visitor.page.get_by_role("heading", level=1)).to_have_text("You are signed in already")
    visitor.page.get_by_role("link", name="To your page").click()
    expect(visitor.page.get_by_role("heading", level=1)).to_contain_text("Alive.")


def test_disconnect_reconnect_erase(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    page = visitor.page
    visitor.sign_in("Joule Okafor")
    heading = page.get_by_role("heading", level=1)

    page.get_by_role("link", name="Disconnect").click()
    page.get_by_role("link", name="Keep it").click()
    expect(heading).to_contain_text("Alive.")
    page.get_by_role("link", name="Disconnect").click()
    page.get_by_role("button", name="Disconnect").click()
    expect(heading).to_contain_text("Disconnected by you")

    page.get_by_role("link", name="Reconnect").click()
    visitor.allow("Joule Okafor")
    expect(heading).to_contain_text("Alive.")

    page.get_by_role("link", name="Erase everything").click()
    expect(heading).to_have_text("Erase everything about this owner?")
    page.get_by_role("button", name="Erase everything").click()
    expect(page.get_by_role("status")).to_contain_text("Everything about you is erased.")
    visitor.open("/owner")
    expect(page.get_by_role("status")).to_contain_text("You are not signed in here.")


def test_withdraw_at_tesla_and_reconnect(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    page = visitor.page
    visitor.sign_in("Tesla Kovač")
    heading = page.get_by_role("heading", level=1)
    cars = page.get_by_role("region", name="Your cars")
    expect(cars).to_contain_text("the access token works")

    page.get_by_role("link", name="Open at Tesla").click()
    page.get_by_role("button", name="Withdraw consent of Tesla Kovač").click()
    visitor.open("/owner")
    expect(cars).to_contain_text("You withdrew consent at Tesla")
    page.get_by_role("button", name="Refresh now").click()
    expect(page.get_by_role("status")).to_contain_text("Reconnect to go on.")
    expect(heading).to_contain_text("Ended on ")
    expect(page.locator(".strip .ended")).to_have_count(1)

    page.get_by_role("link", name="Reconnect").click()
    visitor.allow("Tesla Kovač")
    expect(heading).to_contain_text("Alive.")
    expect(cars).to_contain_text("the access token works")


def test_export(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    visitor.sign_in("Volta Moreau")
    with visitor.page.expect_download() as download:
        visitor.page.get_by_role("link", name="Export my data").click()
    assert download.value.suggested_filename.startswith("evergrant-")
    kept = json.loads(download.value.path().read_text())["kept"]
    assert kept["grants"][0]["state"] == "alive"
    assert "token" not in kept["grants"][0]


def test_without_scripts(visit: Callable[..., Visitor]) -> None:
    visitor = visit(java_script_enabled=False)
    page = visitor.page
    visitor.sign_in("Ohm Lindqvist")
    expect(page.locator("svg.strip[role=img]")).to_be_visible()
    expect(page.get_by_text("Asking Tesla")).to_be_hidden()
    assert page.locator("dl time[data-form=clock]").first.inner_text().endswith(" UTC")
    page.get_by_role("button", name="Refresh now").click()
    expect(page.get_by_role("status")).to_have_text("Refreshed just now.")
    page.get_by_role("link", name="Ask Tesla for your cars").click()
    expect(page.get_by_role("region", name="Your cars")).to_contain_text("Ohm’s Model 3")
    page.get_by_role("link", name="To your page").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Alive.")


def test_the_keyboard_is_enough(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    page = visitor.page
    visitor.open("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    button = page.get_by_role("link", name="Sign in with Tesla")
    expect(button).to_be_focused()
    assert button.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Allow")).to_be_visible()
