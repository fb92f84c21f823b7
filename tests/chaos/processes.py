"""Child processes that are started, killed, stopped and woken up, and that never outlive this one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from evergrant.deathsig import end_with_parent
from settings import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Child:
    """One process of the storm. Only the main thread may start it: it dies with the thread that did."""

    def __init__(
        self,
        name: str,
        command: list[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        folder: Path = ROOT,
        user: str | None = None,
        wait_before: float = 0.2,
    ) -> None:
        self.name = name
        self.lives: list[tuple[float, int]] = []  # monotonic time and process id of each start
        self.deaths: dict[int, float] = {}  # process id to the monotonic time at which its end was noticed
        self.wanted = False  # started again when it ends by itself
        self.stopped_since: float | None = None
        self._command = command
        self._environment = dict(environment)
        self._log = log
        self._folder = folder
        self._user = user
        self._wait_before = wait_before
        self._not_before = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Starts it, and wants it to run from now on."""
        self.wanted = True
        if self.alive:
            return
        parent = os.getpid()

        def prepare() -> None:
            end_with_parent(signal.SIGKILL, parent=parent)

        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                user=self._user,
                group="nogroup" if self._user == "nobody" else None,
                extra_groups=[] if self._user else None,
                preexec_fn=prepare,
                start_new_session=True,  # a Ctrl-C is for the harness, which ends them in order
            )
        self.stopped_since = None
        self.lives.append((time.monotonic(), self._process.pid))

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def tend(self) -> bool:
        """Starts it again when it has ended although it is wanted; True when its end was noticed now."""
        if self._process is None or self.alive:
            return False
        now = time.monotonic()
        noticed = self._process.pid not in self.deaths
        if noticed:
            self.deaths[self._process.pid] = now
            self._not_before = now + self._wait_before
        if self.wanted and now >= self._not_before:
            self.start()
        return noticed

    def send(self, signum: signal.Signals) -> bool:
        """False when there is no such process any more."""
        if self._process is None or self._process.poll() is not None:
            return False
        self._process.send_signal(signum)
        return True

    @property
    def is_stopped(self) -> bool:
        """Whether SIGSTOP has stopped it."""
        try:
            status = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return status.rpartition(")")[2].split()[0] == "T"

    def end(self, signum: signal.Signals = signal.SIGTERM, seconds: float = 8) -> None:
        """Ends it for good: asks first, and kills it when that does not help."""
        self.wanted = False
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signum)
            self._process.send_signal(signal.SIGCONT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        # What it left behind in its session, like gunicorn's worker of a killed master.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self.deaths.setdefault(self._process.pid, time.monotonic())


def wait_for(what: str, holds: Callable[[], bool], seconds: float, tend: Callable[[], object] = bool) -> None:
    """Waits until it holds; `tend` is called meanwhile. Raises TimeoutError, which says what did not."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        tend()
        time.sleep(0.05)
