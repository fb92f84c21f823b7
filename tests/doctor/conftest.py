"""An installation with everything real but the worker: web app, sandbox, Valkey and SQLite."""

from __future__ import annotations

import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.serving import make_server

from doctor import keypair
from doctor.installation import examine, examine_owner
from doctor.registration import register
from models import pulses
from settings import Settings, sandbox_endpoints
from tests.sandbox.conftest import APP, Running
from tests.web.conftest import _Lines, _Quiet
from tests.web.pages import Site
from web.app import create_app
from workers.parts import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from redis import Redis

    from doctor.findings import Finding
    from workers.parts import Parts


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


class Installation:
    """One Evergrant on a sandbox of its own."""

    def __init__(self, home: Path, redis_url: str, database_url: str, **changes: Any) -> None:
        self._ends: list[Callable[[], object]] = []
        port = free_port()
        self.url = f"http://localhost:{port}"
        self.tesla = Running(home / "sandbox", "--redirect-uri", f"{self.url}/callback")
        self._ends.append(self.tesla.stop)
        self._given: dict[str, Any] = {
            "_env_file": None,
            "database_url": database_url,
            "redis_url": redis_url,
            "public_url": self.url,
            "web_port": port,
            "evergrant_home": home / "home",
            "tesla_client_id": APP["client_id"],
            "tesla_client_secret": APP["client_secret"],
            "attempt_deadline": 3,
            "worker_concurrency": 4,
            **sandbox_endpoints(self.tesla.url),
            **changes,
        }
        self.settings = Settings(**self._given)
        self.site = self._serve(build(self.settings), port)

    @property
    def parts(self) -> Parts:
        return self.site.parts

    @property
    def log(self) -> str:
        return "\n".join(self.site.log)

    def _serve(self, parts: Parts, port: int) -> Site:
        app = create_app(parts)
        server = make_server("127.0.0.1", port, app, threaded=True, request_handler=_Quiet)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        site = Site(self.url, app, parts, None)  # type: ignore[arg-type]  # it has a real one
        handler = _Lines(site.log)
        logging.getLogger().addHandler(handler)
        self._ends += [
            server.shutdown,
            server.server_close,
            parts.database.close,
            parts.redis.close,
            lambda: logging.getLogger().removeHandler(handler),
        ]
        return site

    def change(self, **settings: Any) -> None:
        """Looks with other settings than those that the web app was started with."""
        self.settings = Settings(**self._given | settings)

    def alive(self) -> None:
        """As if a worker and beat were up, the app had its key, and were registered everywhere."""
        for name in ("beat", "sweep", "refresh", "worker:up@here"):
            pulses.beat(self.parts.database, name)
        if keypair.make(keypair.Place.of(self.settings)):
            assert all(done.error is None for done in register(self.settings))

    def fair_weather(self) -> None:
        """As it was at first, but for owners who have signed in."""
        self.tesla.http.delete(f"{self.tesla.url}/faults", timeout=10)
        self.settings = Settings(**self._given)
        self.site.log.clear()
        self.alive()

    def examine(self) -> dict[str, Finding]:
        return {finding.check: finding for finding in examine(self.settings, [])}

    def owner(self, owner: str) -> tuple[dict[str, Finding], str]:
        findings, sentence = examine_owner(self.settings, owner)
        return {finding.check: finding for finding in findings}, sentence

    def end(self) -> None:
        for end in reversed(self._ends):
            end()


@pytest.fixture
def install(
    tmp_path: Path, redis: Redis, redis_url: str, sqlite: Callable[[], str]
) -> Iterator[Callable[..., Installation]]:
    """Makes an installation with these settings changed."""
    made: list[Installation] = []

    def new(**changes: Any) -> Installation:
        made.append(Installation(tmp_path / str(len(made)), redis_url, sqlite(), **changes))
        return made[-1]

    yield new
    for each in made:
        each.end()


@pytest.fixture(scope="module")
def _shared(
    tmp_path_factory: pytest.TempPathFactory, redis_url: str, sqlite: Callable[[], str]
) -> Iterator[Installation]:
    one = Installation(tmp_path_factory.mktemp("shared"), redis_url, sqlite())
    yield one
    one.end()


@pytest.fixture
def running(_shared: Installation, redis: Redis) -> Installation:
    """One installation for all of a module, in which all is well; for tests with an owner of their own."""
    _shared.fair_weather()
    return _shared


@pytest.fixture
def installation(install: Callable[..., Installation]) -> Installation:
    return install()
