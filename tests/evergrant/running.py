"""A whole Evergrant of its own: `up` as the processes it is, on free ports and in a folder of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from settings import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

START_SECONDS = 40


def free_ports(count: int) -> list[int]:
    """So many ports that nobody listens on; held together, so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [taken.getsockname()[1] for taken in sockets]


def wait_until(true: Callable[[], bool], *, seconds: float, what: str) -> float:
    """Wait for a condition and return how long it took, s."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - began


def status_of(url: str, headers: dict[str, str] | None = None) -> int:
    """The status that `url` answers with, 0 where nothing answers."""
    try:
        request = urllib.request.Request(url, headers=headers or {})  # noqa: S310 - always our own http
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


class Running:
    """One `up`, and what a person at its terminal could see and do."""

    def __init__(self, home: Path, *, command: Sequence[str] = (), **settings: str) -> None:
        self.home = home
        self.web_port, self.flower_port, self.sandbox_port = free_ports(3)
        self.web = f"http://127.0.0.1:{self.web_port}"
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TESLA_", "MAKE", "MFLAGS"))
        } | {
            # A developer's own .env must not decide; an empty value is as good as none.
            "DATABASE_URL": "",
            "REDIS_URL": "",
            "PUBLIC_URL": "",
            "TESLA_CLIENT_ID": "",
            "TESLA_CLIENT_SECRET": "",
            "OPERATOR_PASSWORD": "",
            "BIND": "",
            "SWEEP_SECONDS": "1",  # ready sooner
            "EVERGRANT_HOME": str(home),
            "WEB_PORT": str(self.web_port),
            "FLOWER_PORT": str(self.flower_port),
            "SANDBOX_PORT": str(self.sandbox_port),
            **settings,
        }
        self.command = list(command) or [sys.executable, "-m", "evergrant", "up"]
        self.output = home.with_name(home.name + ".output")
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start it (again); what it prints is added to `output`."""
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # Tests that were started in the background ignore the interrupt, and so would all they start.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.process

    @property
    def printed(self) -> str:
        return self.output.read_text()

    def wait_for_page(self) -> float:
        """Until the sign-in page answers; how long that took, s."""
        return wait_until(self._answers, seconds=START_SECONDS, what=f"the sign-in page. {self.output}")

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.printed
        return status_of(f"{self.web}/") == 200

    def wait_for_banner(self) -> None:
        wait_until(
            lambda: "Evergrant is up." in self.printed, seconds=START_SECONDS, what=f"banner. {self.output}"
        )

    @property
    def manager(self) -> int:
        return int((self.home / "up.lock").read_text())

    def members(self) -> dict[int, str]:
        """Process id to command line of each process that belongs to this run, by the lock that they hold."""
        return dict(_holding(self.home / "up.lock"))

    def find(self, part: str) -> int:
        """The first process whose command line contains `part`; 0 when there is none."""
        return min((pid for pid, command in self.members().items() if part in command), default=0)

    def all_ended(self) -> bool:
        """Whether no process of this run is left: the lock that they all hold is free."""
        with (self.home / "up.lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def end(self) -> None:
        """Leave nothing behind, whatever the test did."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
        for pid in self.members():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _holding(lock: Path) -> Iterator[tuple[int, str]]:
    from pathlib import Path as Folder

    for process in Folder("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                if descriptor.readlink() == lock and re.search(
                    r"^lock:", (process / "fdinfo" / descriptor.name).read_text(), re.MULTILINE
                ):
                    yield (
                        int(process.name),
                        (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"),
                    )
                    break
