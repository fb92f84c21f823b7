"""A Tesla that answers whatever a test wants."""

from __future__ import annotations

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey

if TYPE_CHECKING:
    from collections.abc import Callable

CLIENT_ID = "test-app"
CLIENT_SECRET = "the-client-secret-of-the-tests"

Reply = tuple[int, dict[str, str], bytes]


def json_reply(status: int, content: Any, **headers: str) -> Reply:
    """`headers` are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, {"Content-Type": "application/json"} | named, json.dumps(content).encode()


class OddTesla:
    """An OAuth server that signs its tokens well and does with them what a test asks for."""

    def __init__(self) -> None:
        self.key = ECKey.generate_key("P-256", {"kid": "k1", "use": "sig"})
        self.other_key = ECKey.generate_key("P-256", {"kid": "k1", "use": "sig"})
        self.issued: list[str] = []
        self.access_tokens: list[str] = []
        self.bearers: list[str] = []
        self.forms: list[dict[str, str]] = []
        self.nonce = ""
        self.reset()
        tesla = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if "Authorization" in self.headers:
                    tesla.bearers.append(self.headers["Authorization"].removeprefix("Bearer "))
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
        self.token: Callable[[dict[str, str]], Reply | None] = lambda _: json_reply(200, self.tokens())
        self.region: Callable[[], Reply | None] = lambda: json_reply(
            200, {"response": {"region": "eu", "fleet_api_base_url": f"{self.url}/eu"}}
        )
        self.vehicles: Callable[[], Reply | None] = lambda: json_reply(404, {})

    def get(self, path: str) -> Reply | None:
        if path == "/auth/.well-known/openid-configuration":
            return json_reply(200, {"code_challenge_methods_supported": ["S256"]})
        if path == "/auth/keys":
            return json_reply(200, {"keys": [self.key.as_dict(private=False)]})
        if path.endswith("/api/1/users/region"):
            return self.region()
        if path.endswith("/api/1/vehicles"):
            return self.vehicles()
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
        access = self.sign({"sub": sub, "scp": scopes.split(), "iat": now, "exp": now + expires_in})
        self.access_tokens.append(access)
        answer = {
            "access_token": access,
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
