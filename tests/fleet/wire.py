"""A small real HTTP server on loopback whose answers are scripted byte by byte."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping


@dataclass
class Request:
    """One request as it came, and the means to answer it."""

    head: bytes
    body: bytes
    sock: socket.socket
    wire: Wire

    @property
    def form(self) -> dict[str, str]:
        return {
            name: values[0] for name, values in parse_qs(self.body.decode(), keep_blank_values=True).items()
        }

    @property
    def path(self) -> str:
        return self.head.split(b" ")[1].decode()

    def header(self, name: str) -> str | None:
        found = re.search(rb"(?im)^" + name.encode() + rb":[ \t]*(.*?)\r$", self.head)
        return found[1].decode() if found else None

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def drip(self, data: bytes, seconds: float = 0.03) -> None:
        """One byte at a time, until the client goes away or the server is closed."""
        for byte in data:
            self.sock.sendall(bytes([byte]))
            if self.wire.closing.wait(seconds):
                return

    def reset(self) -> None:
        reset(self.sock)

    def hang(self) -> None:
        """Says nothing until the client goes away or the server is closed."""
        self.sock.settimeout(0.02)
        while not self.wire.closing.is_set():
            try:
                if not self.sock.recv(65536):
                    return
            except TimeoutError:
                continue

    def reply(
        self, status: int = 200, body: bytes | object = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        lines = [f"HTTP/1.1 {status} Word", f"Content-Length: {len(content)}", f"Content-Type: {kind}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + content)


@dataclass
class Wire:
    """Runs `script` for each request, in a thread for each connection. The script may close the socket."""

    script: Callable[[Request], None]
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    received: int = 0
    closed: int = 0
    closing: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in list(self._threads):
            thread.join(5)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/token"

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(0.05)
            if self.tls is not None:
                sock.settimeout(5)
                sock = self.tls.wrap_socket(sock, server_side=True)
                sock.settimeout(0.05)
            while request := self._read(sock):
                self.requests.append(request)
                sock.settimeout(5)
                self.script(request)
                sock.settimeout(0.05)
        except (OSError, ValueError):
            pass
        finally:
            sock.close()
            self.closed += 1

    def _read(self, sock: socket.socket) -> Request | None:
        data = b""
        length = 0
        while b"\r\n\r\n" not in data or len(data) < data.index(b"\r\n\r\n") + 4 + length:
            try:
                piece = sock.recv(65536)
            except TimeoutError:
                if self.closing.is_set():
                    return None
                continue
            if not piece:
                return None
            self.received += len(piece)
            data += piece
            if found := re.search(rb"(?i)\r\ncontent-length: *(\d+)", data):
                length = int(found[1])
        head, _, body = data.partition(b"\r\n\r\n")
        return Request(head + b"\r\n", body, sock, self)


def reset(sock: socket.socket) -> None:
    """Closes with a RST instead of a FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    sock.close()


def until(condition: Callable[[], Any], seconds: float = 5) -> Any:
    """Waits for `condition` to be truthy; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.005)
    return value


@contextlib.contextmanager
def black_hole() -> Iterator[tuple[str, int]]:
    """An address that completes no connection: a listener whose backlog is full."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    address = listener.getsockname()
    fillers = []
    try:
        for _ in range(8):
            filler = socket.socket()
            filler.settimeout(0.1)
            fillers.append(filler)
            try:
                filler.connect(address)
            except TimeoutError:
                break
        else:
            raise AssertionError("the backlog never filled")
        yield address
    finally:
        for filler in fillers:
            filler.close()
        listener.close()
