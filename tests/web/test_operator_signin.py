"""The operator's way in and out, and that nobody else comes in."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from itsdangerous import TimestampSigner, URLSafeTimedSerializer

from web.operator import session
from web.operator.signin import TRIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.web.pages import Browser, Site

PASSWORD = "the-operator's password"
FORM = "/operator/signin"


@pytest.fixture
def console(serve: Callable[..., Site], sqlite: Callable[[], str]) -> Site:
    return serve(sqlite(), operator_password=PASSWORD)


def sign_in(browser: Browser, password: str = PASSWORD, page: str = FORM) -> tuple[int, str]:
    answer = browser.press(page, FORM, password=password)
    return answer.status_code, answer.headers.get("Location", answer.text)


def test_the_password_opens_the_page_that_was_asked_for(console: Site) -> None:
    browser = console.browser()
    sent_away = browser.get("/operator?tell=me")
    assert sent_away.status_code == 303
    assert sign_in(browser, page=sent_away.headers["Location"]) == (303, "/operator?tell=me")
    assert browser.get("/operator").status_code == browser.get("/operator/").status_code == 200
    assert browser.get(FORM).headers["Location"] == "/operator"

    assert browser.press("/operator", "/operator/signout").headers["Location"] == FORM
    assert browser.get("/operator").status_code == 303


def test_no_page_of_the_console_is_open_to_anybody(console: Site) -> None:
    browser = console.browser()
    token = browser.get(FORM).text.partition('name="csrf_token" value="')[2].partition('"')[0]
    asked = 0
    for rule in console.app.url_map.iter_rules():
        if not rule.rule.startswith("/operator") or rule.rule == FORM:
            continue
        path = console.app.url_map.bind("").build(
            rule.endpoint, dict.fromkeys(rule.arguments, "1"), append_unknown=False
        )
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            answer = browser.request(method, path, data={"csrf_token": token})
            assert answer.status_code == 303, (method, rule.rule)
            assert answer.headers["Location"].startswith(FORM), (method, rule.rule)
            asked += 1
    assert asked >= 2


@pytest.mark.parametrize(
    "next_page",
    [
        "https://evil.example",
        "//evil.example",
        "/owner",
        "/operators",
        "/operator/\\evil",
        "/operator/\n",
        "",
    ],
)
def test_it_leads_nowhere_outside_the_console(console: Site, next_page: str) -> None:
    browser = console.browser()
    token = browser.get(FORM).text.partition('name="csrf_token" value="')[2].partition('"')[0]
    answer = browser.post(FORM, data={"csrf_token": token, "password": PASSWORD, "next": next_page})
    assert answer.headers["Location"] == "/operator"


def test_a_wrong_password_says_so_and_too_many_have_to_wait(console: Site) -> None:
    browser = console.browser()
    for _ in range(TRIES.amount):
        status, page = sign_in(browser, "wrong")
        assert status == 403
        assert "not the operator’s password" in page
    answer = browser.press(FORM, FORM, password=PASSWORD)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 601
    assert "Too many wrong passwords" in answer.text
    assert browser.get("/operator").status_code == 303
    assert not any(PASSWORD in line for line in console.log)


def test_who_knows_it_is_not_counted(console: Site) -> None:
    for _ in range(TRIES.amount + 2):
        assert sign_in(console.browser())[0] == 303


def test_it_counts_without_redis_too(serve: Callable[..., Site], sqlite: Callable[[], str]) -> None:
    console = serve(sqlite(), operator_password=PASSWORD, redis_url="redis://127.0.0.1:1/0")
    browser = console.browser()
    assert sign_in(browser)[0] == 303
    stranger = console.browser()
    for _ in range(TRIES.amount):
        assert sign_in(stranger, "wrong")[0] == 403
    assert sign_in(stranger, "wrong")[0] == 429


def test_another_password_ends_the_session(serve: Callable[..., Site], sqlite: Callable[[], str]) -> None:
    database, key = sqlite(), "the key of cookies"
    before = serve(database, operator_password=PASSWORD, secret_key=key).browser()
    sign_in(before)
    same = serve(database, operator_password=PASSWORD, secret_key=key).browser()
    other = serve(database, operator_password="changed", secret_key=key).browser()
    for browser, status in ((same, 200), (other, 303)):
        browser.cookies.update(before.cookies)
        assert browser.get("/operator").status_code == status


def test_a_session_ends_by_itself(console: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = console.browser()
    sign_in(browser)
    life = session.LIFE.total_seconds()
    for passed, status in ((life - 5, 200), (life + 5, 303)):
        monkeypatch.setattr(
            TimestampSigner, "get_timestamp", lambda _, passed=passed: int(time.time() + passed)
        )
        assert browser.get("/operator").status_code == status


def test_a_cookie_made_up_opens_nothing(console: Site) -> None:
    browser = console.browser()
    with console.app.test_request_context():
        name = session.cookie_name(console.parts.settings)
    forged = URLSafeTimedSerializer("guessed", salt=b"operator").dumps("x")
    for marker in ("", "x", "x.y.z", forged):
        browser.cookies.set(name, marker)
        assert browser.get("/operator").status_code == 303


def test_it_is_nothing_that_an_owner_has(console: Site) -> None:
    owner = console.browser()
    owner.sign_in()
    assert owner.get("/operator").status_code == 303
    operator = console.browser()
    sign_in(operator)
    assert operator.get("/owner").status_code == 303  # to the start page
    operator.sign_in()  # the operator's own car
    assert operator.get("/operator").status_code == 200


def test_its_cookie_is_kept_from_scripts_and_neighbours(
    serve: Callable[..., Site], sqlite: Callable[[], str]
) -> None:
    console = serve(sqlite(), operator_password=PASSWORD, public_url="https://tokens.example")
    answer = console.browser().press(FORM, FORM, password=PASSWORD)
    cookie = answer.headers["Set-Cookie"]
    assert "__Host-evergrant-operator=" in cookie
    for word in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=43200"):
        assert word in cookie
