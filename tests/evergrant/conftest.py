from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.evergrant.line import Line
from tests.evergrant.running import Running
from tests.sandbox.conftest import Running as Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from redis import Redis


@pytest.fixture
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """Starts a whole Evergrant, as often as it is called; all have ended after the test."""
    started: list[Running] = []

    def start(**kwargs: object) -> Running:
        started.append(Running(tmp_path_factory.mktemp("up") / "home", **kwargs))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for running in started:
        running.end()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One Evergrant that is up, for the tests of a module that leave it so."""
    running = Running(tmp_path_factory.mktemp("running") / "home")
    try:
        running.wait_for_banner()
        yield running
    finally:
        running.end()


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"))
    yield sandbox
    sandbox.stop()


def _line(home: Path, url: str, keys: str, redis_url: str, sandbox: Sandbox) -> Iterator[Line]:
    line = Line(home, url, keys, redis_url, sandbox)
    yield line
    line.database.close()
    sandbox.http.delete(f"{sandbox.url}/faults", timeout=10)


@pytest.fixture
def line(
    tmp_path: Path, sqlite: Callable[[], str], keys: str, redis: Redis, redis_url: str, sandbox: Sandbox
) -> Iterator[Line]:
    """A command line with the sandbox in Tesla's place."""
    yield from _line(tmp_path / "home", sqlite(), keys, redis_url, sandbox)


@pytest.fixture
def line_on_both(
    tmp_path: Path, database_url: str, keys: str, redis: Redis, redis_url: str, sandbox: Sandbox
) -> Iterator[Line]:
    """The same, once on SQLite and once on PostgreSQL."""
    yield from _line(tmp_path / "home", database_url, keys, redis_url, sandbox)
