"""Behind PgBouncer in transaction mode, where each transaction may have another connection."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy.engine import make_url

from models import api_keys
from models.session import Database
from tests.models.conftest import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.crypto import Keyring

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="Debian: apt install pgbouncer")

CONFIG = """
[databases]
* = host={host} port={port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
"""


@pytest.fixture
def through_pgbouncer(postgresql: Callable[[], str]) -> Iterator[str]:
    """The URL of an empty migrated database, by way of PgBouncer."""
    direct = make_url(postgresql())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        listen = probe.getsockname()[1]
    host = direct.host or direct.query["host"]
    # pytest's own folders are closed to the user that PgBouncer runs as.
    folder = Path(tempfile.mkdtemp(prefix="evergrant-pgbouncer-"))
    folder.chmod(0o755)
    config = folder / "pgbouncer.ini"
    config.write_text(CONFIG.format(host=host, port=direct.port or 5432, user=direct.username, listen=listen))
    config.chmod(0o644)
    process = subprocess.Popen(
        # Not as root, which it refuses, but as somebody who may reach PostgreSQL's socket.
        [PGBOUNCER or "", "-q", str(config)],
        user=Path(str(host)).stat().st_uid or "nobody" if os.geteuid() == 0 else None,
    )
    url = f"postgresql+psycopg://{direct.username}@127.0.0.1:{listen}/{direct.database}"
    try:
        for _ in range(200):
            with (
                suppress(psycopg.Error),
                psycopg.connect(url.replace("+psycopg", ""), connect_timeout=1, prepare_threshold=None),
            ):
                break
            time.sleep(0.05)
        yield f"{url}?prepare_threshold=none"
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


def test_grants_go_round_and_round(through_pgbouncer: str, keyring: Keyring) -> None:
    database = Database(through_pgbouncer, pool_size=8)
    failed: list[BaseException] = []

    def owner_of(name: str) -> None:
        table = Table(database, keyring)
        try:
            first = table.connect(name)
            for number in range(8):  # psycopg would prepare what it has sent five times
                attempt = table.attempt(name, stale=first + number)
                table.settle(table.answer(attempt, f"{name}-{number}"))
            assert table.read(name).generation == first + 8
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=owner_of, args=(f"owner-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    assert not Table(database, keyring).claim()
    database.close()


def test_keys_are_found(through_pgbouncer: str, keyring: Keyring) -> None:
    database = Database(through_pgbouncer, pool_size=8)
    Table(database, keyring).connect("ann")
    with database.write() as connection:
        _, key = api_keys.create(connection, name="a program", scopes=list(api_keys.Scope))
    lookup = api_keys.KeyLookup(database)

    def found(_: int) -> bool:
        use = lookup.find(key, "ann")
        return use is not None and use.grant is not None

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(found, range(100)))
    database.close()
