"""The owner's page, and what the owner may do on it."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import LargeBinary, select, update

from fleet.authorize import CONSENT_PAGE
from models import events, grants, pulses
from models.grants import grants as table
from models.session import metadata, now
from tests.web.odd_tesla import json_reply
from web import owner as owner_page

if TYPE_CHECKING:
    from tests.web.odd_tesla import OddTesla, Reply
    from tests.web.pages import Browser, Site
    from workers.refresh import Outcome


def refused(error: str, status: int = 401) -> Reply:
    return json_reply(status, {"error": error})


def generation(site: Site) -> int:
    with site.parts.database.read() as connection:
        grant = grants.read(connection, "owner-1")
    assert grant is not None
    return grant.generation


def change(site: Site, **values: object) -> None:
    with site.parts.database.write() as connection:
        connection.execute(update(table).values(**values))


@pytest.fixture
def owner(site: Site) -> Browser:
    browser = site.browser()
    browser.sign_in()
    return browser


def test_refresh_now(site: Site, owner: Browser) -> None:
    answer = owner.press("/owner", "/owner/refresh")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/owner")
    page = owner.get("/owner").text
    assert "Refreshed just now." in page
    assert generation(site) == 1
    assert 'Refreshed <span class="muted">generation 1</span>' in page
    with site.parts.database.read() as connection:
        newest = events.latest(connection, "owner-1")[0]
    assert newest.correlation_id
    assert newest.correlation_id in page
    for token in site.tesla.issued:
        assert token not in "".join(owner.seen)


def test_two_clicks_call_tesla_once(
    site: Site, owner: Browser, tesla: OddTesla, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2, timeout=10)
    refresh = site.parts.refresher.refresh

    def together(*args: Any, **kwargs: Any) -> Outcome:
        both.wait()
        return refresh(*args, **kwargs)

    monkeypatch.setattr(site.parts.refresher, "refresh", together)
    calls = len(tesla.forms)
    with ThreadPoolExecutor(2) as pool:
        clicks = [pool.submit(owner.press, "/owner", "/owner/refresh", generation="0") for _ in range(2)]
        assert [click.result().status_code for click in clicks] == [303, 303]
    assert len(tesla.forms) == calls + 1
    assert generation(site) == 1


def test_a_page_from_before_does_not_refresh_again(site: Site, owner: Browser, tesla: OddTesla) -> None:
    owner.press("/owner", "/owner/refresh", generation="0")
    calls = len(tesla.forms)
    owner.press("/owner", "/owner/refresh", generation="0")
    assert "It is fresh already" in owner.get("/owner").text
    assert len(tesla.forms) == calls
    owner.press("/owner", "/owner/refresh", generation="not a number")
    assert generation(site) == 2


def test_tesla_is_not_answering(site: Site, owner: Browser, tesla: OddTesla) -> None:
    tesla.token = lambda _: refused("server_error", 500)
    owner.press("/owner", "/owner/refresh")
    page = owner.get("/owner").text
    assert "Not refreshed: Tesla is not answering." in page
    assert "Waiting for Tesla." in page
    assert "Tried once" in page
    assert "The access token is good for 7 h 59 min. Nothing to do." in page
    assert generation(site) == 0


def test_the_operator_must_act(site: Site, owner: Browser, tesla: OddTesla) -> None:
    tesla.token = lambda _: refused("invalid_client")
    owner.press("/owner", "/owner/refresh")
    page = owner.get("/owner").text
    assert (
        "Not refreshed: Tesla does not know this client id and secret. That is the operator’s turn." in page
    )
    assert "<strong>Paused.</strong>" in page
    assert "the grant is kept" in page


def test_consent_has_ended(site: Site, owner: Browser, tesla: OddTesla) -> None:
    tesla.token = lambda _: refused("login_required")
    tesla.region = lambda: json_reply(401, {"error": "invalid bearer token"})
    owner.press("/owner", "/owner/refresh")
    page = owner.get("/owner").text
    assert "Not refreshed: Tesla ended this grant. Reconnect to go on." in page
    assert "<strong>Ended</strong>" in page
    assert "consent was withdrawn" in page
    assert '<a class="button primary" href="/signin/missing">Reconnect</a>' in page
    assert "Refresh now" not in page

    asked = owner.get("/signin/missing").headers["Location"]
    assert "prompt_missing_scopes=true" in asked
    tesla.reset()
    owner.sign_in()
    assert "<strong>Alive.</strong>" in owner.get("/owner").text


def test_a_refresh_that_nobody_makes(site: Site, owner: Browser) -> None:
    change(site, refresh_at=now(-100))
    page = owner.get("/owner").text
    assert "Waiting for Evergrant." in page
    assert "due for 1 min, and no worker is at it: the operator’s turn" in page
    pulses.beat(site.parts.database, "sweep")
    assert "the next is due now, by itself" in owner.get("/owner").text


def test_disconnect(site: Site, owner: Browser) -> None:
    assert "Disconnect?" in owner.get("/owner/disconnect").text
    assert "alive" in str(site.table()[0])
    owner.press("/owner/disconnect", "/owner/disconnect")
    page = owner.get("/owner").text
    assert "<strong>Disconnected</strong> by you on" in page
    assert "Reconnect" in page
    assert "Signed in" in page  # the history stays
    assert 'href="/owner/disconnect"' not in page
    with site.parts.database.read() as connection:
        row = connection.execute(select(table)).one()
    assert row.access_token is None
    assert row.refresh_token is None


def test_erase(site: Site, owner: Browser) -> None:
    asked = owner.get("/owner/erase").text
    assert "Erase everything about this owner?" in asked
    assert "be undone" in asked
    answer = owner.press("/owner/erase", "/owner/erase")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert "Everything about you is erased." in owner.get("/").text
    assert "Everything about you is erased." not in owner.get("/").text  # said once
    assert site.table() == []
    with site.parts.database.read() as connection:
        assert events.latest(connection, "owner-1") == []
    assert owner.get("/owner").headers["Location"] == "/"


def test_erased_elsewhere(site: Site, owner: Browser) -> None:
    with site.parts.database.write() as connection:
        connection.execute(table.delete())
    page = owner.get("/owner").text
    assert "Evergrant keeps nothing about you" in page
    assert "Sign in with Tesla" in page


def test_sign_out_leaves_the_grant_alive(site: Site, owner: Browser) -> None:
    before = site.table()
    owner.press("/owner", "/owner/signout")
    assert "Signed out. Your grant stays alive." in owner.get("/").text
    assert owner.get("/owner").headers["Location"] == "/"
    assert site.table() == before


def test_one_owner_does_not_see_another(lite: Site) -> None:
    first, second = lite.browser(), lite.browser()
    first.sign_in()
    second.sign_in(sub="owner-2")
    assert "owner-2" in second.get("/owner").text
    assert "owner-1" not in second.get("/owner").text
    second.press("/owner/erase", "/owner/erase")
    assert "<strong>Alive.</strong>" in first.get("/owner").text


@pytest.mark.parametrize("action", ["/owner/refresh", "/owner/disconnect", "/owner/erase", "/owner/signout"])
def test_a_form_without_its_token_does_nothing(lite: Site, action: str) -> None:
    browser = lite.browser()
    browser.sign_in()
    before, calls = lite.table(), len(lite.tesla.forms)
    for data in ({}, {"csrf_token": "made-up"}):
        response = browser.post(action, data=data)
        assert response.status_code == 400
        assert "This page is too old" in response.text
        assert "Nothing was done" in response.text
    assert lite.table() == before
    assert len(lite.tesla.forms) == calls
    assert "<strong>Alive.</strong>" in browser.get("/owner").text


def test_who_is_not_signed_in_is_told(lite: Site) -> None:
    browser = lite.browser()
    assert browser.get("/owner").headers["Location"] == "/"
    assert "You are not signed in here" in browser.get("/").text


def test_export_is_everything_but_the_tokens(site: Site, owner: Browser) -> None:
    for _ in range(owner_page.SHOWN + 2):
        owner.press("/owner", "/owner/refresh")
    response = owner.get("/owner/export")
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Content-Disposition"].startswith("attachment; filename=evergrant-")
    export = response.json()
    assert export["owner"] == "owner-1"
    (grant,) = export["kept"]["grants"]
    assert grant["generation"] == owner_page.SHOWN + 2
    assert grant["scopes"] == "openid offline_access vehicle_device_data"
    kinds = [event["kind"] for event in export["kept"]["events"]]
    assert kinds[0] == "connected"
    assert kinds.count("refreshed") == owner_page.SHOWN + 2
    # All tables that keep anything by owner, all columns but those that are sealed.
    tables = {table.name: table for table in metadata.tables.values() if "owner" in table.c}
    assert set(export["kept"]) == set(tables)
    sealed = {column.name for column in table.c if isinstance(column.type, LargeBinary)}
    assert sealed == {"access_token", "refresh_token", "previous_refresh_token"}
    assert set(grant) == {column.name for column in table.c} - sealed
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", grant["access_expires_at"])
    for token in site.tesla.issued:
        assert token not in response.text


def test_export_knows_only_the_owner(lite: Site) -> None:
    first, second = lite.browser(), lite.browser()
    first.sign_in()
    second.sign_in(sub="owner-2")
    assert "owner-2" not in first.get("/owner/export").text


def test_what_is_missing_is_what_would_be_asked_for_now(site: Site) -> None:
    browser = site.browser()
    browser.sign_in(scopes="openid offline_access vehicle_device_data")
    page = browser.get("/owner").text
    assert '<a class="button" href="/signin/missing">Grant what is missing</a>' in page
    assert re.search(r'<tr class="off"><th scope="row">Vehicle location</th><td><strong>Not granted.', page)
    browser.sign_in(scopes=site.parts.settings.tesla_scopes)
    page = browser.get("/owner").text
    assert "Grant what is missing" not in page
    assert "<strong>Not granted.</strong>" not in page


def test_the_live_part_is_the_page_without_its_frame(site: Site, owner: Browser) -> None:
    part, page = owner.get("/owner/live").text, owner.get("/owner").text
    assert '<div id="live" hx-get="/owner/live" hx-trigger="every 10s, look from:body"' in part
    assert "<html" not in part
    headings = re.findall(r"<h\d id=\S+ class=|<h2[^>]*>[^<]*", part)
    assert len(headings) == 6
    assert re.findall(r"<h\d id=\S+ class=|<h2[^>]*>[^<]*", page)[: len(headings)] == headings
    change(site, attempt_id="a", attempt_started_at=now(), attempt_deadline=now(20))
    assert 'hx-trigger="every 2s, look from:body"' in owner.get("/owner/live").text


def test_what_asks_by_itself_brings_no_session_back(site: Site, owner: Browser) -> None:
    assert "evergrant=" in owner.get("/owner").headers["Set-Cookie"]
    for part in ("/owner/live", "/owner/cars"):
        assert "Set-Cookie" not in owner.get(part, headers={"HX-Request": "true"}).headers


def test_where_tesla_keeps_its_side(site: Site, owner: Browser) -> None:
    assert f'href="{CONSENT_PAGE.replace("&", "&amp;")}"' in owner.get("/owner").text


def test_a_paused_grant_offers_no_refresh(site: Site, owner: Browser) -> None:
    change(site, paused_at=now())
    page = owner.get("/owner").text
    assert "<strong>Paused</strong> by the operator" in page
    assert "Refresh now" not in page
    assert "Next refresh" not in page
