"""A sign-in link: from another app to Tesla, and back to that app with a status and without a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from sqlalchemy import update

from models import consent
from models.grants import State
from models.session import now
from models.signin_links import signin_links
from tests.web.api.conftest import Program, connect, problem, row
from tests.web.odd_tesla import json_reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.web.pages import Browser, Site

APP = "https://app.example.com/tesla"
BACK = f"{APP}/back?session=7"


@pytest.fixture
def linked(serve: Callable[..., Site], database_url: str) -> Site:
    return serve(database_url, return_urls=APP)


def link(site: Site, program: Program | None = None, **body: Any) -> str:
    response = (program or Program(site)).post("/api/v1/signin-links", json={"return_url": BACK} | body)
    assert response.status_code == 201, response.text
    content = response.json()
    assert content["expires_at"].endswith("Z")
    url: str = content["url"]
    assert url.startswith(f"{site.url}/signin/link?t=")
    return url.removeprefix(site.url)


def opened(browser: Browser, url: str) -> dict[str, str]:
    """What Tesla is asked for when the link is opened."""
    response = browser.get(url)
    assert response.status_code == 302, response.text
    asked = dict(parse_qsl(urlsplit(response.headers["Location"]).query))
    browser.site.tesla.nonce = asked["nonce"]
    return asked


def signed_in(browser: Browser, url: str, **tokens: Any) -> tuple[str, dict[str, str]]:
    """Where the browser ends, and with which parameters."""
    asked = opened(browser, url)
    tesla = browser.site.tesla
    tesla.token = lambda _: json_reply(200, tesla.tokens(**tokens))
    return came_back(browser, browser.come_back(asked["state"]).headers["Location"])


def came_back(browser: Browser, location: str) -> tuple[str, dict[str, str]]:
    for secret in browser.site.tesla.issued:
        assert secret not in location
    place, _, query = location.partition("?")
    return place, dict(parse_qsl(query))


def test_there_and_back(linked: Site) -> None:
    browser = linked.browser()
    assert signed_in(browser, link(linked), sub="ann") == (
        f"{APP}/back",
        {"session": "7", "status": "connected", "owner": "ann"},
    )
    assert row(linked).state == State.ALIVE
    assert browser.get("/owner").status_code == 200


def test_it_is_good_for_one_sign_in(linked: Site) -> None:
    url = link(linked)
    first, second = linked.browser(), linked.browser()
    opened(first, url)  # whatever looks at links before people do
    asked = opened(second, url)
    signed_in(first, url, sub="ann")
    assert first.get(url).status_code == 410
    assert linked.browser().get(url).status_code == 410
    late = second.come_back(asked["state"])
    assert late.status_code == 404
    assert "Location" not in late.headers


def test_it_ends(linked: Site) -> None:
    url = link(linked)
    with linked.parts.database.write() as connection:
        connection.execute(update(signin_links).values(ends_at=now(-1)))
    response = linked.browser().get(url)
    assert response.status_code == 410
    assert "begin anew" in response.text


@pytest.mark.parametrize("token", ["", "x", "%00", "x" * 5000, "é"])
def test_a_link_that_is_none(linked: Site, token: str) -> None:
    assert linked.browser().get(f"/signin/link?t={token}").status_code == 404


def test_who_says_no_comes_back_and_may_try_again(linked: Site) -> None:
    url, browser = link(linked), linked.browser()
    asked = opened(browser, url)
    response = browser.get("/callback", params={"state": asked["state"], "error": "access_denied"})
    assert came_back(browser, response.headers["Location"])[1] == {
        "session": "7",
        "status": "failed",
        "reason": "access_denied",
    }
    assert signed_in(browser, url)[1]["status"] == "connected"


def test_only_the_owner_whom_it_is_for(linked: Site) -> None:
    url, browser = link(linked, owner="ann"), linked.browser()
    assert signed_in(browser, url, sub="bob")[1] == {
        "session": "7",
        "status": "failed",
        "reason": "another_owner",
    }
    problem(Program(linked).token("bob"), 404, "no_grant")
    assert "owner" not in linked.browser().cookies
    assert signed_in(browser, url, sub="ann")[1]["owner"] == "ann"


def test_another_owner_who_is_here_already_loses_nothing(linked: Site) -> None:
    connect(linked, "bob")
    url, browser = link(linked, owner="ann"), linked.browser()
    assert signed_in(browser, url, sub="bob")[1]["reason"] == "another_owner"
    assert row(linked, "bob").generation == 1, "what Tesla gave last is what it accepts"
    consent.disconnect(linked.parts.database, "bob", correlation_id="c")
    assert signed_in(browser, url, sub="bob")[1]["reason"] == "another_owner"
    assert row(linked, "bob").state == State.DISCONNECTED, "the owner's word stays"


def test_without_a_way_back_the_owner_ends_at_the_own_page(linked: Site) -> None:
    program, browser = Program(linked), linked.browser()
    url = link(linked, program, return_url=None)
    asked = opened(browser, url)
    denied = browser.get("/callback", params={"state": asked["state"], "error": "access_denied"})
    assert denied.status_code == 403
    assert signed_in(browser, url)[0].endswith("/owner")


def test_a_way_back_that_is_no_longer_allowed_is_not_taken(
    serve: Callable[..., Site], sqlite: Callable[[], str]
) -> None:
    database_url = sqlite()
    before = serve(database_url, return_urls=APP)
    url = link(before)
    after = serve(database_url, return_urls="https://other.example")
    assert signed_in(after.browser(), url)[0].endswith("/owner")


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ({"return_url": "javascript:alert(1)"}, "return_url"),
        ({"return_url": f"{APP}#fragment"}, "return_url"),
        ({"return_url": APP + "\n"}, "return_url"),
        ({"return_url": APP + "x" * 3000}, "return_url"),
        ({"lives": True}, "lives"),
        ({"lives": "3600"}, "lives"),
        ({"owner": ""}, "owner"),
        ({"owner": "a\0"}, "owner"),
        ({"lives": 1}, "lives"),
        ({"lives": 10**9}, "lives"),
    ],
)
def test_what_no_link_is_made_of(linked: Site, body: dict[str, Any], parameter: str) -> None:
    content = problem(Program(linked).post("/api/v1/signin-links", json=body), 422, "invalid")
    assert content["errors"][0]["parameter"] == parameter


@pytest.mark.parametrize("url", ["https://evil.example/tesla", f"{APP}/../x", f"{APP}?status=x"])
def test_a_way_back_that_is_not_allowed(linked: Site, url: str) -> None:
    problem(
        Program(linked).post("/api/v1/signin-links", json={"return_url": url}), 403, "return_url_not_allowed"
    )


def test_a_restricted_key_makes_links_for_its_own_owners(linked: Site) -> None:
    program = Program(linked, owners=["ann"])
    problem(program.post("/api/v1/signin-links", json={}), 403, "owner_not_allowed")
    problem(program.post("/api/v1/signin-links", json={"owner": "bob"}), 403, "owner_not_allowed")
    link(linked, program, owner="ann")


def test_its_token_is_in_no_log_and_no_table(linked: Site) -> None:
    url = link(linked)
    signed_in(linked.browser(), url)
    linked.browser().get(url)
    token = url.partition("=")[2]
    assert not any(token in line for line in linked.log)
    with linked.parts.database.read() as connection:
        assert token not in str(connection.execute(signin_links.select()).all())
