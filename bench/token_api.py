"""The token call beside a Flask view that returns a constant, on the same gunicorn, in turns."""

from __future__ import annotations

import random
import socket
import statistics
import threading
import time
from typing import TYPE_CHECKING
from urllib.request import urlopen

from bench import cpu
from bench.constant import CONSTANT
from bench.fill import Spread, fill, owner
from bench.ground import ground, until
from bench.results import table
from models import api_keys
from models.api_keys import Scope
from models.crypto import Keyring
from models.session import Database

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.ground import Ground
    from bench.results import Size

TURNS = 7
"""Of each; the median counts."""

CALLERS = (8, 32)
"""Connections at once, each asking anew as soon as it has its answer."""


def run(size: Size, say: Callable[[str], None]) -> str:
    grants, seconds = (2_000, 0.5) if size.quick else (100_000, 3.0)
    rows: list[tuple[object, ...]] = [
        ("callers", "constant, 1/s", "token, 1/s", "share", "goal", "CPU ms, constant", "CPU ms, token")
    ]
    with ground() as on:
        database = on.database()
        fill(database, Keyring.parse(on.keys), grants, spread=Spread())
        key = _key(database)
        server, port = _serve(on, database)
        paths = {"constant": lambda: CONSTANT, "token": _owners(grants)}
        for path in paths.values():
            _ask(port, key, path, callers=max(CALLERS), seconds=seconds)  # warm
        for callers in CALLERS:
            speed: dict[str, list[float]] = {name: [] for name in paths}
            cost: dict[str, list[float]] = {name: [] for name in paths}
            for _ in range(TURNS):
                for name, path in paths.items():
                    before = cpu.seconds([server])
                    count = _ask(port, key, path, callers=callers, seconds=seconds)
                    cost[name].append(1000 * (cpu.seconds([server]) - before) / count)
                    speed[name].append(count / seconds)
            shares = [b / a for a, b in zip(speed["constant"], speed["token"], strict=True)]
            say(f"{callers} callers: {statistics.median(shares):.2f}, of {[round(s, 2) for s in shares]}")
            rows.append(
                (
                    callers,
                    *(f"{statistics.median(speed[name]):.0f}" for name in paths),
                    f"{statistics.median(shares):.2f}",
                    "≥ 0.5",
                    *(f"{statistics.median(cost[name]):.2f}" for name in paths),
                )
            )
    about = (
        f"Beside a Flask view that returns a constant, on the same gunicorn. PostgreSQL with {grants:,} "
        "grants, a random owner’s token each time. CPU is the web process’s."
    )
    return "\n\n".join(("## A token, from the key to the answer", about, table(*rows)))


def _key(database: str) -> str:
    opened = Database(database)
    with opened.write() as connection:
        made = api_keys.create(connection, name="bench", scopes=[Scope.TOKENS_READ], rate=1_000_000)
    opened.close()
    return made[1]


def _owners(count: int) -> Callable[[], str]:
    return lambda: f"/api/v1/owners/{owner(random.randrange(count))}/token"  # noqa: S311 - no secret


def _serve(on: Ground, database: str) -> tuple[int, int]:
    """The process id and the port of a gunicorn."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    words = ["-m", "gunicorn", "--config", "python:evergrant.serving", "bench.constant:app"]
    process = on.start("web", words, on.environment(database, web_port=port))

    def answers() -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{port}{CONSTANT}", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    until("gunicorn answers", answers)
    return process.pid, port


def _ask(port: int, key: str, path: Callable[[], str], *, callers: int, seconds: float) -> int:
    """How many answers so many callers have got."""
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda: counts.append(_caller(port, key, path, seconds)))
        for _ in range(callers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(counts) < callers:
        raise RuntimeError("a caller did not get the answer that it asked for")
    return sum(counts)


def _caller(port: int, key: str, path: Callable[[], str], seconds: float) -> int:
    # As little as a client can do, so that the server is what is measured.
    count, end = 0, time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while time.monotonic() < end:
            head = f"GET {path()} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n"
            sock.sendall(head.encode())
            answer = sock.recv(65536)
            while b"\r\n\r\n" not in answer:
                answer += sock.recv(65536)
            head_of, _, body = answer.partition(b"\r\n\r\n")
            length = int(head_of.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            while len(body) < length:
                body += sock.recv(65536)
            if not head_of.startswith(b"HTTP/1.1 200 ") or b"access_token" not in body:
                raise RuntimeError(head_of.decode("latin-1"))
            count += 1
    return count
