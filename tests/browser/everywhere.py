"""All pages of the product, each as a way to get there: what must hold everywhere is tested on these
(`test_browser_everywhere.py`). A new page belongs into `PLACES`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.browser.conftest import Visitor


class Place(NamedTuple):
    name: str
    go: Callable[[Visitor], None]


def address(path: str, *, signed_in: bool = False) -> Callable[[Visitor], None]:
    """A page that is opened by its address."""

    def go(visitor: Visitor) -> None:
        if signed_in:
            visitor.sign_in("Ada Ampere")
        visitor.open(path)

    return go


def refreshed(visitor: Visitor) -> None:
    visitor.sign_in("Ada Ampere")
    visitor.page.get_by_role("button", name="Refresh now").click()


def denied(visitor: Visitor) -> None:
    visitor.open("/signin")
    visitor.page.get_by_role("button", name="Deny").click()


def disconnected(visitor: Visitor) -> None:
    visitor.sign_in("Siemens")
    visitor.open("/owner/disconnect")
    visitor.page.get_by_role("button", name="Disconnect").click()


def erased(visitor: Visitor) -> None:
    visitor.sign_in("Henry")
    visitor.open("/owner/erase")
    visitor.page.get_by_role("button", name="Erase everything").click()


def empty(visitor: Visitor) -> None:
    """The owner erased everything in another browser, and is still signed in in this one."""
    visitor.sign_in("Henry")
    cookies = visitor.context.cookies()
    visitor.open("/owner/erase")
    visitor.page.get_by_role("button", name="Erase everything").click()
    visitor.page.wait_for_url(f"{visitor.url}/")
    visitor.context.add_cookies(cookies)  # type: ignore[arg-type]
    visitor.open("/owner")


PLACES = [
    Place("start page", address("/")),
    Place("start page of who is signed in", address("/", signed_in=True)),
    Place("start page after erasing", erased),
    Place("owner's page", address("/owner", signed_in=True)),
    Place("owner's page with a notice", refreshed),
    Place("owner's page without a grant", empty),
    Place("owner's page after disconnecting", disconnected),
    Place("cars without scripts", address("/owner/cars", signed_in=True)),
    Place("question before disconnecting", address("/owner/disconnect", signed_in=True)),
    Place("question before erasing", address("/owner/erase", signed_in=True)),
    Place("API", address("/api/v1/docs")),
    Place("problem: a sign-in link that is over", address("/signin/link?t=x")),
    Place("troubleshooting", address("/troubleshooting#wrong_region")),
    Place("problem: no such page", address("/nothing-here")),
    Place("problem: an old link", address("/callback?state=made-up&code=x")),
    Place("problem: denied", denied),
]
