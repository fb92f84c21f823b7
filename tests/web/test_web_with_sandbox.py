"""Signing in through the sandbox as the process that it is, as an owner's browser does."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

from settings import sandbox_endpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.web.pages import Browser, Site

pytestmark = pytest.mark.processes

PUBLIC_URL = "http://evergrant.test"
"""The sandbox has to know the redirect URI before the pages have their port."""


class Sandbox:
    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "sandbox", "--port", "0", "--home", str(home)),
                *("--redirect-uri", f"{PUBLIC_URL}/callback"),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        found = re.search(r":(\d+)\)$", self.process.stdout.readline().strip())
        assert found
        self.url = f"http://localhost:{found[1]}"

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    running = Sandbox(tmp_path / "sandbox")
    yield running
    running.stop()


@pytest.fixture
def start(serve: Callable[..., Site], database_url: str, sandbox: Sandbox) -> Callable[..., Site]:
    """The pages on the sandbox, with these settings changed."""

    def started(**changes: str) -> Site:
        app = {"tesla_client_id": "evergrant-sandbox", "tesla_client_secret": "sandbox-secret"}
        return serve(database_url, public_url=PUBLIC_URL, **sandbox_endpoints(sandbox.url) | app | changes)

    return started


def decide(browser: Browser, **fields: Any) -> dict[str, str]:
    """What the owner does on the sandbox's page; the parameters of the way back."""
    there = browser.get("/signin?here=1").headers["Location"]
    assert requests.get(there, timeout=10).ok
    query = dict(parse_qsl(urlsplit(there).query))
    form = {"owner": "Volta Moreau", "scope": query["scope"], "decision": "allow"} | fields
    back = requests.post(there, data=form, allow_redirects=False, timeout=10)
    assert back.status_code == 303, back.text
    location = back.headers["Location"]
    assert location.startswith(f"{PUBLIC_URL}/callback?")
    return dict(parse_qsl(urlsplit(location).query))


def test_through_the_sandbox_and_round_again(start: Callable[..., Site]) -> None:
    site = start()
    browser = site.browser()
    back = decide(browser)
    assert browser.get("/callback", params=back).status_code == 303
    page = browser.get("/owner").text
    assert "<strong>Alive.</strong>" in page
    assert "Europe" in page
    browser.press("/owner", "/owner/refresh")
    assert "Refreshed just now." in browser.get("/owner").text

    before = site.table()
    again = decide(browser)  # a good state, with the code of the first sign-in
    response = browser.get("/callback", params=back | {"state": again["state"]})
    assert response.status_code == 400
    assert "works once" in response.text
    assert site.table() == before
    assert "<strong>Alive.</strong>" in browser.get("/owner").text


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"decision": "deny"}, 403, "You said no at Tesla"),
        ({"decision": "cancel"}, 403, "You said no at Tesla"),
        ({"scope": "openid vehicle_device_data"}, 403, "Tesla gave no refresh token"),
        ({"scope": "offline_access vehicle_device_data"}, 403, "Tesla gave no refresh token"),
    ],
)
def test_the_owner_says_no(
    start: Callable[..., Site], fields: dict[str, str], status: int, words: str
) -> None:
    site = start()
    browser = site.browser()
    response = browser.get("/callback", params=decide(browser, **fields))
    assert response.status_code == status, response.text
    assert words in response.text
    assert site.table() == []


def test_a_secret_of_another_app(start: Callable[..., Site]) -> None:
    site = start(tesla_client_secret="not-the-secret-of-this-app")
    browser = site.browser()
    response = browser.get("/callback", params=decide(browser))
    assert response.status_code == 500
    assert "TESLA_CLIENT_SECRET" in response.text
    assert site.table() == []
    assert "not-the-secret-of-this-app" not in "".join([*browser.seen, *site.log])


def test_the_sandbox_goes_down_in_between(start: Callable[..., Site], sandbox: Sandbox) -> None:
    site = start()
    browser = site.browser()
    back = decide(browser)
    sandbox.stop()
    response = browser.get("/callback", params=back)
    assert response.status_code == 503
    assert "Wait a moment, then sign in again" in response.text
    assert site.table() == []
