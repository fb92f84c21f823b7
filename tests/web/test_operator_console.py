"""The console's pages: what they show, and that what the operator does is asked first and noted."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

import web
from models import consent, pausing, pulses, surveys
from models.events import Kind, events, latest, record
from models.grants import grants
from models.session import now
from workers.survey import survey

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from tests.web.pages import Browser, Site

PASSWORD = "the-operator's password"


@pytest.fixture
def console(serve: Callable[..., Site], database_url: str) -> Site:
    return serve(database_url, operator_password=PASSWORD)


@pytest.fixture
def operator(console: Site) -> Browser:
    browser = console.browser()
    assert browser.press("/operator/signin", "/operator/signin", password=PASSWORD).status_code == 303
    return browser


def connect(site: Site, owner: str, **changes: Any) -> None:
    values: dict[str, Any] = {
        "access_token": "the-access-token",
        "refresh_token": "the-refresh-token",
        "expires_in": 28800,
        "due_in": 21600,
        "requested_scopes": "openid offline_access vehicle_location",
        "scopes": "openid offline_access",
        "region": "EU",
        "fleet_url": "https://eu.example",
        "correlation_id": f"c-{owner}"[:32],
    }
    consent.connect(site.parts.database, site.parts.keyring, owner=owner, **values | changes)


def change(site: Site, owner: str, **values: Any) -> None:
    with site.parts.database.write() as connection:
        connection.execute(update(grants).where(grants.c.owner == owner).values(**values))


def count(site: Site) -> None:
    with site.parts.database.write() as connection:
        connection.execute(surveys.surveys.delete())
        connection.execute(pulses.pulses.delete().where(pulses.pulses.c.name == "survey"))
        connection.execute(update(events).values(at=now(-10)))
    assert survey(site.parts)


def words(answer: requests.Response) -> str:
    """A page's words, without its marks."""
    assert answer.status_code == 200, answer.text
    return " ".join(re.sub(r"<[^>]+>", " ", answer.text.partition("<main")[2]).split())


def listed(answer: requests.Response) -> list[str]:
    assert answer.status_code == 200
    return re.findall(r'<th scope="row" class="id"><a href="[^"]+">([^<]+)</a>', answer.text)


# --- the overview -------------------------------------------------------------------------------------


def test_the_overview_before_anything_was_counted(operator: Browser) -> None:
    page = words(operator.get("/operator"))
    assert "What needs you now: 1" in page
    assert "Refreshes do not go on" in page
    assert "Not counted yet" in page
    assert "Nothing happened in this time." in page


def test_the_overview_when_all_is_well(console: Site, operator: Browser) -> None:
    for name in ("beat", "sweep", "refresh", "worker:up@host"):
        pulses.beat(console.parts.database, name)
    connect(console, "ann")
    with console.parts.database.write() as connection:
        for late in (1.0, 3.0):
            record(connection, Kind.REFRESHED, owner="ann", late=late)
    count(console)
    page = words(operator.get("/operator"))
    assert re.search(r"What needs you now Nothing\. All has been well for \d s \.", page)
    assert re.search(r"Owners counted (just now|\d s ago)", page)
    assert "1 alive" in page
    assert "0 must sign in again" in page
    assert "2 in the last hour, 0 failed, 0 ended." in page
    assert "2.0 s after they fell due in the last hour, at most 3.0 s." in page
    assert "7 h – 8 h 1" in page
    assert "Worker up@host" in page
    assert "closed: calls to Tesla go through" in page
    assert "refresh.00 0" in page


def test_the_overview_when_it_is_not(console: Site, operator: Browser) -> None:
    connect(console, "ann")
    change(console, "ann", state="needs_consent", refresh_at=None)
    console.parts.breaker.failed("ann", "invalid_client", everybody=True, pause=60)
    count(console)
    answer = operator.get("/operator")
    page = words(answer)
    assert "Tesla does not know this client id and secret" in page
    assert "TESLA_CLIENT_SECRET" in page
    assert "1 owner must sign in again" in page
    assert page.index("client id and secret") < page.index("must sign in again")
    assert 'href="/operator/owners?show=needs_consent"' in answer.text
    assert "open: Tesla does not know" in page


def test_the_overview_without_redis(serve: Callable[..., Site], database_url: str) -> None:
    console = serve(database_url, operator_password=PASSWORD, redis_url="redis://127.0.0.1:1/0")
    browser = console.browser()
    browser.press("/operator/signin", "/operator/signin", password=PASSWORD)
    page = words(browser.get("/operator"))
    assert "Redis does not answer" in page
    assert "Waiting in the lanes Redis does not answer." in page


def test_an_open_page_of_who_is_signed_out_is_asked_for_anew(console: Site) -> None:
    answer = console.browser().get("/operator", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.text, answer.headers["HX-Refresh"]) == (200, "", "true")


# --- the owners ---------------------------------------------------------------------------------------


def test_owners_are_found_by_how_their_id_begins(console: Site, operator: Browser) -> None:
    assert "No owner has signed in yet" in words(operator.get("/operator/owners"))
    for owner in ("ada-1", "ada-2", "ben-1"):
        connect(console, owner)
    assert listed(operator.get("/operator/owners?q=ada&sort=owner")) == ["ada-1", "ada-2"]
    assert listed(operator.get("/operator/owners?q=%20ben-1%20")) == ["ben-1"]
    assert "No owner’s id begins with “zoe” here." in words(operator.get("/operator/owners?q=zoe"))


@pytest.mark.parametrize(
    ("show", "owners"),
    [
        ("all", ["failing", "alive", "paused", "withdrawn", "gone"]),
        ("alive", ["failing", "alive", "paused"]),
        ("needs_consent", ["withdrawn"]),
        ("failing", ["failing"]),
        ("run_out", ["failing"]),
        ("due", ["failing"]),
        ("paused", ["paused"]),
        ("disconnected", ["gone"]),
        ("made-up", ["failing", "alive", "paused", "withdrawn", "gone"]),
    ],
)
def test_owners_by_state(console: Site, operator: Browser, show: str, owners: list[str]) -> None:
    for place, owner in enumerate(["alive", "paused", "failing", "gone", "withdrawn"]):
        connect(console, owner, expires_in=1000 + place)
    consent.disconnect(console.parts.database, "gone", correlation_id="c")
    change(
        console,
        "failing",
        failures=2,
        last_error="tesla_failed",
        refresh_at=now(-9),
        access_expires_at=now(-1),
    )
    change(console, "withdrawn", state="needs_consent", reason="login_required", refresh_at=None)
    pausing.pause(console.parts.database, "paused", correlation_id="c")
    answer = operator.get(f"/operator/owners?show={show}&sort=expiry")
    assert listed(answer) == owners
    if "withdrawn" in owners:
        assert "Must sign in again Tesla ended this grant" in words(answer)
    if show == "all":
        count(console)
        page = words(operator.get("/operator/owners"))
        for filter_ in ("All 5", "Alive 3", "Failing 1", "Paused 1", "Run out 1", "Disconnected 1"):
            assert filter_ in page


def test_pages_of_owners(console: Site, operator: Browser) -> None:
    owners = [f"owner-{number:03}" for number in range(90)]
    for owner in owners:
        connect(console, owner)
    with console.parts.database.write() as connection:
        for hours in range(60, 0, -6):
            at_once = events.insert().values(at=now(-3600 * hours), access_expires_at=now(3600 * (8 - hours)))
            connection.execute(at_once, [{"owner": owner, "kind": "refreshed"} for owner in owners])
    static = Path(web.__file__).parent / "static"
    files = sum(file.stat().st_size for file in static.iterdir())
    found, address = [], "/operator/owners?sort=owner"
    while address:
        answer = operator.get(address)
        assert len(answer.content) + files < 150_000
        found += listed(answer)
        follow = re.search(r'rel="next" href="([^"]+)"', answer.text)
        address = unescape(follow[1]) if follow else ""
    assert found == owners
    back = re.search(r'rel="prev" href="([^"]+)"', answer.text)
    assert back
    assert listed(operator.get(unescape(back[1]))) == owners[30:60]
    assert listed(operator.get("/operator/owners?sort=owner&reverse=1")) == owners[:-31:-1]


@pytest.mark.parametrize(
    "query",
    [
        "after=nonsense",
        "after=0~9~x",
        "before=7~~x",
        "q=%00",
        "sort=x&reverse=x",
        "after=0~0001-01-01~a",
        "q=%FF",
        "sort=owner&after=0~~zoe",
    ],
)
def test_a_made_up_address_is_a_list_all_the_same(console: Site, operator: Browser, query: str) -> None:
    connect(console, "ann")
    assert listed(operator.get(f"/operator/owners?{query}")) == ([] if query == "q=%FF" else ["ann"])


# --- one owner ----------------------------------------------------------------------------------------

ODD = "auth0|Ann/../ö <b>'\"&?#%"


def test_the_whole_story_of_an_owner(console: Site, operator: Browser) -> None:
    connect(console, ODD)
    change(
        console,
        ODD,
        state="needs_consent",
        reason="login_required",
        refresh_at=None,
        last_error="login_required",
        last_error_at=now(),
    )
    with console.parts.database.write() as connection:
        for number in range(40):
            record(connection, Kind.WAITING, owner=ODD, reason="tesla_failed", detail=f"failure {number}")
    link = re.search(r'class="id"><a href="([^"]+)"', operator.get("/operator/owners").text)
    assert link
    answer = operator.get(unescape(link[1]))
    page = words(answer)
    assert "Ended on" in page
    assert "consent was withdrawn" in page
    assert "The owner’s turn. Sign in with Tesla again to reconnect." in page
    assert "not granted: vehicle_location" in page
    assert "failure 39" in page
    assert "failure 5" not in page
    older = re.search(r'rel="next" href="([^"]+)"', answer.text)
    assert older
    assert "failure 5" in words(operator.get(unescape(older[1])))
    assert "<b>" not in answer.text.partition("<main")[2]
    assert not re.search("the-(access|refresh)-token", "".join(operator.seen))


def test_an_owner_who_is_not_there(operator: Browser) -> None:
    for path in (
        "/operator/owner",
        "/operator/owner?id=nobody",
        "/operator/owner?id=%00",
        "/operator/owner/pause",
    ):
        answer = operator.get(path)
        assert answer.status_code == 404
        assert "There is no such owner" in answer.text


def kinds(site: Site, owner: str) -> list[tuple[str, str | None]]:
    with site.parts.database.read() as connection:
        return [(event.kind, event.detail) for event in reversed(latest(connection, owner))]


def test_pause_and_resume_are_asked_done_and_noted(console: Site, operator: Browser) -> None:
    connect(console, "ann")
    page = "/operator/owner?id=ann"
    asked = operator.get("/operator/owner/pause?id=ann")
    assert "Nobody refreshes the grant until you resume it" in words(asked)
    assert kinds(console, "ann") == [("connected", None)], "asking changes nothing"

    assert do(operator, "pause").headers["Location"] == page
    shown = words(operator.get(page))
    assert shown.startswith("Paused.") or "Paused." in shown
    assert "Paused by the operator" in shown
    assert "none while it is paused" in shown
    assert "until that ends or the owner signs in again" in shown

    do(operator, "pause")
    assert "paused already" in words(operator.get(page))
    do(operator, "resume")
    assert "Alive. Refreshed" in words(operator.get(page))
    assert kinds(console, "ann") == [
        ("connected", None),
        ("paused", None),
        ("resumed", "By the operator."),
    ]


def test_disconnect_is_asked_done_and_noted(console: Site, operator: Browser) -> None:
    connect(console, "ann")
    do(operator, "disconnect")
    page = words(operator.get("/operator/owner?id=ann"))
    assert "Disconnected by the operator on" in page
    assert kinds(console, "ann")[-1] == ("disconnected", "By the operator.")
    assert "Disconnect " not in page.partition("The grant")[0].replace("Disconnected", "")


def test_refresh_now_is_asked_done_and_noted(console: Site, operator: Browser) -> None:
    owner = console.browser()
    owner.sign_in()
    with console.parts.database.read() as connection:
        (name,) = connection.execute(grants.select()).one()[:1]
    do(operator, "refresh", name)
    page = words(operator.get(f"/operator/owner?id={name}"))
    assert "Refreshed just now." in page
    assert [kind for kind, _ in kinds(console, name)][-2:] == ["by_operator", "refreshed"]


def do(operator: Browser, what: str, owner: str = "ann") -> requests.Response:
    """Asks, and presses the button."""
    address = f"/operator/owner/{what}?id={owner}"
    html = operator.get(address).text
    token = re.search(r'<form method="post"><input type="hidden" name="csrf_token" value="([^"]+)"', html)
    assert token, html
    assert operator.post(address).status_code == 400, "a form that another site forged"
    answer = operator.post(address, data={"csrf_token": token[1]})
    assert answer.status_code == 303
    return answer


# --- the events ---------------------------------------------------------------------------------------


def test_events_by_kind_and_owner(console: Site, operator: Browser) -> None:
    assert "Nothing of this kind" in words(operator.get("/operator/events"))
    with console.parts.database.write() as connection:
        for number in range(60):
            record(connection, Kind.REFRESHED, owner="ann", detail=f"round {number}.")
        record(connection, Kind.WAITING, owner="ben", reason="tesla_failed", detail="no answer.")
        record(connection, Kind.OPERATOR_MUST_ACT, reason="invalid_client", detail="to all.")
    page = words(operator.get("/operator/events"))
    assert "no answer." in page
    assert "to all." in page
    assert "round" not in page
    assert "round 59." in words(operator.get("/operator/events?kind=all"))
    answer = operator.get("/operator/events?kind=refreshed")
    assert "round 59." in words(answer)
    assert "round 9." not in words(answer)
    older = re.search(r'rel="next" href="([^"]+)"', answer.text)
    assert older
    assert "round 9." in words(operator.get(unescape(older[1])))
    page = words(operator.get("/operator/events?owner=ben"))
    assert "no answer." in page
    assert "round" not in page
    for odd in ("kind=made-up&older=x&newer=y", "older=99999999999999999999", "newer=-1", "owner=%00"):
        assert words(operator.get(f"/operator/events?{odd}"))
