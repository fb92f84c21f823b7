"""All pages of the product, each as a way to get there: what must hold everywhere is tested on these
(`test_browser_everywhere.py`). A new page belongs into `PLACES`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from models import api_keys, webhooks
from models.api_keys import Scope
from sandbox.tesla import sub_of
from workers.survey import survey

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


def of_operator(path: str) -> Callable[[Visitor], None]:
    """A page of the console. `{owner}` in its address is an owner who is there."""

    def go(visitor: Visitor) -> None:
        visitor.sign_in("Ada Ampere")
        visitor.sign_in_as_operator()
        visitor.open(path.format(owner=sub_of("Ada Ampere")))

    return go


def wrong_password(visitor: Visitor) -> None:
    visitor.open("/operator")
    visitor.page.get_by_label("Password").fill("wrong")
    visitor.page.get_by_role("button", name="Sign in").click()
    visitor.page.get_by_role("alert").wait_for()


def counted(visitor: Visitor) -> None:
    """The overview, after a worker has looked at all."""
    visitor.sign_in("Ada Ampere")
    survey(visitor.installation.parts)
    visitor.sign_in_as_operator()


def of_webhook(action: str) -> Callable[[Visitor], None]:
    """A page about an endpoint with a long address; without an action, the list that has it."""

    def go(visitor: Visitor) -> None:
        parts = visitor.installation.parts
        with parts.database.write() as connection:
            one, _ = webhooks.add(connection, parts.keyring, "https://example.com/" + "long/" * 30)
        visitor.sign_in_as_operator()
        visitor.open(f"/operator/webhooks/{one}/{action}" if action else "/operator/webhooks")

    return go


def of_key(action: str) -> Callable[[Visitor], None]:
    """A page about a key with a long name and many owners; without an action, the list that has it."""

    def go(visitor: Visitor) -> None:
        with visitor.installation.parts.database.write() as connection:
            key, _ = api_keys.create(
                connection, name="long " * 20, scopes=list(Scope), owners=["x" * 60] * 9, lives=3600
            )
        visitor.sign_in_as_operator()
        visitor.open(f"/operator/keys/{key}/{action}" if action else "/operator/keys")

    return go


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
    Place("operator: sign-in", address("/operator")),
    Place("operator: wrong password", wrong_password),
    Place("operator: overview", counted),
    Place("operator: owners", of_operator("/operator/owners")),
    Place("operator: owners, none found", of_operator("/operator/owners?q=nobody")),
    Place("operator: owner", of_operator("/operator/owner?id={owner}")),
    Place("operator: owner, not there", of_operator("/operator/owner?id=nobody")),
    Place("operator: question", of_operator("/operator/owner/disconnect?id={owner}")),
    Place("operator: events", of_operator("/operator/events?kind=all")),
    Place("operator: events, none found", of_operator("/operator/events?owner=nobody")),
    Place("operator: doctor", of_operator("/operator/doctor")),
    Place("operator: doctor about an owner", of_operator("/operator/doctor?owner={owner}")),
    Place("operator: first run", of_operator("/operator/doctor/first-run")),
    Place("operator: key pair", of_operator("/operator/doctor/keypair")),
    Place("operator: webhooks", of_webhook("")),
    Place("operator: question about a webhook", of_webhook("remove")),
    Place("operator: keys", of_key("")),
    Place("operator: question about a key", of_key("revoke")),
]
