"""Behind a real nginx and a real Caddy, the redirect URI check says what the proxy does."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from werkzeug.serving import make_server

from doctor import redirect
from doctor.findings import Verdict, run
from settings import Settings
from tests.doctor.conftest import free_port
from tests.fleet.conftest import certificate as certificate
from tests.web.conftest import _Quiet
from web.app import create_app
from workers.parts import build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from doctor.findings import Finding
    from tests.fleet.conftest import Certificate

pytestmark = pytest.mark.processes

NGINX = """
daemon off; worker_processes 1; pid {home}/pid; error_log {home}/error.log; {user}
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl; server_name localhost;
    ssl_certificate {certificate}; ssl_certificate_key {key};
    {rules}
  }}
}}
"""

CADDY = """
{{
  admin off
  auto_https off
  storage file_system {home}/storage
}}
https://localhost:{port} {{
  bind 127.0.0.1
  tls {certificate} {key}
  {rules}
}}
"""


class Case(NamedTuple):
    """What a proxy is told, in its own words; {web} is where Evergrant listens."""

    name: str
    nginx: str
    caddy: str
    verdict: str
    seen: str
    details: dict[str, str]
    path: str = ""
    """Of PUBLIC_URL."""


GOOD = (
    "proxy_pass http://{web}; proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto $scheme; "
    "proxy_set_header X-Forwarded-For $remote_addr;"
)

CASES = (
    Case(
        "terminates TLS",
        "location / {{ " + GOOD + " }}",
        "reverse_proxy {web}",
        "pass",
        "exactly this URL",
        {"TLS": "ends at a proxy before Evergrant, which is fine"},
    ),
    Case(
        "says nothing about itself",
        "location / {{ proxy_pass http://{web}; }}",
        "reverse_proxy {web} {{\n header_up Host {web}\n header_up -X-Forwarded-Proto\n "
        "header_up -X-Forwarded-Host\n header_up -X-Forwarded-For\n header_up -Via\n }}",
        "pass",
        "exactly this URL",
        {"Host": "arrives as {web}; Evergrant goes by `PUBLIC_URL`, so that is fine"},
    ),
    Case(
        "drops X-Forwarded-Proto",
        "location / {{ proxy_pass http://{web}; proxy_set_header X-Forwarded-For $remote_addr; }}",
        "reverse_proxy {web} {{\n header_up -X-Forwarded-Proto\n }}",
        "pass",
        "exactly this URL",
        {"X-Forwarded-Proto": "is not passed on; Evergrant goes by `PUBLIC_URL`, so that is fine"},
    ),
    Case(
        "says http",
        "location / {{ proxy_pass http://{web}; proxy_set_header X-Forwarded-Proto http; }}",
        "reverse_proxy {web} {{\n header_up X-Forwarded-Proto http\n }}",
        "pass",
        "exactly this URL",
        {"X-Forwarded-Proto": "says http, `PUBLIC_URL` says https; the latter counts"},
    ),
    Case(
        "takes the prefix off",
        "location /app/ {{ proxy_pass http://{web}/; }}",
        "handle_path /app/* {{\n reverse_proxy {web}\n }}",
        "pass",
        "exactly this URL",
        {"Path": "a proxy takes off /app, which is fine"},
        path="/app",
    ),
    Case(
        "leaves the prefix on",
        "location /app/ {{ " + GOOD + " }}",
        "reverse_proxy /app/* {web}",
        "pass",
        "exactly this URL",
        {},
        path="/app",
    ),
    Case(
        "adds a prefix",
        "location / {{ proxy_pass http://{web}/evergrant/; }}",
        "rewrite * /evergrant{{uri}}\n reverse_proxy {web}",
        "fail",
        "adds the prefix /evergrant on the way: it arrives as /evergrant/callback",
        {},
    ),
    Case(
        "changes the path",
        "location / {{ rewrite ^/callback$ /oauth/back break; proxy_pass http://{web}; }}",
        "rewrite /callback /oauth/back\n reverse_proxy {web}",
        "fail",
        "changes the path on the way: /callback arrives as /oauth/back",
        {},
    ),
    Case(
        "adds a slash inside",
        "location / {{ rewrite ^/callback$ /callback/ break; proxy_pass http://{web}; }}",
        "rewrite /callback /callback/\n reverse_proxy {web}",
        "fail",
        "adds a slash at the end",
        {},
    ),
    Case(
        "redirects to a slash",
        "location / {{ rewrite ^/callback$ https://localhost:{port}/callback/ permanent; }}",
        "redir /callback /callback/ 308\n reverse_proxy {web}",
        "fail",
        "a redirect to",
        {"They part at": "character {end}: Evergrant has nothing more, the redirect has /"},
    ),
    Case(
        "redirects to www",
        "return 301 https://www.localhost$request_uri;",
        "redir https://www.localhost{{uri}} 301",
        "fail",
        "a redirect to https://www.localhost/callback",
        {"They part at": "character 9: Evergrant has {rest}, the redirect has www.localhost/callback"},
    ),
    Case(
        "drops Cookie",
        "location / {{ " + GOOD + ' proxy_set_header Cookie ""; }}',
        "reverse_proxy {web} {{\n header_up -Cookie\n }}",
        "fail",
        "drops the `Cookie` header",
        {},
    ),
    Case(
        "drops Set-Cookie",
        "location / {{ " + GOOD + " proxy_hide_header Set-Cookie; }}",
        "reverse_proxy {web} {{\n header_down -Set-Cookie\n }}",
        "fail",
        "drops the `Set-Cookie` header",
        {},
    ),
    Case(
        "drops the query",
        "location / {{ proxy_pass http://{web}$uri; }}",
        "rewrite * {{path}}?\n reverse_proxy {web}",
        "fail",
        "changes or drops the query",
        {},
    ),
    Case(
        "leads nowhere",
        "location / {{ proxy_pass http://127.0.0.1:9; }}",
        "reverse_proxy 127.0.0.1:9",
        "fail",
        "A proxy answers there (HTTP 502), and does not reach Evergrant",
        {},
    ),
    Case(
        "answers by itself",
        "location / {{ return 404; }}",
        "respond 404",
        "fail",
        "Something else answers there (HTTP 404",
        {},
    ),
)


class Evergrant:
    """The web app, started anew for each PUBLIC_URL on one port."""

    def __init__(self, home: Path, redis_url: str, database_url: str, public_url: str) -> None:
        given: dict[str, Any] = {
            "_env_file": None,
            "database_url": database_url,
            "redis_url": redis_url,
            "public_url": public_url,
            "evergrant_home": home,
            "worker_concurrency": 2,
        }
        self.settings = Settings(**given)
        self._parts = build(self.settings)
        app = create_app(self._parts)
        self._server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def look(self) -> Finding:
        return run(redirect.looks(self.settings)[:1])[0]

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._parts.database.close()
        self._parts.redis.close()


@contextlib.contextmanager
def proxy(name: str, home: Path, rules: str, port: int, tls: Certificate) -> Iterator[None]:
    """The proxy's own process."""
    program = shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        pytest.skip(f"there is no {name} here (Debian: apt install nginx-light caddy)")
    words = {
        "home": home,
        "port": port,
        "rules": rules,
        "certificate": tls.path,
        "key": tls.path.with_name("key.pem"),
        "user": "user root;" if os.geteuid() == 0 else "",
    }
    config = home / "config"
    config.write_text((NGINX if name == "nginx" else CADDY).format(**words))
    command = (
        [program, "-p", str(home), "-c", str(config), "-e", str(home / "error.log")]
        if name == "nginx"
        else [program, "run", "--config", str(config), "--adapter", "caddyfile"]
    )
    with (home / "output").open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ | {"HOME": str(home)}
        )
    try:
        deadline = time.monotonic() + 20
        while True:
            assert process.poll() is None, (home / "output").read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert time.monotonic() < deadline, (home / "output").read_text()
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(15)


@pytest.mark.parametrize("name", ["nginx", "caddy"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_a_proxy_does(
    tmp_path: Path,
    redis_url: str,
    sqlite: Any,
    certificate: Certificate,
    monkeypatch: pytest.MonkeyPatch,
    case: Case,
    name: str,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.path))
    port = free_port()
    evergrant = Evergrant(tmp_path / "home", redis_url, sqlite(), f"https://localhost:{port}{case.path}")
    words = {
        "web": evergrant.address,
        "port": port,
        "end": len(evergrant.settings.redirect_uri) + 1,
        "rest": f"localhost:{port}/callback",
    }
    rules = (case.nginx if name == "nginx" else case.caddy).format(**words)
    try:
        with proxy(name, tmp_path, rules, port, certificate):
            found = evergrant.look()
    finally:
        evergrant.end()
    assert found.verdict.value == case.verdict, found
    assert case.seen in found.seen
    details = dict(found.details)
    for label, text in case.details.items():
        assert details[label] == text.format(**words), details
    assert bool(found.repair) == (case.verdict == "fail")


def test_no_proxy_at_all(tmp_path: Path, redis_url: str, sqlite: Any) -> None:
    port = free_port()
    evergrant = Evergrant(tmp_path, redis_url, sqlite(), f"http://localhost:{port}")
    try:
        found = evergrant.look()  # nobody listens there
    finally:
        evergrant.end()
    assert (found.verdict, "WEB_PORT" in found.repair or "port" in found.repair) == (Verdict.FAIL, True)


def test_a_certificate_that_nobody_knows(
    tmp_path: Path, redis_url: str, sqlite: Any, certificate: Certificate
) -> None:
    port = free_port()
    evergrant = Evergrant(tmp_path / "home", redis_url, sqlite(), f"https://localhost:{port}")
    rules = "location / { return 404; }"
    try:
        with proxy("nginx", tmp_path, rules, port, certificate):
            found = evergrant.look()
    finally:
        evergrant.end()
    assert found.verdict is Verdict.FAIL
    assert "certificate" in found.repair


def test_another_evergrant_answers(tmp_path: Path, redis_url: str, sqlite: Any) -> None:
    one = Evergrant(tmp_path / "one", redis_url, sqlite(), "http://localhost:1")
    other = Evergrant(tmp_path / "two", redis_url, sqlite(), f"http://{one.address}")
    try:
        found = other.look()
    finally:
        one.end()
        other.end()
    assert found.verdict is Verdict.FAIL
    assert "`SECRET_KEY` is another" in found.seen
