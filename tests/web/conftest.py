"""The pages on real parts over HTTP, and a Tesla that answers whatever a test wants."""

from __future__ import annotations

import base64
import json
import logging
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from joserfc import jwt
from joserfc.jwk import ECKey
from sqlalchemy import select
from werkzeug.serving import WSGIRequestHandler, make_server

from models.grants import grants
from models.spares import spares
from settings import Settings
from web.app import create_app
from workers.parts import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flask import Flask

    from workers.parts import Parts

CLIENT_ID = "test-app"
CLIENT_SECRET = "the-client-secret-of-the-tests"
ATTEMPT_DEADLINE = 1.5

Reply = tuple[int, dict[str, str], bytes]


def json_reply(status: int, content: Any, **headers: str) -> Reply:
    return (
        status,
        {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}},
        json.dumps(content).encode(),
    )


class OddTesla:
    """An OAuth server that signs its tokens well and does with them what a test asks for."""

    def __init__(self) -> None:
        self.key = ECKey.generate_key("P-256", {"kid": "k1", "use": "sig"})
        self.other_key = ECKey.generate_key("P-256", {"kid": "k1", "use": "sig"})
        self.issued: list[str] = []
        self.forms: list[dict[str, str]] = []
        self.nonce = ""
        self.reset()
        tesla = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.answer(tesla.get(urlsplit(self.path).path))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                tesla.forms.append(dict(parse_qsl(body.decode())))
                self.answer(tesla.token(tesla.forms[-1]))

            def answer(self, reply: Reply | None) -> None:
                if reply is None:  # not a word
                    self.close_connection = True
                    return
                status, headers, body = reply
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def reset(self) -> None:
        """Answers well again."""
        self.forms.clear()
        self.token: Callable[[dict[str, str]], Reply | None] = lambda form: json_reply(200, self.tokens())
        self.region: Callable[[], Reply | None] = lambda: json_reply(
            200, {"response": {"region": "eu", "fleet_api_base_url": f"{self.url}/eu"}}
        )

    def get(self, path: str) -> Reply | None:
        if path == "/auth/.well-known/openid-configuration":
            return json_reply(200, {"code_challenge_methods_supported": ["S256"]})
        if path == "/auth/keys":
            return json_reply(200, {"keys": [self.key.as_dict(private=False)]})
        if path.endswith("/api/1/users/region"):
            return self.region()
        return json_reply(404, {})

    def sign(self, claims: dict[str, Any], key: ECKey | None = None) -> str:
        token = jwt.encode({"alg": "ES256", "kid": "k1"}, claims, key or self.key)
        self.issued.append(token)
        return token

    def tokens(
        self,
        *,
        sub: str = "owner-1",
        scopes: str = "openid offline_access vehicle_device_data",
        expires_in: int = 28800,
        **changes: Any,
    ) -> dict[str, Any]:
        """A good answer; a change to None leaves a field out."""
        now = int(time.time())
        refresh = f"EU_refresh_{base64.urlsafe_b64encode(bytes(str(time.monotonic_ns()), 'ascii')).decode()}"
        self.issued.append(refresh)
        answer = {
            "access_token": self.sign({"sub": sub, "scp": scopes.split(), "iat": now, "exp": now + expires_in}),
            "refresh_token": refresh,
            "id_token": self.id_token(sub=sub),
            "token_type": "Bearer",
            "expires_in": expires_in,
        } | changes
        return {name: value for name, value in answer.items() if value is not None}

    def id_token(self, key: ECKey | None = None, **changes: Any) -> str:
        now = int(time.time())
        claims = {
            "iss": f"{self.url}/auth",
            "aud": CLIENT_ID,
            "sub": "owner-1",
            "iat": now,
            "exp": now + 600,
            "nonce": self.nonce,
        }
        return self.sign(claims | changes, key)

    def settings(self) -> dict[str, Any]:
        """Evergrant's settings for this server."""
        return {
            "tesla_client_id": CLIENT_ID,
            "tesla_client_secret": CLIENT_SECRET,
            "tesla_authorize_url": f"{self.url}/auth/authorize",
            "tesla_token_url": f"{self.url}/auth/token",
            "tesla_jwks_url": f"{self.url}/auth/keys",
            "tesla_issuer": f"{self.url}/auth",
            "tesla_fleet_url_na": f"{self.url}/na",
            "tesla_fleet_url_eu": f"{self.url}/eu",
            "tesla_fleet_url_cn": f"{self.url}/cn",
        }


class Browser(requests.Session):
    """Follows no redirect by itself, and remembers all that it was sent."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site
        self.seen: list[str] = []

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        kwargs["allow_redirects"] = False
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
        self.site.tesla.token = lambda form: json_reply(200, self.site.tesla.tokens(**tokens))
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


class _Quiet(WSGIRequestHandler):
    def log_request(self, *args: object) -> None:
        """gunicorn leaves the query out of its log; this server's would not."""


class _Lines(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture(scope="session")
def odd_tesla() -> Iterator[OddTesla]:
    tesla = OddTesla()
    yield tesla
    tesla.server.shutdown()
    tesla.server.server_close()


@pytest.fixture
def tesla(odd_tesla: OddTesla) -> OddTesla:
    """The odd Tesla, answering well."""
    odd_tesla.reset()
    return odd_tesla


@pytest.fixture
def serve(tmp_path: Path, redis_url: str, tesla: OddTesla) -> Iterator[Callable[..., Site]]:
    """Serves the pages with these settings, on a free port."""
    ends: list[Callable[[], object]] = []

    def start(database_url: str, **changes: Any) -> Site:
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        given = {
            "database_url": database_url,
            "redis_url": redis_url,
            "public_url": url,
            "evergrant_home": tmp_path,
            "attempt_deadline": ATTEMPT_DEADLINE,
            "worker_concurrency": 4,
        }
        settings = Settings(_env_file=None, **given | tesla.settings() | changes)  # type: ignore[call-arg]
        parts = build(settings)
        parts.redis.flushall() if "redis_url" not in changes else None
        app = create_app(parts)
        server = make_server(
            "127.0.0.1", 0, app, threaded=True, request_handler=_Quiet, fd=listener.fileno()
        )
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        site = Site(url, app, parts, tesla)
        handler = _Lines(site.log)
        root = logging.getLogger()
        root.addHandler(handler)
        ends.extend(
            (
                server.shutdown,
                server.server_close,
                listener.close,
                parts.database.close,
                parts.redis.close,
                lambda: root.removeHandler(handler),
            )
        )
        return site

    yield start
    for end in ends:
        end()


@pytest.fixture
def site(serve: Callable[..., Site], database_url: str) -> Site:
    """The pages on an empty database, once on SQLite and once on PostgreSQL."""
    return serve(database_url)


@pytest.fixture
def lite(serve: Callable[..., Site], sqlite: Callable[[], str]) -> Site:
    """The pages on SQLite, for what no database changes."""
    return serve(sqlite())


