"""What only the real server can show: two hundred who wait at once, and those who need not wait."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.web.api.conftest import Program, connect
from tests.web.api.served import Served
from tests.web.odd_tesla import json_reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis import Redis

    from tests.web.odd_tesla import OddTesla, Reply

pytestmark = pytest.mark.processes

MANY = 200


@pytest.fixture
def served(
    tmp_path: Path, redis_url: str, redis: Redis, tesla: OddTesla, database_url: str
) -> Iterator[Served]:
    served = Served(tmp_path, tesla, database_url=database_url, redis_url=redis_url)
    yield served
    served.end()


def test_two_hundred_at_once_for_one_expired_token(served: Served) -> None:
    connect(served, "ann", expires_in=-1)
    connect(served, "bob")
    program = Program(served)
    answers = threading.Event()

    def slow(_: dict[str, str]) -> Reply:
        assert answers.wait(30)
        return json_reply(200, served.tesla.tokens(sub="ann"))

    served.tesla.token = slow
    waiting = [ask(program, "/api/v1/owners/ann/token") for _ in range(MANY)]
    # They all wait for Tesla; who need not is served meanwhile.
    assert program.token("bob").status_code == 200
    assert requests.get(f"{served.url}/healthz", timeout=5).status_code == 200
    answers.set()
    got = [receive(one) for one in waiting]
    assert [status for status, _ in got] == [200] * MANY
    assert len({content["access_token"] for _, content in got}) == 1
    assert {content["generation"] for _, content in got} == {1}
    assert len(served.tesla.forms) == 1
    log = served.output.read_text()
    assert "Traceback" not in log
    assert program.key[23:] not in log
    assert not any(token in log for token in served.tesla.issued)


def test_clients_that_do_not_close_their_side_keep_nobody_waiting(served: Served) -> None:
    connect(served, "ann")
    program = Program(served)
    lazy = [ask(program, "/api/v1/owners/ann/token") for _ in range(10)]
    began = time.monotonic()
    assert requests.get(f"{served.url}/healthz", timeout=30).status_code == 200
    assert time.monotonic() - began < 10, "two seconds for each of them"
    assert [receive(one)[0] for one in lazy] == [200] * 10


def ask(program: Program, path: str) -> socket.socket:
    """A request that is sent, and whose answer is not yet read."""
    url = urlsplit(program.url)
    sock = socket.create_connection((url.hostname or "", url.port or 0), timeout=60)
    lines = [f"GET {path} HTTP/1.1", f"Host: {url.netloc}", f"Authorization: Bearer {program.key}"]
    sock.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode())
    return sock


def receive(sock: socket.socket) -> tuple[int, dict[str, Any]]:
    """The status and the body's JSON."""
    answer = b""
    with sock:
        while piece := sock.recv(65536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)
