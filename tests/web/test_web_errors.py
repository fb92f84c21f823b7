"""Headers of every page, and the pages for what has nothing to do with Tesla."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from werkzeug.exceptions import TooManyRequests

import web

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.web.pages import Site

PATHS = ("/", "/owner", "/owner/erase", "/callback", "/nothing-here", "/healthz", "/readyz", "/signin")


def test_every_answer_has_a_strict_policy(lite: Site) -> None:
    browser = lite.browser()
    browser.sign_in()
    for path in PATHS:
        response = browser.get(path)
        policy = dict(
            part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";")
        )
        assert policy["default-src"] == "'self'"
        assert policy["base-uri"] == "'none'"
        assert policy["frame-ancestors"] == "'none'"
        assert policy["form-action"] == f"'self' {lite.tesla.url}"
        assert "unsafe" not in str(policy)
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cache-Control"] == "no-store"
        assert "Strict-Transport-Security" not in response.headers  # this one is plain http


def test_nothing_is_inline(lite: Site) -> None:
    browser = lite.browser()
    browser.sign_in()
    for path in PATHS:
        page = browser.get(path).text
        assert not re.search(r"<style|<script(?! src=)|\sstyle=|\son\w+=|javascript:", page), path


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/nothing-here", 404, "There is no such page"),
        ("POST", "/callback", 405, "used that way"),
        ("GET", "/owner/refresh", 405, "used that way"),
        ("GET", "/static/../settings.py", 404, "There is no such page"),
    ],
)
def test_http_errors_have_a_page(lite: Site, method: str, path: str, status: int, words: str) -> None:
    browser = lite.browser()
    response = browser.request(method, path)
    assert response.status_code == status
    assert words in response.text
    assert response.headers["X-Correlation-Id"] in response.text
    assert any(response.headers["X-Correlation-Id"] in line for line in lite.log)
    if status == 405:
        assert response.headers["Allow"]


def test_an_address_can_not_write_log_lines(lite: Site) -> None:
    assert lite.browser().get("/x%0aWARNING made up").status_code == 404
    assert "made up" in lite.log[-1]
    assert "\n" not in lite.log[-1]


def test_a_request_that_is_too_large(lite: Site) -> None:
    browser = lite.browser()
    browser.sign_in()
    response = browser.press("/owner", "/owner/refresh", much="x" * 100_000)
    assert response.status_code == 413
    assert "That is too much" in response.text


def test_what_is_asked_for_too_often(lite: Site) -> None:
    def too_often() -> str:
        raise TooManyRequests(retry_after=7)

    lite.app.view_functions["pages.landing"] = too_often
    response = lite.browser().get("/")
    assert response.status_code == 429
    assert response.headers["Retry-After"] == "7"
    assert "That was too often" in response.text
    assert "Nobody’s turn: wait" in response.text


def test_a_fault_of_our_own_shows_no_trace(lite: Site) -> None:
    def broken() -> str:
        raise RuntimeError("the-inner-workings")

    lite.app.view_functions["pages.landing"] = broken
    response = lite.browser().get("/")
    assert response.status_code == 500
    assert "Evergrant failed at this page" in response.text
    assert "the-inner-workings" not in response.text
    assert "Traceback" not in response.text
    correlation_id = response.headers["X-Correlation-Id"]
    assert correlation_id in response.text
    assert any("the-inner-workings" in line and correlation_id in line for line in lite.log)


def test_a_path_prefix_in_the_public_url(serve: Callable[..., Site], sqlite: Callable[[], str]) -> None:
    site = serve(sqlite(), public_url="https://example.com/evergrant")
    browser = site.browser()
    for path in ("/evergrant/", "/"):  # left on by the proxy, or taken off
        page = browser.get(path).text
        assert 'href="/evergrant/signin"' in page
        assert 'href="/evergrant/static/evergrant.css' in page
    asked = browser.get("/signin", headers={"Host": "example.com"}).headers["Location"]
    assert "redirect_uri=https%3A%2F%2Fexample.com%2Fevergrant%2Fcallback&" in asked


def test_style_and_pictures_are_small_and_kept(lite: Site) -> None:
    browser = lite.browser()
    page = browser.get("/").text
    for link in re.findall(r'href="(/static/[^"]+)"', page):
        response = browser.get(link)
        assert response.status_code == 200
        assert "max-age=31536000" in response.headers["Cache-Control"]
    files = list((Path(web.__file__).parent / "static").iterdir())
    assert sum(file.stat().st_size for file in files) < 100_000
