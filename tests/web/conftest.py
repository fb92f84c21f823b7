"""The pages on real parts, served on a free port."""

from __future__ import annotations

import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

from models.session import metadata
from settings import Settings
from tests.web.odd_tesla import OddTesla
from tests.web.pages import Site
from web.app import create_app
from workers.parts import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from redis import Redis

ATTEMPT_DEADLINE = 1.5
"""Seconds."""


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


class Sites:
    """Starts the pages, and ends all that it started."""

    def __init__(self, home: Path, redis_url: str, tesla: OddTesla) -> None:
        self._home = home
        self._redis_url = redis_url
        self._tesla = tesla
        self._ends: list[Callable[[], object]] = []

    def start(self, database_url: str, **changes: str) -> Site:
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        given: dict[str, Any] = {
            "_env_file": None,
            "database_url": database_url,
            "redis_url": self._redis_url,
            "public_url": url,
            "evergrant_home": self._home,
            "attempt_deadline": ATTEMPT_DEADLINE,
            "worker_concurrency": 4,
        }
        parts = build(Settings(**given | self._tesla.settings() | changes))
        app = create_app(parts)
        server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet, fd=listener.fileno())
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        site = Site(url, app, parts, self._tesla)
        handler = _Lines(site.log)
        logging.getLogger().addHandler(handler)
        self._ends += [
            server.shutdown,
            server.server_close,
            listener.close,
            parts.database.close,
            parts.redis.close,
            lambda: logging.getLogger().removeHandler(handler),
        ]
        return site

    def end(self) -> None:
        for end in self._ends:
            end()


@pytest.fixture
def serve(tmp_path: Path, redis_url: str, redis: Redis, tesla: OddTesla) -> Iterator[Callable[..., Site]]:
    """Serves the pages with these settings, on a free port."""
    sites = Sites(tmp_path, redis_url, tesla)
    yield sites.start
    sites.end()


@pytest.fixture
def site(serve: Callable[..., Site], database_url: str) -> Site:
    """The pages on an empty database, once on SQLite and once on PostgreSQL."""
    return serve(database_url)


@pytest.fixture
def lite(serve: Callable[..., Site], sqlite: Callable[[], str]) -> Site:
    """The pages on SQLite, for what no database changes."""
    return serve(sqlite())


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def _one_site(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    redis_url: str,
    odd_tesla: OddTesla,
) -> Iterator[Site]:
    sites = Sites(tmp_path_factory.mktemp("home"), redis_url, odd_tesla)
    yield sites.start(request.getfixturevalue(request.param)())
    sites.end()


@pytest.fixture
def emptied(_one_site: Site, redis: Redis, tesla: OddTesla) -> Site:
    """Like `site`, for many cases: one for all of a module, emptied for each."""
    with _one_site.parts.database.write() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())
    _one_site.log.clear()
    return _one_site
