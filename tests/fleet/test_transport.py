from __future__ import annotations

import contextlib
import gzip
import os
import select
import socket
import ssl
import threading
import time
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet import transport
from fleet.deadline import Deadline, DeadlinePassed
from fleet.transport import Answer, NotSent, OutcomeUnknown, call, session
from tests.fleet.wire import Request, Wire, black_hole, reset, until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

SLACK = 1.0
"""Seconds that a loaded machine may take on top of a deadline."""

FORM = {"refresh_token": "EU_very-secret", "client_secret": "also-secret"}


def post(url: str, seconds: float = 5, **more: Any) -> Answer:
    return call(session(), "POST", url, deadline=Deadline(seconds), data=FORM, **more)


def ok(request: Request) -> None:
    request.reply(200, {"good": True}, {"X-Thing": "thing"})


class TestAnswers:
    def test_a_whole_answer_and_the_request_that_asked_for_it(self, serve: Any) -> None:
        wire = serve(ok)
        answer = post(wire.url, headers={"X-More": "more"})
        assert (answer.status, answer.json(), answer.headers["x-thing"]) == (200, {"good": True}, "thing")
        (request,) = wire.requests
        assert request.form == FORM
        assert request.header("Content-Type") == "application/x-www-form-urlencoded"
        assert request.header("Accept-Encoding") == "identity"
        assert request.header("X-More") == "more"
        assert request.header("Host") == f"127.0.0.1:{wire.port}"

    def test_json_goes_out_as_json(self, serve: Any) -> None:
        wire = serve(ok)
        call(session(), "POST", wire.url, deadline=Deadline(5), json={"domain": "ä"})
        assert wire.requests[0].header("Content-Type") == "application/json"
        assert wire.requests[0].body == b'{"domain": "\\u00e4"}'

    @pytest.mark.parametrize(
        "raw",
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n",
            b"HTTP/1.0 200 OK\r\n\r\n[1,2]",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[1,2]",
        ],
        ids=["chunked", "until the end", "after a 100"],
    )
    def test_framings(self, serve: Any, raw: bytes) -> None:
        def script(request: Request) -> None:
            request.send(raw)
            request.sock.shutdown(socket.SHUT_WR)

        assert post(serve(script).url).json() == [1, 2]

    @pytest.mark.parametrize("status", [204, 304])
    def test_answers_without_a_body_leave_the_connection_usable(self, serve: Any, status: int) -> None:
        wire = serve(lambda request: request.send(b"HTTP/1.1 %d No\r\n\r\n" % status))
        one = session()
        for _ in range(2):
            answer = call(one, "GET", wire.url, deadline=Deadline(5))
            assert (answer.status, answer.body) == (status, b"")
        assert wire.connections == 1

    def test_a_redirect_is_an_answer_and_not_followed(self, serve: Any) -> None:
        wire = serve(lambda request: request.reply(302, b"", {"Location": "/elsewhere"}))
        assert post(wire.url).status == 302
        assert len(wire.requests) == 1

    def test_a_body_that_was_compressed_unasked_is_read(self, serve: Any) -> None:
        for coding, body in (("gzip", gzip.compress(b"[7]")), ("deflate", zlib.compress(b"[7]"))):
            wire = serve(lambda request, c=coding, b=body: request.reply(200, b, {"Content-Encoding": c}))
            assert post(wire.url).json() == [7]

    def test_json_raises_value_error_only(self) -> None:
        for body in (b"", b"<html>", b"\xff\xfe\x00", b"[" * 200_000, b"\x80"):
            with pytest.raises(ValueError):  # noqa: PT011 - it is the contract
                Answer(200, {}, body).json()

    def test_reprs_and_messages_hold_no_secret(self, serve: Any) -> None:
        assert "secret" not in repr(Answer(200, {}, b"secret"))
        wire = serve(lambda request: request.send(request.body + b"\r\n\r\n"))
        with pytest.raises(OutcomeUnknown) as caught:
            post(wire.url)
        assert "secret" not in str(caught.value) + repr(caught.value)

    def test_header_sections_that_make_no_sense_are_not_logged(
        self, serve: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        wire = serve(lambda request: request.send(b'HTTP/1.1 200 OK\r\n{"access_token"="seen"}\r\n\r\n'))
        with caplog.at_level("DEBUG"), contextlib.suppress(OutcomeUnknown):
            post(wire.url, 0.3)
        assert "seen" not in caplog.text


class TestKeptAlive:
    def test_a_connection_is_used_again(self, serve: Any) -> None:
        wire, one = serve(ok), session()
        for _ in range(5):
            call(one, "POST", wire.url, deadline=Deadline(5), data=FORM)
        assert (len(wire.requests), wire.connections) == (5, 1)

    def test_over_tls_too(self, serve: Any, certificate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.path))
        wire, one = serve(ok, certificate.server), session()
        for _ in range(5):
            assert call(one, "POST", wire.url, deadline=Deadline(5), data=FORM).json() == {"good": True}
        assert (len(wire.requests), wire.connections) == (5, 1)

    def test_one_that_was_idle_too_long_is_left_alone(
        self, serve: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wire, one = serve(ok), session()
        call(one, "POST", wire.url, deadline=Deadline(5), data=FORM)
        later = time.monotonic() + transport.IDLE_SECONDS + 1
        monkeypatch.setattr(time, "monotonic", lambda: later)
        call(one, "POST", wire.url, deadline=Deadline(5), data=FORM)
        assert wire.connections == 2

    def test_one_that_the_server_closed_is_replaced(self, serve: Any) -> None:
        def script(request: Request) -> None:
            ok(request)
            request.sock.close()

        def closed(count: int) -> bool:
            return bool(wire.closed == count)

        wire, one = serve(script), session()
        for count in (1, 2):
            assert call(one, "POST", wire.url, deadline=Deadline(5), data=FORM).status == 200
            until(partial(closed, count))
        assert wire.connections == 2

    def test_one_that_broke_is_not_used_again(self, serve: Any) -> None:
        def script(request: Request) -> None:
            if len(wire.requests) == 1:
                request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[")
                request.hang()
            ok(request)

        wire = serve(script)
        one = session()
        with pytest.raises(OutcomeUnknown):
            call(one, "POST", wire.url, deadline=Deadline(0.2), data=FORM)
        assert call(one, "POST", wire.url, deadline=Deadline(5), data=FORM).json() == {"good": True}
        assert wire.connections == 2

    def test_many_threads_share_a_session(self, serve: Any) -> None:
        wire, one = serve(lambda request: request.reply(200, request.body)), session(pool_size=4)
        wrong: list[object] = []

        def work(name: int) -> None:
            for _ in range(10):
                answer = call(one, "POST", wire.url, deadline=Deadline(10), data=f"n={name}")
                if answer.body != f"n={name}".encode():
                    wrong.append(answer.body)

        threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (wrong, len(wire.requests)) == ([], 80)
        assert wire.connections < 80

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_a_forked_child_opens_its_own(self, serve: Any) -> None:
        wire, one = serve(ok), session()
        call(one, "POST", wire.url, deadline=Deadline(5), data=FORM)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                call(one, "POST", wire.url, deadline=Deadline(5), data=FORM)
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        call(one, "POST", wire.url, deadline=Deadline(5), data=FORM)
        assert (len(wire.requests), wire.connections) == (3, 2)

    def test_nothing_is_sent_but_by_call(self, serve: Any) -> None:
        wire = serve(ok)
        with pytest.raises(RuntimeError, match=r"through fleet\.transport\.call"):
            session().get(wire.url)
        with pytest.raises(TypeError):
            call(requests.Session(), "GET", wire.url, deadline=Deadline(1))
        assert wire.received == 0


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
LONG = 400


class TestTheDeadlineIsTotal:
    """Each server here sends a byte now and then, for far longer than the deadline."""

    @pytest.mark.parametrize(
        ("first", "dripped"),
        [
            (b"", b"HTTP/1.1 200 " + b"O" * LONG),
            (HEAD, b"X-Long: " + b"y" * LONG),
            (HEAD, b"X-A: b\r\n" * LONG),
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * LONG),
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n[\r\n" * LONG),
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1000\r\n", b" " * LONG),
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: " + b"y" * LONG),
            (HEAD + b"Content-Length: 9999\r\n\r\n", b" " * LONG),
            (HEAD + b"\r\n", b" " * LONG),
            (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * LONG),
        ],
        ids=[
            "status line", "header", "headers", "chunk header", "chunks", "chunk", "trailer", "body",
            "endless body", "interim answers",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
    def test_drip(
        self,
        serve: Any,
        certificate: Any,
        monkeypatch: pytest.MonkeyPatch,
        first: bytes,
        dripped: bytes,
        secure: bool,
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.path))

        def script(request: Request) -> None:
            request.send(first) if first else None
            request.drip(dripped)

        wire = serve(script, certificate.server if secure else None)
        start = time.monotonic()
        with pytest.raises(OutcomeUnknown, match="deadline passed"):
            post(wire.url, 0.35)
        assert 0.3 < time.monotonic() - start < 0.35 + SLACK  # the drip takes some 10 s

    def test_an_answer_that_never_comes(self, serve: Any) -> None:
        start = time.monotonic()
        with pytest.raises(OutcomeUnknown, match="deadline passed"):
            post(serve(lambda request: request.hang()).url, 0.3)
        assert time.monotonic() - start < 0.3 + SLACK

    def test_a_flood_of_interim_answers_ends_long_before_the_deadline(self, serve: Any) -> None:
        def script(request: Request) -> None:
            for _ in range(10_000):
                request.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

        start = time.monotonic()
        with pytest.raises(OutcomeUnknown, match="too large"):
            post(serve(script).url, 20)
        assert time.monotonic() - start < 10

    def test_a_drip_below_tls(self, certificate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Bytes of one TLS record, one by one: no data ever reaches the reader."""
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.path))
        listener = socket.create_server(("127.0.0.1", 0))
        done = threading.Event()

        def server() -> None:
            sock, _ = listener.accept()
            sock.settimeout(5)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = certificate.server.wrap_bio(incoming, outgoing, server_side=True)

            def drive(step: Callable[[], Any]) -> Any:
                while True:
                    try:
                        result = step()
                    except ssl.SSLWantReadError:
                        sock.sendall(outgoing.read())
                        incoming.write(sock.recv(65536))
                        continue
                    sock.sendall(outgoing.read())
                    return result

            drive(tls.do_handshake)
            drive(lambda: tls.read(65536))
            tls.write(HEAD + b"Content-Length: 5\r\n\r\n[1,2]" + b" " * 400)
            try:
                for byte in outgoing.read():
                    sock.sendall(bytes([byte]))
                    if done.wait(0.02):
                        break
            except OSError:
                pass
            sock.close()

        thread = threading.Thread(target=server, daemon=True)
        thread.start()
        start = time.monotonic()
        with pytest.raises(OutcomeUnknown, match="deadline passed"):
            post(f"https://127.0.0.1:{listener.getsockname()[1]}/token", 0.4)
        assert 0.3 < time.monotonic() - start < 0.4 + SLACK
        done.set()
        thread.join(5)
        listener.close()

    def test_a_handshake_that_never_ends(self, certificate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.path))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            start = time.monotonic()
            with pytest.raises(NotSent, match="deadline passed"):
                post(f"https://127.0.0.1:{listener.getsockname()[1]}/token", 0.3)
            assert time.monotonic() - start < 0.3 + SLACK

    def test_a_black_hole(self) -> None:
        with black_hole() as (host, port):
            start = time.monotonic()
            with pytest.raises(NotSent, match="no connection in time"):
                post(f"http://{host}:{port}/token", 0.3)
            assert time.monotonic() - start < 0.3 + SLACK

    def test_a_resolver_that_hangs_and_is_asked_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        release, asked = threading.Event(), []

        def getaddrinfo(*args: Any) -> Any:
            asked.append(args)
            release.wait(20)
            raise socket.gaierror(socket.EAI_AGAIN, "later")

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        for _ in range(3):
            start = time.monotonic()
            with pytest.raises(NotSent, match="not resolved in time"):
                post("http://slow.example/token", 0.15)
            assert time.monotonic() - start < 0.15 + SLACK
        assert len(asked) == 1
        release.set()
        until(lambda: not transport._Lookup._under_way)
        with pytest.raises(NotSent, match="could not be resolved"):
            post("http://slow.example/token")
        assert len(asked) == 2

    def test_a_send_that_nobody_reads(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            start = time.monotonic()
            with pytest.raises(OutcomeUnknown, match="deadline passed"):
                call(
                    session(),
                    "POST",
                    f"http://127.0.0.1:{listener.getsockname()[1]}/",
                    deadline=Deadline(0.5),
                    data=b"x" * 20_000_000,
                )
            assert time.monotonic() - start < 0.5 + SLACK


class StopsAfterSending(Deadline):
    """Passes while the process is stopped, between sending and the first look for an answer."""

    def __init__(self, awake: threading.Event) -> None:
        super().__init__(5)
        self.awake = awake
        self.looks: int | None = None

    def hook(self) -> None:
        self.looks = 0

    @property
    def remaining(self) -> float:
        if self.looks is None:
            return 5.0
        self.looks += 1
        if self.looks == 1:  # the send
            return 5.0
        assert self.awake.wait(5)
        select.select([], [], [], 0.05)
        return 0.0


class TestSent:
    """Whether a request left this process is known exactly."""

    @pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
    def test_a_stop_between_connecting_and_sending(
        self, serve: Any, certificate: Any, monkeypatch: pytest.MonkeyPatch, secure: bool
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.path))
        wire = serve(ok, certificate.server if secure else None)
        deadline = Deadline(0.5)
        with pytest.raises(NotSent, match="deadline passed"):
            call(
                session(),
                "POST",
                wire.url,
                deadline=deadline,
                data=FORM,
                before_send=lambda: until(lambda: deadline.passed),
            )
        until(lambda: wire.closed == 1)
        assert (wire.connections, wire.received, wire.requests) == (1, 0, [])

    def test_the_same_on_a_kept_connection(self, serve: Any) -> None:
        wire, one = serve(ok), session()
        call(one, "POST", wire.url, deadline=Deadline(5), data=FORM)
        received, deadline = wire.received, Deadline(0.2)
        with pytest.raises(NotSent):
            call(
                one,
                "POST",
                wire.url,
                deadline=deadline,
                data=FORM,
                before_send=lambda: until(lambda: deadline.passed),
            )
        until(lambda: wire.closed == 1)
        assert (wire.connections, wire.received) == (1, received)

    def test_the_hook_runs_once_connected_and_before_the_first_byte(self, serve: Any) -> None:
        wire, seen = serve(ok), []

        def hook() -> None:
            until(lambda: wire.connections == 1)
            seen.append(wire.received)

        assert post(wire.url, before_send=hook).status == 200
        assert seen == [0]

    @pytest.mark.parametrize(
        "error", [KeyError("mine"), OSError("mine"), TimeoutError("mine"), KeyboardInterrupt()]
    )
    def test_what_the_hook_raises_comes_out_unchanged(self, serve: Any, error: BaseException) -> None:
        wire = serve(ok)

        def hook() -> None:
            raise error

        with pytest.raises(type(error)) as caught:
            post(wire.url, before_send=hook)
        assert caught.value is error
        until(lambda: wire.closed == 1)
        assert wire.received == 0

    def test_a_hook_may_say_that_the_deadline_passed(self, serve: Any) -> None:
        def hook() -> None:
            raise DeadlinePassed

        with pytest.raises(NotSent, match="deadline passed"):
            post(serve(ok).url, before_send=hook)

    def test_past_the_deadline_not_even_a_connection_is_made(self, serve: Any) -> None:
        wire = serve(ok)
        with pytest.raises(NotSent):
            post(wire.url, 0)
        assert wire.connections == 0

    def test_an_answer_that_arrived_while_the_process_was_stopped_is_taken(self, serve: Any) -> None:
        """As after SIGSTOP: the request went out in time, and the answer waits in this kernel's buffer."""
        answered = threading.Event()

        def script(request: Request) -> None:
            ok(request)
            answered.set()

        deadline = StopsAfterSending(answered)
        answer = call(
            session(), "POST", serve(script).url, deadline=deadline, data=FORM, before_send=deadline.hook
        )
        assert answer.json() == {"good": True}
        assert deadline.looks is not None
        assert deadline.looks > 1

    def test_past_the_deadline_nothing_is_waited_for(self, serve: Any) -> None:
        asked = threading.Event()

        def script(request: Request) -> None:
            request.send(HEAD)
            asked.set()
            request.hang()

        deadline = StopsAfterSending(asked)
        start = time.monotonic()
        with pytest.raises(OutcomeUnknown, match="deadline passed"):
            call(
                session(), "POST", serve(script).url, deadline=deadline, data=FORM, before_send=deadline.hook
            )
        assert time.monotonic() - start < SLACK

    @pytest.mark.parametrize(
        ("sent", "came"),
        [
            (b"", b""),
            (b"HTTP/1.1 200 O", b""),
            (HEAD, b""),
            (HEAD + b"Content-Length: 20\r\n\r\n[1,2", b"[1,2"),
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n9\r\n2", b"[1,2"),
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\nzz\r\n", b"[1,"),
            (b"SSH-2.0-OpenSSH\r\n", b""),
        ],
        ids=["nothing", "half a line", "half headers", "half a body", "half a chunk", "no chunk", "not HTTP"],
    )  # fmt: skip
    def test_an_answer_that_breaks_off(self, serve: Any, sent: bytes, came: bytes) -> None:
        def script(request: Request) -> None:
            request.send(sent)
            request.sock.shutdown(socket.SHUT_RDWR)

        with pytest.raises(OutcomeUnknown) as caught:
            post(serve(script).url)
        assert caught.value.partial == came

    def test_a_reset_after_the_request(self, serve: Any) -> None:
        with pytest.raises(OutcomeUnknown, match="reset"):
            post(serve(lambda request: request.reset()).url)

    def test_a_connection_that_breaks_before_the_first_byte(self) -> None:
        """The kernel takes not one byte, so it is known that nothing was sent."""
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def hook() -> None:
                sock, _ = listener.accept()
                reset(sock)

            with pytest.raises(NotSent, match=r"reset|broken pipe"):
                post(f"http://127.0.0.1:{listener.getsockname()[1]}/", before_send=hook)

    def test_a_body_over_the_limit_is_not_read_on(self, serve: Any) -> None:
        def script(request: Request) -> None:
            request.send(HEAD + b"Content-Length: 50000000\r\n\r\n")
            for _ in range(50):
                request.send(b" " * 1_000_000)

        wire = serve(script)
        with pytest.raises(OutcomeUnknown, match="too large") as caught:
            post(wire.url, limit=1000)
        assert len(caught.value.partial) == 1001
        until(lambda: wire.closed == 1)

    def test_a_bomb_is_not_unpacked(self, serve: Any) -> None:
        bomb = gzip.compress(b" " * 5_000_000)
        wire = serve(lambda request: request.reply(200, bomb, {"Content-Encoding": "gzip"}))
        with pytest.raises(OutcomeUnknown, match="too large"):
            post(wire.url)

    def test_a_compression_that_is_none(self, serve: Any) -> None:
        wire = serve(lambda request: request.reply(200, b"[1]", {"Content-Encoding": "gzip"}))
        with pytest.raises(OutcomeUnknown):
            post(wire.url)

    @pytest.mark.parametrize(
        "url", ["http://", "ftp://127.0.0.1/", "nonsense", "http://[::1", "http://127.0.0.1:99999/"]
    )
    def test_a_url_that_is_none(self, url: str) -> None:
        with pytest.raises(NotSent):
            post(url)

    def test_a_header_that_is_none(self, serve: Any) -> None:
        wire = serve(ok)
        with pytest.raises(NotSent) as caught:
            call(
                session(),
                "GET",
                wire.url,
                deadline=Deadline(5),
                headers={"Authorization": "Bearer a\r\nX: secret"},
            )
        assert "secret" not in str(caught.value)
        assert wire.received == 0


class TestConnecting:
    @pytest.fixture
    def addresses(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[tuple[str, int]]], None]:
        def patch(places: Sequence[tuple[str, int]]) -> None:
            answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_: answer)

        return patch

    def test_refused(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with pytest.raises(NotSent, match="connection refused"):
            post(f"http://127.0.0.1:{port}/token")

    def test_the_next_address_after_one_that_refuses(self, serve: Any, addresses: Any) -> None:
        wire = serve(ok)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        addresses([("127.0.0.1", port), ("127.0.0.1", wire.port)])
        assert post("http://several.example/token").status == 200

    def test_the_next_address_beside_one_that_says_nothing(self, serve: Any, addresses: Any) -> None:
        wire = serve(ok)
        with black_hole() as place:
            addresses([place, place, ("127.0.0.1", wire.port)])
            start = time.monotonic()
            assert post("http://several.example/token").status == 200
            assert time.monotonic() - start < 2 * transport.STAGGER_SECONDS + SLACK < 5

    def test_localhost_by_name(self, serve: Any) -> None:
        wire = serve(ok)
        assert post(wire.url.replace("127.0.0.1", "localhost")).status == 200

    def test_a_name_that_does_not_exist(self) -> None:
        with pytest.raises(NotSent, match="could not be resolved"):
            post("http://nowhere.invalid/token", 10)

    def test_a_certificate_of_nobody(self, serve: Any, certificate: Any) -> None:
        wire = serve(ok, certificate.server)
        with pytest.raises(NotSent, match="certificate was not accepted"):
            post(wire.url)
        assert wire.requests == []

    def test_a_certificate_of_another_host(
        self, serve: Any, certificate: Any, addresses: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.path))
        wire = serve(ok, certificate.server)
        addresses([("127.0.0.1", wire.port)])
        with pytest.raises(NotSent, match="certificate was not accepted"):
            post(f"https://other.example:{wire.port}/token")

    def test_http_where_tls_was_expected(self, serve: Any) -> None:
        wire = serve(ok)
        with pytest.raises(NotSent):
            post(wire.url.replace("http:", "https:"), 0.3)

    def test_netrc_is_not_asked(self, serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login somebody password something\n")
        monkeypatch.setenv("NETRC", str(netrc))
        wire = serve(ok)
        post(wire.url)
        assert wire.requests[0].header("Authorization") is None

    def test_cookies_are_not_kept(self, serve: Any) -> None:
        wire, one = serve(lambda request: request.reply(200, b"", {"Set-Cookie": "a=b"})), session()
        for _ in range(2):
            call(one, "GET", wire.url, deadline=Deadline(5))
        assert wire.requests[1].header("Cookie") is None


def tunnel(target: Wire) -> Callable[[Request], None]:
    """A proxy's script: answers CONNECT and passes bytes on to `target`."""

    def script(request: Request) -> None:
        if not request.head.startswith(b"CONNECT"):
            request.reply(200, {"via": request.path})
            return
        with socket.create_connection(("127.0.0.1", target.port)) as upstream:
            request.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            pair = [request.sock, upstream]
            while not request.wire.closing.is_set():
                for ready in select.select(pair, [], [], 0.05)[0]:
                    data = ready.recv(65536)
                    if not data:
                        request.sock.close()
                        return
                    pair[1 - pair.index(ready)].sendall(data)

    return script


class TestProxies:
    def test_http_goes_through_the_proxy_of_the_environment(
        self, serve: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy = serve(lambda request: request.reply(200, {"via": request.path}))
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        assert post("http://tesla.example/token").json() == {"via": "http://tesla.example/token"}

    def test_no_proxy(self, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert post(serve(ok).url).status == 200

    def test_https_goes_through_a_tunnel_and_the_tunnel_is_kept(
        self, serve: Any, certificate: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = serve(ok, certificate.server)
        proxy = serve(tunnel(target))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.path))
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        one, hooks = session(), []
        for _ in range(2):
            answer = call(
                one, "POST", target.url, deadline=Deadline(5), data=FORM, before_send=lambda: hooks.append(1)
            )
            assert answer.json() == {"good": True}
        assert (proxy.connections, len(proxy.requests), len(target.requests), len(hooks)) == (1, 1, 2, 2)

    def test_an_https_proxy_and_a_drip_inside_its_tunnel(
        self, serve: Any, certificate: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def script(request: Request) -> None:
            request.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            request.drip(b"\x16\x03\x03\x0f\xff" + b"\x02" * LONG)

        proxy = serve(script, certificate.server)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.path))
        monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{proxy.port}")
        one = session()
        one.verify = str(certificate.path)
        start = time.monotonic()
        with pytest.raises(NotSent):
            call(one, "POST", "https://127.0.0.1:9/", deadline=Deadline(0.4), data=FORM)
        assert time.monotonic() - start < 0.4 + SLACK

    @pytest.mark.parametrize(
        ("script", "words"),
        [
            (lambda request: request.drip(b"HTTP/1.1 200 " + b"O" * LONG), "deadline passed"),
            (lambda request: request.hang(), "deadline passed"),
            (lambda request: request.reply(403, b"no"), "proxy refused"),
        ],
        ids=["drips", "hangs", "refuses"],
    )
    def test_a_bad_proxy(self, serve: Any, monkeypatch: pytest.MonkeyPatch, script: Any, words: str) -> None:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{serve(script).port}")
        start = time.monotonic()
        with pytest.raises(NotSent, match=words):
            post("https://tesla.example/token", 0.35)
        assert time.monotonic() - start < 0.35 + SLACK

    def test_connect_and_tls_draw_on_the_same_seconds(
        self, serve: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def script(request: Request) -> None:
            request.wire.closing.wait(0.6)
            request.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            request.hang()

        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{serve(script).port}")
        start = time.monotonic()
        with pytest.raises(NotSent, match="deadline passed"):
            post("https://tesla.example/token", 0.8)
        assert time.monotonic() - start < 1.1

    def test_socks_is_refused_in_words(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:9")
        with pytest.raises(NotSent, match="SOCKS"):
            post("https://tesla.example/token")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    raw=st.one_of(
        st.binary(max_size=300),
        st.builds(
            lambda head, body: b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + body, st.binary(), st.binary()
        ),
        st.builds(
            lambda coding, body: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + coding + body,
            st.sampled_from([b"5\r\n", b"-1\r\n", b"ffffffffffff\r\n", b"0\r\n", b"1;x=y\r\n"]),
            st.binary(),
        ),
    )
)
def test_whatever_bytes_come_it_is_an_answer_or_an_unknown_outcome(raw: bytes, fuzz_wire: Wire) -> None:
    def script(request: Request) -> None:
        request.send(raw) if raw else None
        request.sock.shutdown(socket.SHUT_WR)
        request.sock.close()

    fuzz_wire.script = script
    with contextlib.suppress(OutcomeUnknown):
        assert isinstance(post(fuzz_wire.url, 5), Answer)


@pytest.fixture(scope="module")
def fuzz_wire() -> Any:
    with Wire(ok) as wire:
        yield wire


class TestWhereItMayGo:
    def test_the_address_is_asked_for_between_its_name_and_the_call(self, serve: Any) -> None:
        wire = serve(ok)
        asked: list[str] = []

        def admits(address: str) -> bool:
            asked.append(address)
            return address == "127.0.0.1"

        url = f"http://localhost:{wire.port}/"
        assert call(session(admits=admits), "GET", url, deadline=Deadline(5)).status == 200
        assert "127.0.0.1" in asked

    def test_what_is_not_admitted_is_not_called(self, serve: Any) -> None:
        wire = serve(ok)
        for host in ("localhost", "127.0.0.1"):
            with pytest.raises(NotSent, match="may be called"):
                call(
                    session(admits=lambda _: False),
                    "GET",
                    f"http://{host}:{wire.port}/",
                    deadline=Deadline(5),
                )
        assert wire.connections == 0

    def test_there_is_no_proxy_whose_address_would_be_judged_instead(
        self, serve: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wire, proxy = serve(ok), serve(ok)
        monkeypatch.setenv("http_proxy", proxy.url)
        call(session(admits=lambda _: True), "GET", wire.url, deadline=Deadline(5))
        assert (wire.connections, proxy.connections) == (1, 0)
