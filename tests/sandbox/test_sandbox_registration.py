"""Registering a domain: the sandbox fetches the public key itself, as Tesla does."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.sandbox.conftest import APP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests

    from tests.sandbox.conftest import Running

    Start = Callable[..., Running]


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


KEY = ec.generate_private_key(ec.SECP256R1())
POINT = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint).hex()


class App:
    """An app's web server that answers every GET alike."""

    def __init__(self, port: int) -> None:
        self.status, self.body, self.asked = 200, pem(KEY), list[tuple[str, str]]()
        app = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                app.asked.append((self.path, self.headers["Host"]))
                self.send_response(app.status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(app.body)

            def log_message(self, *args: object) -> None:
                """Quiet."""

        self.domain = f"localhost:{port}"
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def app() -> Iterator[App]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = App(port)
    yield running
    with contextlib.suppress(OSError):
        running.server.shutdown()
        running.server.server_close()


class Partner:
    def __init__(self, sandbox: Running) -> None:
        self.sandbox = sandbox

    def _headers(self, region: str) -> dict[str, str]:
        asked = {**APP, "grant_type": "client_credentials", "audience": f"{self.sandbox.url}/{region}"}
        token = self.sandbox.token(asked).json()["access_token"]
        return {"Authorization": f"Bearer {token}"}

    def register(self, domain: str, region: str = "eu") -> requests.Response:
        url = f"{self.sandbox.url}/{region}/api/1/partner_accounts"
        return self.sandbox.http.post(url, json={"domain": domain}, headers=self._headers(region), timeout=10)

    def key(self, domain: str, region: str = "eu") -> requests.Response:
        url = f"{self.sandbox.url}/{region}/api/1/partner_accounts/public_key"
        return self.sandbox.http.get(
            url, params={"domain": domain}, headers=self._headers(region), timeout=10
        )


@pytest.fixture
def partner(start: Start, app: App) -> Partner:
    return Partner(start("--redirect-uri", f"http://{app.domain}/callback"))


def test_registered_once_in_each_region(partner: Partner, app: App) -> None:
    assert partner.key(app.domain).status_code == 412
    answer = partner.register(app.domain)
    assert (answer.status_code, answer.json()["response"]["public_key"]) == (200, POINT)
    assert app.asked == [("/.well-known/appspecific/com.tesla.3p.public-key.pem", app.domain)]
    assert partner.key(app.domain).json() == {"response": {"public_key": POINT}}
    assert partner.key("elsewhere.example").status_code == 404
    assert partner.key(app.domain, "na").status_code == 412
    partner.sandbox.fault("not_registered", count=1)
    assert partner.key(app.domain).status_code == 412


@pytest.mark.parametrize("domain", ["https://localhost", "Localhost", "", "a b", None])
def test_no_domain(partner: Partner, domain: str) -> None:
    answer = partner.register(domain)
    assert answer.status_code == 400
    assert "Invalid domain" in answer.json()["error"]


def test_a_domain_that_is_not_an_origin_of_the_app(partner: Partner) -> None:
    assert partner.register("elsewhere.example").status_code == 400


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (404, b"", "HTTP 404"),
        (302, pem(KEY), "HTTP 302"),
        (200, b"<html>", "not a PEM public key"),
        (200, b"x" * 5000, "too large"),
        (200, pem(ec.generate_private_key(ec.SECP384R1())), "prime256v1"),
        (200, pem(rsa.generate_private_key(65537, 2048)), "prime256v1"),
    ],
)
def test_keys_that_tesla_does_not_take(
    partner: Partner, app: App, status: int, body: bytes, why: str
) -> None:
    app.status, app.body = status, body
    answer = partner.register(app.domain)
    assert answer.status_code == 424
    assert answer.json()["error"].startswith("Public key download failed for http://localhost:")
    assert why in answer.json()["error"]
    assert partner.key(app.domain).status_code == 412


def test_nobody_serves_a_key(partner: Partner, app: App) -> None:
    app.server.shutdown()
    app.server.server_close()
    assert "ConnectionRefusedError" in partner.register(app.domain).json()["error"]
