"""The token call and the owner's page beside a Flask view that returns a constant, on the same gunicorn, in
turns."""

from __future__ import annotations

import random
import socket
import statistics
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.request import urlopen

from bench import cpu
from bench.constant import CONSTANT, SIGN_IN
from bench.fill import Spread, fill, owner
from bench.ground import answers, free_port, ground, until
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
    with ground() as on:
        database = on.database()
        fill(database, Keyring.parse(on.keys), grants, spread=Spread())
        server, port = _serve(on, database)
        key = f"Authorization: Bearer {_key(database)}"
        tokens = Asked("token", lambda: f"/api/v1/owners/{_any(grants)}/token", key, b"access_token", "≥ 0.5")
        page = Asked("page", lambda: "/owner", f"Cookie: {_signed_in(port, owner(7))}", b"</html>")
        rows = [_compare(port, server, tokens, callers, seconds, say) for callers in CALLERS]
        paged = [_compare(port, server, page, callers, seconds, say) for callers in CALLERS[:1]]
    head = ("callers", "constant, 1/s", "{}, 1/s", "share", "goal", "CPU ms, constant", "CPU ms, {}")
    about = (
        f"Beside a Flask view that returns a constant, on the same gunicorn. PostgreSQL with {grants:,} "
        "grants, a random owner’s token each time. CPU is the web process’s."
    )
    return "\n\n".join(
        (
            "## A token, from the key to the answer",
            about,
            table(tuple(word.format("token") for word in head), *rows),
            "## The owner’s page",
            "Likewise; the whole page, its timeline and history drawn on the server.",
            table(tuple(word.format("page") for word in head), *paged),
        )
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for, with which header line, what its answer has in it, and which share is aimed at."""

    name: str
    path: Callable[[], str]
    header: str
    marker: bytes
    goal: str = ""


def _compare(
    port: int, server: int, asked: Asked, callers: int, seconds: float, say: Callable[[str], None]
) -> tuple[str, ...]:
    """A row of the table: `asked` beside the constant."""
    both = (Asked("constant", lambda: CONSTANT, asked.header, b"access_token"), asked)
    speed: dict[str, list[float]] = {each.name: [] for each in both}
    cost: dict[str, list[float]] = {each.name: [] for each in both}
    for turn in range(TURNS + 1):
        for each in both:
            before = cpu.seconds([server])
            count = _ask(port, each, callers=callers, seconds=seconds)
            if turn:  # the first warms up
                cost[each.name].append(1000 * (cpu.seconds([server]) - before) / count)
                speed[each.name].append(count / seconds)
    shares = [b / a for a, b in zip(speed["constant"], speed[asked.name], strict=True)]
    rounded = [round(share, 2) for share in shares]
    say(f"{asked.name}, {callers} callers: {statistics.median(shares):.2f}, of {rounded}")
    return (
        str(callers),
        *(f"{statistics.median(speed[each.name]):.0f}" for each in both),
        f"{statistics.median(shares):.2f}",
        asked.goal,
        *(f"{statistics.median(cost[each.name]):.2f}" for each in both),
    )


def _key(database: str) -> str:
    opened = Database(database)
    with opened.write() as connection:
        made = api_keys.create(connection, name="bench", scopes=[Scope.TOKENS_READ], rate=1_000_000)
    opened.close()
    return made[1]


def _any(count: int) -> str:
    return owner(random.randrange(count))  # noqa: S311 - no secret


def _signed_in(port: int, owner: str) -> str:
    """The cookie of a browser in which this owner is signed in."""
    with urlopen(f"http://127.0.0.1:{port}{SIGN_IN}{owner}", timeout=5) as answer:
        return str(answer.headers["Set-Cookie"]).partition(";")[0]


def _serve(on: Ground, database: str) -> tuple[int, int]:
    """The process id and the port of a gunicorn."""
    port = free_port()
    words = ["-m", "gunicorn", "--config", "python:evergrant.serving", "bench.constant:app"]
    process = on.start("web", words, on.environment(database, web_port=port))

    until("gunicorn answers", lambda: answers(port, CONSTANT))
    return process.pid, port


def _ask(port: int, asked: Asked, *, callers: int, seconds: float) -> int:
    """How many answers so many callers have got."""
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda: counts.append(_caller(port, asked, seconds))) for _ in range(callers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(counts) < callers:
        raise RuntimeError("a caller did not get the answer that it asked for")
    return sum(counts)


def _caller(port: int, asked: Asked, seconds: float) -> int:
    # As little as a client can do, so that the server is what is measured.
    count, end = 0, time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while time.monotonic() < end:
            head = f"GET {asked.path()} HTTP/1.1\r\nHost: localhost\r\n{asked.header}\r\n\r\n"
            sock.sendall(head.encode())
            answer = sock.recv(65536)
            while b"\r\n\r\n" not in answer:
                answer += sock.recv(65536)
            head_of, _, body = answer.partition(b"\r\n\r\n")
            length = int(head_of.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            while len(body) < length:
                body += sock.recv(65536)
            if not head_of.startswith(b"HTTP/1.1 200 ") or asked.marker not in body:
                raise RuntimeError(head_of.decode("latin-1"))
            count += 1
    return count
