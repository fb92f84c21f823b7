"""A page that is left open: it changes by itself, and says so when it can't."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page, Route

    from tests.browser.conftest import Visitor

LOOK = "document.body.dispatchEvent(new Event('look'))"

WATCH_SHIFTS = """
window.shifted = 0;
new PerformanceObserver(list => { for (const entry of list.getEntries()) window.shifted += entry.value; })
  .observe({ type: 'layout-shift', buffered: true });
"""


def late(route: Route) -> None:
    """Long after the page could have been painted."""
    time.sleep(0.4)
    route.continue_()


def looks_again(page: Page) -> None:
    """The page asks what has changed, now, and has shown it."""
    with page.expect_response("**/owner/live") as response:
        page.evaluate(LOOK)
    response.value.finished()
    expect(page.locator(".htmx-request")).to_have_count(0)


def test_a_refresh_elsewhere_shows_by_itself(visit: Callable[..., Visitor]) -> None:
    left_open, elsewhere = visit(), visit()
    left_open.sign_in("Amp Rossi")
    marks = left_open.page.locator(".strip .alive title")
    expect(marks).to_have_count(1)
    left_open.page.evaluate("window.isTheSamePage = true")
    elsewhere.sign_in("Amp Rossi")
    elsewhere.page.get_by_role("button", name="Refresh now").click()
    expect(elsewhere.page.get_by_role("status")).to_have_text("Refreshed just now.")

    happened = left_open.page.locator("table.events tbody tr")
    expect(happened).to_have_count(3, timeout=15_000)
    expect(happened.first).to_contain_text("Refreshed generation 2")
    expect(left_open.page.locator("#sentence")).to_have_class("sentence alive news")
    expect(left_open.page.locator("#said")).to_contain_text("Alive.")
    assert left_open.page.evaluate("window.isTheSamePage")

    elsewhere.open("/owner/disconnect")
    elsewhere.page.get_by_role("button", name="Disconnect").click()
    expect(elsewhere.page.get_by_role("heading", level=1)).to_contain_text("Disconnected by you")
    looks_again(left_open.page)
    expect(left_open.page.get_by_role("heading", level=1)).to_contain_text("Disconnected by you")
    expect(left_open.page).to_have_title("Disconnected · Evergrant")


def test_what_the_reader_does_is_not_disturbed(visit: Callable[..., Visitor]) -> None:
    visitor = visit(width=1100)
    page = visitor.page
    page.add_init_script(WATCH_SHIFTS)
    page.route("**/evergrant.js*", late)
    page.route("**/owner/cars", late)
    visitor.sign_in("Amp Rossi")
    expect(page.get_by_role("region", name="Your cars")).to_contain_text("the access token works")
    button = page.get_by_role("button", name="Refresh now")
    button.focus()
    page.evaluate("window.button = document.activeElement")
    page.evaluate("window.scrollTo(0, 200)")
    for _ in range(3):
        looks_again(page)
    assert page.evaluate("document.activeElement === window.button")
    assert page.evaluate("window.scrollY") == 200
    expect(page.get_by_role("region", name="Your cars")).to_contain_text("the access token works")
    assert page.evaluate("window.shifted") < 0.01


def test_nobody_looks_nobody_asks(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    page = visitor.page
    visitor.sign_in("Amp Rossi")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    every = "document.getElementById('live').dispatchEvent(new Event('every'))"
    with page.expect_request("**/owner/live"):
        page.evaluate(every)
    page.wait_for_load_state("networkidle")

    page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    asked.clear()
    page.evaluate(every)
    page.evaluate(f"for (let turn = 0; turn < 5; turn++) {every}")
    page.wait_for_load_state("networkidle")
    assert asked == []
    page.evaluate("Object.defineProperty(document, 'hidden', { value: false, configurable: true })")
    with page.expect_request("**/owner/live"):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_a_lost_connection_is_said(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    page = visitor.page
    visitor.sign_in("Amp Rossi")
    looks_again(page)
    lost = page.get_by_text("The live connection is lost.")
    page.route("**/owner/live", lambda route: route.fulfill(status=503, body="away"))
    looks_again(page)
    expect(lost).to_have_count(0)  # once may be a restart
    looks_again(page)
    expect(lost).to_be_in_viewport()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Alive.")
    page.unroute("**/owner/live")
    looks_again(page)
    expect(lost).to_have_count(0)


def test_cars_that_can_not_be_asked_for(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    visitor.sign_in("Amp Rossi")
    visitor.page.route("**/owner/cars", lambda route: route.fulfill(status=503, body="away"))
    visitor.open("/owner")
    cars = visitor.page.get_by_role("region", name="Your cars")
    expect(cars).to_contain_text("That did not work. Open the page anew to ask again.")


def test_signed_out_elsewhere(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    page = visitor.page
    visitor.sign_in("Amp Rossi")
    page.wait_for_load_state("networkidle")
    visitor.context.clear_cookies(name="evergrant")
    page.evaluate(LOOK)
    expect(page).to_have_url(f"{visitor.url}/")
    expect(page.get_by_role("status")).to_contain_text("You are not signed in here.")


def test_times_are_the_readers(visit: Callable[..., Visitor]) -> None:
    visitor = visit(timezone_id="Asia/Kathmandu")
    page = visitor.page
    visitor.sign_in("Amp Rossi")
    for _ in range(2):
        shown = page.locator("dl > div", has_text="Last refresh").locator("time[data-form]")
        moment = datetime.fromisoformat(shown.get_attribute("datetime") or "")
        there = moment.astimezone(ZoneInfo("Asia/Kathmandu"))
        expect(shown).to_have_text(f"{there:%H:%M}")
        expect(page.locator(".timeline td time").first).to_have_text(f"{there.day} {there:%B %Y, %H:%M}")
        title = shown.get_attribute("title") or ""
        assert f"{there:%H:%M:%S}" in title
        assert title.endswith(f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")
        looks_again(page)
