"""Owners at their browsers, by plain HTTP: they sign in, and press buttons on their page."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import requests

from sandbox.tesla import sub_of

if TYPE_CHECKING:
    from collections.abc import Iterable

_FIELD = re.compile(r'name="(csrf_token|generation)" value="([^"]*)"')


class Browser:
    """One owner's browser at the web app under `web_url`. `owner` is the `sub` of Tesla's tokens."""

    def __init__(self, web_url: str, name: str) -> None:
        self.name = name
        self.owner = sub_of(name)
        self._web_url = web_url
        self._session = requests.Session()

    def sign_in(self) -> None:
        """All the way to the owner's page. Raises AssertionError with where it led instead."""
        there = self._session.get(f"{self._web_url}/signin", allow_redirects=False, timeout=20)
        assert there.status_code == 302, there.text
        asked = parse_qs(urlsplit(there.headers["Location"]).query)
        form = {"owner": self.name, "region": "", "scope": asked["scope"], "decision": "allow"}
        decided = self._session.post(there.headers["Location"], data=form, allow_redirects=False, timeout=20)
        assert decided.status_code == 303, decided.text
        back = self._session.get(decided.headers["Location"], allow_redirects=False, timeout=20)
        assert urlsplit(back.headers.get("Location", "")).path == "/owner", back.text

    def refresh(self, seconds: float = 30) -> requests.Response:
        """Presses "Refresh now" and returns the page that follows, which says what came of it.

        Raises AssertionError when there is no such button, and requests' errors."""
        page = self._session.get(f"{self._web_url}/owner", timeout=seconds)
        fields = dict(_FIELD.findall(page.text))
        assert "generation" in fields, page.status_code
        return self._session.post(f"{self._web_url}/owner/refresh", data=fields, timeout=seconds)

    def close(self) -> None:
        self._session.close()


def sign_in(web_url: str, names: Iterable[str]) -> list[Browser]:
    """Signs all of them in, some at once."""
    browsers = [Browser(web_url, name) for name in names]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(Browser.sign_in, browsers))
    return browsers
