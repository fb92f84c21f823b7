"""Programs with keys, and grants as they meet them."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest
import requests

from models import api_keys, consent, grants
from models.api_keys import Scope

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.grants import Grant
    from tests.web.pages import Site

ALL = tuple(Scope)


class Program(requests.Session):
    """What calls with a key."""

    def __init__(self, site: Site, scopes: Iterable[Scope] = ALL, **changes: Any) -> None:
        super().__init__()
        self.trust_env = False
        self.url = site.url
        with site.parts.database.write() as connection:
            self.key_id, self.key = api_keys.create(connection, name="tests", scopes=scopes, **changes)
        self.headers["Authorization"] = f"Bearer {self.key}"

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        kwargs.setdefault("timeout", 30)
        kwargs.setdefault("allow_redirects", False)
        url = f"{self.url}{url}" if url.startswith("/") else url
        return super().request(method, url, *args, **kwargs)

    def token(self, owner: str = "ann", **query: Any) -> requests.Response:
        return self.get(f"/api/v1/owners/{owner}/token", params=query)


def connect(site: Site, owner: str = "ann", **changes: Any) -> None:
    """A grant as a sign-in leaves it; by default it lives for hours."""
    values: dict[str, Any] = {
        "access_token": f"access-of-{owner}",
        "refresh_token": f"EU_refresh-of-{owner}",
        "expires_in": 28800,
        "due_in": 21600,
        "requested_scopes": "openid offline_access user_data",
        "scopes": "openid offline_access",
        "region": "EU",
        "fleet_url": f"{site.tesla.url}/eu",
        "correlation_id": secrets.token_hex(8),
    }
    consent.connect(site.parts.database, site.parts.keyring, owner=owner, **values | changes)


def row(site: Site, owner: str = "ann") -> Grant:
    with site.parts.database.read() as connection:
        grant = grants.read(connection, owner)
    assert grant is not None
    return grant


def problem(response: requests.Response, status: int, code: str) -> dict[str, Any]:
    """The problem in this response, which is of this kind and whole."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    content: dict[str, Any] = response.json()
    assert content["code"] == code
    assert content["status"] == status
    assert content["title"]
    assert content["turn"] in {"owner", "operator", "wait", "program"}
    assert content["type"].endswith(f"/api/v1/docs#{code}")
    assert content["correlation_id"] == response.headers["X-Correlation-Id"]
    return content


@pytest.fixture
def program(site: Site) -> Program:
    """A program whose key is good for everything, once on SQLite and once on PostgreSQL."""
    return Program(site)
