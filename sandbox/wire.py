"""What can't be said through WSGI: resets, cut connections, dripped bytes, a client that has hung up."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LINGER_ZERO = struct.pack("ii", 1, 0)


class Wire:
    """The client's socket, under the server's feet. gunicorn and werkzeug both lend it to the application."""

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self._socket: socket.socket | None = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")

    def gone(self) -> bool:
        """True when the client has hung up. Without a socket (Flask's test client) it never has."""
        if self._socket is None:
            return False
        try:
            poller = select.poll()
            poller.register(self._socket, select.POLLIN)
            if not poller.poll(0):
                return False
            return self._socket.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except (OSError, ValueError):
            return True

    def reset(self) -> None:
        """Ends the connection with a TCP RST."""
        if self._socket is None:
            return
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        # A socket that lingers for no time is reset when its last descriptor closes. The server still
        # means to write to this one and to close it, so it gets a dead socket in its place.
        ours, theirs = socket.socketpair()
        os.dup2(ours.fileno(), self._socket.fileno())
        ours.close()
        theirs.close()

    def close(self) -> None:
        """Ends the connection here and now, with or without an answer on it."""
        if self._socket is None:
            return
        with contextlib.suppress(OSError):  # the client was first
            self._socket.shutdown(socket.SHUT_RDWR)

    def send(self, data: bytes) -> bool:
        """Sends at once; False when the client has hung up."""
        if self._socket is None:
            return False
        try:
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def drip(self, data: bytes, seconds: float, before_last: Callable[[], None]) -> bool:
        """Sends a byte at a time, evenly over `seconds`; `before_last` is called ahead of the last byte.

        False when the client hung up before it had everything."""
        pause = seconds / max(len(data) - 1, 1)
        start = time.monotonic()
        for position in range(len(data)):
            if position == len(data) - 1:
                before_last()
            if self.gone() or not self.send(data[position : position + 1]):
                return False
            # Against the start, so that many short sleeps do not add up to a longer drip.
            time.sleep(max(0.0, start + (position + 1) * pause - time.monotonic()))
        return True
