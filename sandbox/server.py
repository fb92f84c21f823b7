"""gunicorn around the sandbox: one worker with threads, because overlaps are noticed in its memory."""

from __future__ import annotations

import errno
import socket
import time
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication

if TYPE_CHECKING:
    from flask import Flask

    from sandbox.config import Config

OPTIONS: dict[str, Any] = {
    "worker_class": "gthread",
    "workers": 1,
    "worker_connections": 2000,
    # Longer than a client lets a connection idle, so that it is never the sandbox that hangs up first.
    "keepalive": 75,
    # A call that hangs on purpose must not hold up the end.
    "graceful_timeout": 1,
    # A sandbox that was stopped for a while and woken up is not to be replaced.
    "timeout": 0,
    "loglevel": "warning",
    "control_socket_disable": True,
}


class PortTakenError(Exception):
    """Somebody else listens there."""


def listen(bind: str, port: int, patience: float = 3) -> socket.socket:
    """A listening TCP socket; port 0 picks a free one. Raises `PortTakenError` when the port stays taken for
    `patience` seconds: a killed sandbox's worker needs a moment to notice."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    deadline = time.monotonic() + patience
    while True:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((bind, port))
            listener.listen(1024)
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                if error.errno == errno.EADDRINUSE:
                    raise PortTakenError(f"Port {port} on {bind} is taken by another program.") from None
                raise
            time.sleep(0.1)
        else:
            return listener


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """Serves `config` on a socket that listens already, until SIGTERM or SIGINT."""

    def __init__(self, config: Config, listener: socket.socket, threads: int) -> None:
        self._config = config
        # gunicorn takes the descriptor over and closes it itself.
        self._options = {**OPTIONS, "bind": f"fd://{listener.detach()}", "threads": threads}
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        # Here and not above: gunicorn's parent process never needs Flask, and SQLite must not cross a fork.
        from sandbox.app import create_app

        return create_app(self._config)
