"""The gateway on the real server, which streams, chunks and hangs up by its own rules."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import pytest
import requests

from tests.fleet.wire import Request, Wire
from tests.web.api.conftest import Program, connect, problem
from tests.web.api.served import Served
from web.gateway import LARGEST_BODY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis

    from tests.web.odd_tesla import OddTesla

pytestmark = pytest.mark.processes

VEHICLES = "/gateway/ann/api/1/vehicles"
GIGABYTE = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with Wire(lambda request: request.reply(500)) as wire:
        yield wire


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory,
    redis_url: str,
    odd_tesla: OddTesla,
    sqlite: Callable[[], str],
    wire: Wire,
) -> Iterator[Served]:
    base = f"http://127.0.0.1:{wire.port}"
    urls = {f"tesla_fleet_url_{region}": f"{base}/{region}" for region in ("na", "eu", "cn")}
    served = Served(
        tmp_path_factory.mktemp("home"), odd_tesla, database_url=sqlite(), redis_url=redis_url, **urls
    )
    yield served
    served.end()


@pytest.fixture
def program(served: Served, wire: Wire, redis: Redis, tesla: OddTesla) -> Iterator[Program]:
    connect(served)
    wire.requests.clear()
    yield Program(served)
    log = served.output.read_text()
    assert "Traceback" not in log
    assert "access-of-ann" not in log


def says(wire: Wire, script: Callable[[Request], None]) -> None:
    wire.script = script


def test_it_is_streamed(program: Program, wire: Wire) -> None:
    seen = threading.Event()

    def script(request: Request) -> None:
        request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        assert seen.wait(10)
        request.send(b"3\r\ntwo\r\n0\r\n\r\n")

    says(wire, script)
    with program.get(VEHICLES, stream=True) as response:
        pieces = response.iter_content(3)
        assert next(pieces) == b"one"
        seen.set()
        assert b"".join(pieces) == b"two"


@pytest.mark.parametrize(
    "head",
    [b"Content-Length: 600\r\n\r\none", b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n"],
    ids=["length", "chunked"],
)
def test_an_answer_that_breaks_off_breaks_off(program: Program, wire: Wire, head: bytes) -> None:
    def script(request: Request) -> None:
        request.send(b"HTTP/1.1 200 OK\r\n" + head)
        request.reset()

    says(wire, script)
    with pytest.raises(requests.RequestException):
        _ = program.get(VEHICLES).content


def test_a_caller_who_leaves_ends_the_call(program: Program, wire: Wire) -> None:
    gone = threading.Event()

    def script(request: Request) -> None:
        request.send(GIGABYTE)
        with contextlib.suppress(OSError):
            while True:
                request.send(b"x" * 65536)
        gone.set()

    says(wire, script)
    with program.get(VEHICLES, stream=True) as response:
        assert next(response.iter_content(1000))
    assert gone.wait(20)


def test_a_body_in_chunks_is_sent_again_too(program: Program, wire: Wire) -> None:
    def script(request: Request) -> None:
        if request.header("Authorization") == "Bearer access-of-ann":
            request.reply(401)
        else:
            request.reply(200, request.body)

    says(wire, script)
    response = program.post(VEHICLES, data=iter([b"a ", b"command"]))
    assert (response.status_code, response.content) == (200, b"a command")
    assert [request.header("Content-Length") for request in wire.requests] == ["9", "9"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_has_a_bound(program: Program, wire: Wire, chunked: bool) -> None:
    says(wire, lambda request: request.reply(200))
    large = b"x" * (LARGEST_BODY + 1)
    with contextlib.suppress(requests.ConnectionError):  # it may be refused before it is all sent
        problem(program.post(VEHICLES, data=iter([large]) if chunked else large), 413, "too_large")
    assert wire.requests == []
    assert program.get(VEHICLES).status_code == 200


def test_answers_without_a_body(program: Program, wire: Wire) -> None:
    says(wire, lambda request: request.send(b"HTTP/1.1 204 No Content\r\n\r\n"))
    for _ in range(2):
        response = program.delete(VEHICLES)
        assert (response.status_code, response.content) == (204, b"")
    says(wire, lambda request: request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n"))
    for _ in range(2):
        response = program.head(VEHICLES)
        assert (response.status_code, response.headers["Content-Length"]) == (200, "600")
