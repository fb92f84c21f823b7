"""The pages as a test uses them, over HTTP."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import requests
from sqlalchemy import select

from models.grants import grants
from models.spares import spares
from tests.web.odd_tesla import json_reply

if TYPE_CHECKING:
    from flask import Flask

    from tests.web.odd_tesla import OddTesla
    from workers.parts import Parts


class Browser(requests.Session):
    """Follows no redirect by itself, and remembers all that it was sent."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site
        self.seen: list[str] = []

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        kwargs["allow_redirects"] = False
        for cookie in self.cookies:
            cookie.secure = False  # TLS ends at the proxy that a test plays
        kwargs.setdefault("timeout", 30)
        response = super().request(method, self.site.url + url, *args, **kwargs)
        self.seen.append(f"{response.headers}\n{response.text}")
        return response

    def begin(self) -> dict[str, str]:
        """Starts a sign-in; the parameters that Tesla gets."""
        response = self.get("/signin")
        assert response.status_code == 302, response.text
        asked = dict(parse_qsl(urlsplit(response.headers["Location"]).query))
        self.site.tesla.nonce = asked["nonce"]
        return asked

    def come_back(self, state: str, **parameters: str) -> requests.Response:
        return self.get("/callback", params={"state": state, "code": "EU_code-1"} | parameters)

    def sign_in(self, **tokens: Any) -> requests.Response:
        asked = self.begin()
        tesla = self.site.tesla
        tesla.token = lambda _: json_reply(200, tesla.tokens(**tokens))
        response = self.come_back(asked["state"])
        assert response.status_code == 303, response.text
        return response

    def press(self, page: str, action: str, **fields: str) -> requests.Response:
        """Sends the form on `page` that goes to `action`."""
        html = self.get(page).text
        found = re.search(rf'<form[^>]* action="{re.escape(action)}">(.*?)</form>', html, re.DOTALL)
        assert found, html
        inputs = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', found[1]))
        return self.post(action, data=inputs | fields)

    def cookie(self, name: str) -> str:
        value = self.cookies.get(name)
        assert value is not None
        return value


@dataclass
class Site:
    """The pages, served on a free port."""

    url: str
    app: Flask
    parts: Parts
    tesla: OddTesla
    log: list[str] = field(default_factory=list)

    def browser(self) -> Browser:
        return Browser(self)

    def table(self) -> list[tuple[Any, ...]]:
        """All that is kept about owners, as it is."""
        with self.parts.database.read() as connection:
            return [
                *(tuple(row) for row in connection.execute(select(grants).order_by(grants.c.owner))),
                *(tuple(row) for row in connection.execute(select(spares).order_by(spares.c.owner))),
            ]
