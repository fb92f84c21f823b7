"""A receiver of webhooks as a process of its own: ``python receiver.py PORT FILE MODE``.

It writes each message that comes to FILE, one a line, before it answers. MODE is ``take`` (204) or ``hang``
(no answer).
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with open(sys.argv[2], "a") as file:  # noqa: PTH123 - appended in one write
            file.write(json.dumps({"headers": dict(self.headers.items()), "body": body}) + "\n")
        if sys.argv[3] == "hang":
            threading.Event().wait()
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


class Receiver:
    """The process, and what it has received, also before it was killed."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/hooks"
        self._file = folder / "received.jsonl"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, mode: str = "take") -> None:
        command = [sys.executable, __file__, str(self.port), str(self._file), mode]
        self._process = subprocess.Popen(command)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)
            self._process = None

    def received(self) -> list[dict[str, Any]]:
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        return [json.loads(line) for line in lines]

    def ids(self) -> set[str]:
        return {
            value
            for message in self.received()
            for name, value in message["headers"].items()
            if name.lower() == "webhook-id"
        }


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
