"""Signing in: what is stored, and that every failure gets its page and leaves the table as it was."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from models import grants
from tests.web.odd_tesla import CLIENT_SECRET, json_reply

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from models.answers import Answer, Settled
    from models.consent import SignIn
    from tests.web.odd_tesla import OddTesla, Reply
    from tests.web.pages import Browser, Site


def grant_of(site: Site, owner: str = "owner-1") -> grants.Grant:
    with site.parts.database.read() as connection:
        grant = grants.read(connection, owner)
    assert grant is not None
    return grant


def test_a_sign_in_is_stored(site: Site, tesla: OddTesla) -> None:
    browser = site.browser()
    asked = browser.begin()
    assert asked["redirect_uri"] == f"{site.url}/callback"
    assert asked["scope"] == site.parts.settings.tesla_scopes
    tesla.token = lambda _: json_reply(200, tesla.tokens(scopes="openid offline_access vehicle_location"))
    back = browser.come_back(asked["state"], code="NA_code-7", issuer="https://x", locale="en-US", odd="1")
    assert (back.status_code, back.headers["Location"]) == (303, "/owner")

    form = tesla.forms[-1]
    assert form["code"] == "NA_code-7"
    assert form["redirect_uri"] == asked["redirect_uri"]
    assert form["audience"] == f"{tesla.url}/na"  # what the code begins with
    challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest())
    assert challenge.rstrip(b"=").decode() == asked["code_challenge"]

    grant = grant_of(site)
    assert grant.state == "alive"
    assert (grant.region, grant.fleet_url) == ("EU", f"{tesla.url}/eu")  # what Tesla said
    assert grant.scopes == "openid offline_access vehicle_location"
    assert grant.access_token(site.parts.keyring) in tesla.issued
    assert grant.access_expires_at is not None
    assert grant.refresh_at is not None
    assert grant.refresh_at < grant.access_expires_at
    assert 28790 < (grant.access_expires_at - grant.read_at).total_seconds() <= 28800

    page = browser.get("/owner").text
    assert "Alive." in page
    assert "Vehicle location" in page
    assert "<strong>Not granted.</strong> State of charge" in page


def test_the_region_is_not_worth_a_failed_sign_in(lite: Site, tesla: OddTesla) -> None:
    tesla.region = lambda: json_reply(500, {})
    browser = lite.browser()
    browser.come_back(browser.begin()["state"], code="EU_code")
    assert grant_of(lite).region == "EU"
    browser.come_back(browser.begin()["state"], code="a code without a hint")
    assert grant_of(lite).region == "NA"
    assert any("signed in: cause=" in line for line in lite.log)


def test_the_access_tokens_silence_about_scopes_means_what_was_asked(lite: Site, tesla: OddTesla) -> None:
    browser = lite.browser()
    browser.sign_in(access_token="opaque-token")
    assert grant_of(lite).scopes == lite.parts.settings.tesla_scopes


def test_the_host_header_changes_nothing(lite: Site) -> None:
    browser = lite.browser()
    away = browser.get("/signin", headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"})
    assert away.headers["Location"] == f"{lite.url}/signin?here=1"  # where the cookie belongs
    behind_a_proxy = browser.get("/signin?here=1", headers={"Host": "upstream:8000"})
    assert "evil" not in behind_a_proxy.headers["Location"]
    assert (
        f"redirect_uri={lite.url.replace(':', '%3A').replace('/', '%2F')}%2Fcallback"
        in (behind_a_proxy.headers["Location"])
    )


def test_two_tabs_sign_in_at_once(lite: Site) -> None:
    browser = lite.browser()
    browser.get("/")
    first, second = browser.begin(), browser.begin()
    nonces = {first["state"]: first["nonce"], second["state"]: second["nonce"]}
    for state in (first["state"], second["state"]):
        lite.tesla.nonce = nonces[state]
        assert browser.come_back(state).status_code == 303


def test_a_state_is_its_browsers(lite: Site) -> None:
    mine, theirs = lite.browser(), lite.browser()
    asked = mine.begin()
    theirs.get("/")
    assert theirs.come_back(asked["state"]).status_code == 400
    assert lite.table() == []
    assert mine.come_back(asked["state"]).status_code == 303  # still good for its own


# --- failures -----------------------------------------------------------------------------------------


@dataclass
class Case:
    """`token` is Tesla's answer to the exchange; `back` changes what the browser comes back with."""

    status: int
    says: tuple[str, ...]
    cause: str
    token: Callable[[OddTesla], Reply | None] | None = None
    back: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


def html(status: int) -> Callable[[OddTesla], Reply]:
    page = b"<!doctype html><title>Access Denied</title><h1>No</h1>"
    return lambda _: (status, {"Content-Type": "text/html"}, page)


def says(status: int, error: str, description: str = "", **headers: str) -> Callable[[OddTesla], Reply]:
    content = {"error": error, "error_description": description}
    return lambda _: json_reply(status, content, **headers)


def with_tokens(**changes: Callable[[OddTesla], Any] | None) -> Callable[[OddTesla], Reply]:
    return lambda tesla: json_reply(200, tesla.tokens(**_made(tesla, changes)))


def _made(tesla: OddTesla, changes: dict[str, Callable[[OddTesla], Any] | None]) -> dict[str, Any]:
    return {name: make and make(tesla) for name, make in changes.items()}


OLD_LINK = ("This sign-in link is old or was opened in another browser", "Your turn", "Sign in again")

CASES = {
    "a wrong state": Case(400, OLD_LINK, "state_unknown", back={"state": "made-up"}),
    "no state": Case(400, (*OLD_LINK, "lacks the <code>state</code>"), "state_missing", back={"state": ""}),
    "no code": Case(400, ("Tesla sent no sign-in code", "Sign in again"), "no_code", back={"code": ""}),
    "a replayed code": Case(
        400,
        ("works once", "Your turn", "Sign in again"),
        "invalid_auth_code",
        says(400, "invalid_auth_code", "code used"),
    ),
    "denied": Case(
        403, ("You said no at Tesla", "Your turn"), "access_denied", back={"error": "access_denied"}
    ),
    "cancelled": Case(403, ("You said no at Tesla",), "access_denied", back={"error": "login_cancelled"}),
    "no offline_access": Case(
        403,
        (
            "Tesla gave no refresh token",
            "offline_access",
            "leave staying connected ticked",
            "/signin/missing",
        ),
        "no_refresh_token",
        with_tokens(refresh_token=None),
    ),
    "a redirect URI off by a slash": Case(
        500,
        ("letter by letter", "{url}/callback<", "{url}/callback/<", "The operator’s turn", "PUBLIC_URL"),
        "redirect_mismatch",
        lambda tesla: json_reply(
            400,
            {
                "error": "invalid_redirect_url",
                "error_description": f"registered is {tesla.forms[-1]['redirect_uri']}/",
            },
        ),
    ),
    "a wrong secret": Case(
        500,
        ("TESLA_CLIENT_ID", "TESLA_CLIENT_SECRET", "The operator’s turn"),
        "invalid_client",
        says(401, "invalid_client", "We don't recognize this client_id and client_secret combination"),
    ),
    "the app refused on the way back": Case(
        500, ("The operator’s turn",), "client_refused", back={"error": "unauthorized_client"}
    ),
    "Tesla breaks off": Case(
        503, ("Tesla is not answering", "sign in again"), "tesla_failed", lambda _: None
    ),
    "Tesla fails": Case(503, ("Tesla is not answering",), "tesla_failed", says(500, "server_error")),
    "Tesla fails in a 4xx coat": Case(
        503, ("Tesla is not answering",), "tesla_failed", says(400, "server_error")
    ),
    "Tesla is busy": Case(
        503,
        ("Too fast for Tesla", "Wait a moment"),
        "rate_limited",
        says(429, "rate_limited", Retry_After="7"),
        headers={"Retry-After": "7"},
    ),
    "HTML from an edge": Case(502, ("not Tesla’s own", "Wait a moment"), "edge", html(403)),
    "HTML with 200": Case(502, ("makes no sense", "Wait a moment"), "odd_answer", html(200)),
    "no id token": Case(502, ("id token",), "bad_id_token", with_tokens(id_token=None)),
    "an id token signed by another": Case(
        502,
        ("its signature does not hold", "The operator’s turn"),
        "bad_id_token",
        with_tokens(id_token=lambda tesla: tesla.id_token(tesla.other_key)),
    ),
    "an id token of another sign-in": Case(
        502, ("nonce",), "bad_id_token", with_tokens(id_token=lambda tesla: tesla.id_token(nonce="old"))
    ),
    "an id token for another app": Case(
        502, ("another app",), "bad_id_token", with_tokens(id_token=lambda tesla: tesla.id_token(aud="other"))
    ),
    "an access token of another account": Case(
        502,
        ("another account",),
        "bad_id_token",
        with_tokens(access_token=lambda tesla: tesla.sign({"sub": "owner-2"})),
    ),
}


def fail(case: Case, browser: Browser, tesla: OddTesla) -> requests.Response:
    asked = browser.begin()
    if case.token is not None:
        answer = case.token
        tesla.token = lambda _: answer(tesla)
    back = dict(case.back)
    return browser.come_back(back.pop("state", asked["state"]), **back)


def check(case: Case, response: requests.Response, site: Site) -> None:
    assert response.status_code == case.status, response.text
    page = response.text.replace("&#39;", "’").replace("'", "’")
    for words in case.says:
        assert words.format(url=site.url) in page, page
    for name, value in case.headers.items():
        assert response.headers[name] == value
    correlation_id = response.headers["X-Correlation-Id"]
    assert correlation_id in response.text
    (line,) = [line for line in site.log if correlation_id in line]
    assert f"cause={case.cause} status={case.status}" in line


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_failed_sign_in_has_its_page_and_changes_nothing(
    case: Case, emptied: Site, tesla: OddTesla
) -> None:
    site = emptied
    stranger = site.browser()
    check(case, fail(case, stranger, tesla), site)
    assert site.table() == []
    assert stranger.get("/owner").headers["Location"] == "/"  # not signed in

    owner = site.browser()
    tesla.reset()
    owner.sign_in()
    before = site.table()
    response = fail(case, owner, tesla)
    if case.cause.startswith("state_"):
        assert response.status_code == 400
        assert "Your grant is alive, and nothing was changed" in response.text
    else:
        check(case, response, site)
    assert site.table() == before
    assert "Alive." in owner.get("/owner").text
    held_back(site, stranger, owner)


def held_back(site: Site, *browsers: Browser) -> None:
    """No token and no secret in anything that a browser was sent, or that was logged."""
    sent = "\n".join([*(page for browser in browsers for page in browser.seen), *site.log])
    verifiers = [form["code_verifier"] for form in site.tesla.forms if "code_verifier" in form]
    for secret in (*site.tesla.issued, *verifiers, CLIENT_SECRET, "EU_code-1"):
        assert secret not in sent
    assert "eyJ0eXAi" not in sent
    assert "Traceback" not in sent


def test_a_replayed_state_stores_nothing(site: Site, tesla: OddTesla) -> None:
    browser = site.browser()
    asked = browser.begin()
    assert browser.come_back(asked["state"]).status_code == 303
    before, calls = site.table(), len(tesla.forms)

    again = browser.come_back(asked["state"])
    assert again.status_code == 400
    assert "You are signed in already" in again.text
    assert 'href="/owner"' in again.text

    browser.press("/owner", "/owner/signout")
    later = browser.come_back(asked["state"])
    assert later.status_code == 400
    assert "This sign-in link is old" in later.text
    assert site.table() == before
    assert len(tesla.forms) == calls  # Tesla was not asked


def test_a_server_that_hangs_is_not_waited_for(lite: Site, tesla: OddTesla) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    lite.parts.tesla.url = f"http://127.0.0.1:{silent.getsockname()[1]}/token"
    browser = lite.browser()
    response = browser.come_back(browser.begin()["state"])
    silent.close()
    assert response.status_code == 503
    assert response.elapsed.total_seconds() < lite.parts.settings.attempt_deadline + 1.5
    assert "Tesla is not answering" in response.text
    assert lite.table() == []


def test_a_server_that_is_away(lite: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    lite.parts.tesla.url = f"http://127.0.0.1:{port}/token"
    browser = lite.browser()
    response = browser.come_back(browser.begin()["state"])
    assert response.status_code == 503
    assert "Tesla can" in response.text
    assert "t be reached" in response.text


def table_away(site: Site) -> None:
    with site.parts.database.write() as connection:
        connection.execute(text("ALTER TABLE grants RENAME TO grants_away"))


def table_back(site: Site) -> None:
    with site.parts.database.write() as connection:
        connection.execute(text("ALTER TABLE grants_away RENAME TO grants"))


def test_what_the_table_does_not_take_is_kept_and_stored_by_itself(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.signin.STORE_SECONDS", 0.3)
    browser = site.browser()
    asked = browser.begin()
    table_away(site)
    assert browser.come_back(asked["state"]).headers["Location"] == "/owner"
    page = browser.get("/owner")
    assert page.status_code == 503
    assert "You are signed in, and your consent is kept" in page.text
    assert "stored by themselves" in page.text
    table_back(site)
    assert site.table() == []
    site.parts.refresher.drain_all()  # as the process does every second
    assert grant_of(site).access_token(site.parts.keyring) in site.tesla.issued
    assert "<strong>Alive.</strong>" in browser.get("/owner").text
    assert not list((site.parts.settings.evergrant_home / "escrow").glob("*"))
    assert not site.parts.redis.keys("evergrant:escrow*")
    held_back(site, browser)


def test_the_page_of_who_signed_in_looks_for_what_was_kept(
    lite: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first sign-in: else the page would say that there is nothing here."""
    monkeypatch.setattr("web.signin.STORE_SECONDS", 0)
    browser = lite.browser()
    asked = browser.begin()
    table_away(lite)
    browser.come_back(asked["state"])
    table_back(lite)
    assert "<strong>Alive.</strong>" in browser.get("/owner").text
    assert "waits" not in opened(browser.cookie("evergrant"))


def test_a_table_that_is_away_for_a_moment_is_waited_for(lite: Site, tesla: OddTesla) -> None:
    browser = lite.browser()
    asked = browser.begin()
    settle = lite.parts.refresher._settle
    escrow = lite.parts.settings.evergrant_home / "escrow"
    seen: list[int] = []

    def back_at_the_third(answer: Answer | SignIn) -> Settled:
        seen.append(len(list(escrow.glob("*"))))
        if len(seen) < 3:
            raise OperationalError("", {}, Exception("away"))
        return settle(answer)

    lite.parts.refresher._settle = back_at_the_third  # type: ignore[method-assign]
    browser.come_back(asked["state"])
    assert grant_of(lite).generation == 0
    assert "waits" not in opened(browser.cookie("evergrant"))
    assert seen == [0, 1, 1], "it is safe before anybody waits"


@pytest.mark.parametrize("word", ["signs in", "disconnects", "erases"])
def test_a_sign_in_that_was_stalled_does_not_undo_the_owners_newer_word(
    lite: Site, tesla: OddTesla, word: str
) -> None:
    stalled, other = lite.browser(), lite.browser()
    other.sign_in()
    asked = stalled.begin()
    tokens = tesla.tokens()
    tesla.token = lambda _: json_reply(200, tokens)
    says = tesla.region

    def meanwhile() -> Reply | None:
        # It has its tokens and has not stored them.
        tesla.region = says
        if word == "signs in":
            other.sign_in()
        elif word == "disconnects":
            other.press("/owner/disconnect", "/owner/disconnect")
        else:
            other.press("/owner/erase", "/owner/erase")
        return says()

    tesla.region = meanwhile
    assert stalled.come_back(asked["state"]).status_code == 303
    if word == "erases":
        assert lite.table() == []
    else:
        grant = grant_of(lite)
        assert grant.state == ("alive" if word == "signs in" else "disconnected")
        assert grant.access_token(lite.parts.keyring) != tokens["access_token"]


def test_sql_is_away(serve: Callable[..., Site]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    site = serve(f"postgresql://evergrant:the-database-password@127.0.0.1:{port}/evergrant")
    browser = site.browser()
    assert browser.get("/").status_code == 200
    for path in ("/signin", "/callback?state=s&code=c"):
        response = browser.get(path, cookies={"evergrant-browser": "b" * 43})
        assert response.status_code == 503
        assert "The token table does not answer" in response.text
    assert "the-database-password" not in "\n".join([*browser.seen, *site.log])


# --- cookies ------------------------------------------------------------------------------------------


def opened(cookie: str) -> dict[str, Any]:
    """What a signed session cookie says; anybody who has it can read this."""
    payload = cookie.removeprefix(".").rsplit(".", 2)[0]
    raw = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    content: dict[str, Any] = json.loads(zlib.decompress(raw) if cookie.startswith(".") else raw)
    return content


def test_the_session_cookie_says_who_and_no_more(lite: Site) -> None:
    browser = lite.browser()
    response = browser.sign_in()
    said = opened(browser.cookie("evergrant"))
    assert set(said) == {"_permanent", "owner", "csrf_token"}
    assert said["owner"] == "owner-1"
    assert_flags(response, "evergrant=", "HttpOnly", "SameSite=Lax", "Path=/")
    browser.get("/owner")
    assert opened(browser.cookie("evergrant")) == said
    held_back(lite, browser)


def test_signing_in_leaves_nothing_of_the_session_before(lite: Site) -> None:
    browser = lite.browser()
    browser.sign_in()
    browser.get("/owner")
    before = opened(browser.cookie("evergrant"))["csrf_token"]
    browser.sign_in(sub="owner-2")
    browser.get("/owner")
    after = opened(browser.cookie("evergrant"))
    assert after["owner"] == "owner-2"
    assert after["csrf_token"] != before


def test_cookies_over_https(serve: Callable[..., Site], sqlite: Callable[[], str]) -> None:
    site = serve(sqlite(), public_url="https://grants.example")
    browser = site.browser()
    started = browser.get("/signin", headers={"Host": "grants.example"})
    assert_flags(started, "__Host-evergrant-browser=", "Secure", "HttpOnly", "SameSite=Lax", "Path=/")
    assert "Domain" not in started.headers["Set-Cookie"]
    assert started.headers["Strict-Transport-Security"] == "max-age=31556926"
    signed_out = browser.get("/owner", headers={"Host": "grants.example"})
    assert_flags(signed_out, "__Host-evergrant=", "Secure", "HttpOnly", "SameSite=Lax", "Path=/")


def test_a_whole_visit_over_https(serve: Callable[..., Site], sqlite: Callable[[], str]) -> None:
    site = serve(sqlite(), public_url="https://grants.example")
    browser = site.browser()
    browser.headers["Host"] = "grants.example"  # TLS ends at a proxy in front
    browser.sign_in()
    assert "<strong>Alive.</strong>" in browser.get("/owner").text
    browser.press("/owner", "/owner/refresh")
    assert "Refreshed just now." in browser.get("/owner").text
    assert set(browser.cookies.keys()) == {"__Host-evergrant", "__Host-evergrant-browser"}


def assert_flags(response: requests.Response, name: str, *flags: str) -> None:
    lines = [line for line in response.raw.headers.getlist("Set-Cookie") if line.startswith(name)]
    assert lines, response.headers
    for flag in flags:
        assert flag in lines[0].split("; ")
