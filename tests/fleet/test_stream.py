"""An answer that is passed on while it still comes."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from fleet.deadline import Deadline
from fleet.transport import NotSent, OutcomeUnknown, Stream, session, stream
from tests.fleet.wire import Request, black_hole, until

if TYPE_CHECKING:
    from requests import Session

    from tests.fleet.wire import Wire


def ask(
    wire: Wire | str,
    method: str = "GET",
    path: str = "/thing",
    *,
    seconds: float = 5,
    body: bytes = b"",
    over: Session | None = None,
    **headers: str,
) -> Stream:
    base = wire if isinstance(wire, str) else wire.url.removesuffix("/token")
    return stream(
        over or session(), method, base, path, deadline=Deadline(seconds), headers=headers, body=body
    )


def test_each_piece_comes_when_it_comes(serve: Any) -> None:
    seen = threading.Event()

    def script(request: Request) -> None:
        request.send(b"HTTP/1.1 207 Word\r\nContent-Length: 6\r\nX-Two: 1\r\nX-Two: 2\r\n\r\none")
        assert seen.wait(5)
        request.send(b"two")

    answer = ask(serve(script))
    assert answer.status == 207
    assert [value for name, value in answer.headers if name == "X-Two"] == ["1", "2"]
    pieces = answer.pieces(5)
    assert next(pieces) == b"one"
    seen.set()
    assert list(pieces) == [b"two"]
    answer.close()


def test_chunks_come_unpacked_and_nothing_is_decoded(serve: Any) -> None:
    def script(request: Request) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n"
        request.send(head + b"3\r\n\x1f\x8bx\r\n2\r\nyz\r\n0\r\n\r\n")

    answer = ask(serve(script))
    assert b"".join(answer.pieces(5)) == b"\x1f\x8bxyz"
    answer.close()


def test_the_request_goes_as_it_is(serve: Any) -> None:
    wire = serve(lambda request: request.reply(200))
    ask(wire, "PATCH", "/a/b%2Bc?x=%41&y", body=b"\x00body", X_Thing="thing").close()
    request = wire.requests[0]
    assert request.head.startswith(b"PATCH /a/b%2Bc?x=%41&y HTTP/1.1\r\n")
    assert request.body == b"\x00body"
    assert request.header("Content-Length") == "5"
    assert request.header("Content-Type") is None
    ask(wire, "POST").close()
    assert wire.requests[1].header("Content-Length") == "0"


def test_a_connection_whose_answer_was_read_is_used_again(serve: Any) -> None:
    wire = serve(lambda request: request.reply(200, b"x" * 40_000))
    over = session()
    for read_on, connections in ((True, 1), (True, 1), (False, 1), (True, 2)):
        answer = ask(wire, over=over)
        assert wire.connections == connections
        if read_on:
            assert len(b"".join(answer.pieces(5))) == 40_000
        answer.close()
    until(lambda: wire.closed >= 1)  # the one that was not read to its end


def test_a_piece_that_does_not_come(serve: Any) -> None:
    def script(request: Request) -> None:
        request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none")
        request.hang()

    answer = ask(serve(script))
    began = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        list(answer.pieces(0.2))
    assert time.monotonic() - began < 3
    answer.close()


def test_a_body_that_breaks_off(serve: Any) -> None:
    def script(request: Request) -> None:
        request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none")
        request.reset()

    answer = ask(serve(script))
    got: list[bytes] = []
    with pytest.raises(OutcomeUnknown):
        got.extend(answer.pieces(5))
    answer.close()


def test_headers_that_do_not_come(serve: Any) -> None:
    with pytest.raises(OutcomeUnknown, match="deadline"):
        ask(serve(lambda request: request.hang()), seconds=0.3)


def test_nothing_was_sent(serve: Any) -> None:
    with black_hole() as (host, port), pytest.raises(NotSent):
        ask(f"http://{host}:{port}", seconds=0.3)
    wire = serve(lambda request: request.reply(200))
    with pytest.raises(NotSent):
        ask(wire, seconds=-1)
    assert wire.requests == []
