"""supervisord as `make up` needs it: ``python -m evergrant.manager CONFIGURATION LOCK``.

It is supervisor's own loop, with what its configuration can't express: its programs end when it is killed,
hold the claim on the state folder, come back after a wait that stays small, and it acts on signals at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from supervisor import supervisord
from supervisor.medusa.asyncore_25 import ExitNow
from supervisor.options import ServerOptions
from supervisor.states import ProcessStates, SupervisorStates

from evergrant import console
from evergrant.deathsig import end_with_parent

LONGEST_WAIT = 5
"""The most seconds between two starts of a program that dies at once; supervisor's own wait only grows."""


class Options(ServerOptions):  # type: ignore[misc]
    """What happens in a program's process between fork and exec."""

    def __init__(self, lock: int) -> None:
        super().__init__()
        self._manager = os.getpid()
        self._lock = lock
        self._terminal = os.dup(1)

    def setpgrp(self) -> None:
        super().setpgrp()
        end_with_parent(signal.SIGTERM, parent=self._manager)

    def close_fd(self, fd: int) -> None:
        # Every program holds the lock, so that it is free only when all have ended.
        if fd not in {self._lock, self._terminal}:
            super().close_fd(fd)

    def execve(self, filename: str, argv: list[str], env: dict[str, str]) -> None:
        if env.get("SUPERVISOR_PROCESS_NAME") == console.PROGRAM:
            # The one that writes to the terminal; its last argument is the terminal's descriptor.
            os.set_inheritable(self._terminal, True)
            argv = [*argv, str(self._terminal)]
        super().execve(filename, argv, env)


class _Wakeup:
    """The end of a pipe, in supervisor's poll loop, that signals (and we) write to.

    Python resumes a poll that a signal interrupts, so without this the loop would look at signals only
    once a second, and start its first program a second late.
    """

    def __init__(self) -> None:
        self.fd, self._end = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._end, False)
        signal.set_wakeup_fd(self._end, warn_on_full_buffer=False)

    def now(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._end, b"\0")

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 4096)

    def handle_error(self) -> None:
        """supervisor asks for it; there is nothing to close."""


class Manager(supervisord.Supervisor):  # type: ignore[misc]
    """Supervisor's loop, prompt."""

    def __init__(self, options: Options, *, parent: int) -> None:
        super().__init__(options)
        self._wakeup = _Wakeup()
        self._parent = parent
        self._by_make = _name(parent) in {"make", "gmake"}
        self._watch_interrupt = self._by_make and not _lost_interrupt(parent)
        options.get_socket_map()[self._wakeup.fd] = self._wakeup
        self._wakeup.now()

    def reap(self, once: bool = False, recursionguard: int = 0) -> None:
        before = len(self.options.pidhistory)
        super().reap(once, recursionguard)
        if len(self.options.pidhistory) != before:
            self._wakeup.now()  # what ended is started again, or the next group stopped, in the next round

    def tick(self, now: float | None = None) -> None:
        super().tick(now)
        latest = time.time() + LONGEST_WAIT
        for group in self.process_groups.values():
            for process in group.processes.values():
                if process.get_state() == ProcessStates.BACKOFF and process.backoff > LONGEST_WAIT:
                    process.backoff, process.delay = LONGEST_WAIT, min(process.delay, latest)
        if self._by_make and os.getppid() != self._parent:
            self._stop("make is gone")
        elif self._watch_interrupt and _lost_interrupt(self._parent):
            self._stop("make was interrupted")

    def handle_signal(self) -> None:
        signum = self.options.get_signal()
        if signum in {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP}:
            # A hang-up is the terminal closing. To supervisor it would mean to restart everything.
            self._stop(f"received {signal.Signals(signum).name}")

    def _stop(self, why: str) -> None:
        if self.options.mood > SupervisorStates.SHUTDOWN:
            self.options.logger.info(f"stopping: {why}")
            self.options.mood = SupervisorStates.SHUTDOWN
            self._wakeup.now()


def _name(process: int) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return ""


def _lost_interrupt(make: int) -> bool:
    """Whether `make` has no handler for SIGINT (any more).

    GNU make does not hand on a SIGINT that was sent to it alone. It takes its handler away and waits for its
    children: its set of caught signals (``SigCgt`` in /proc, man 5 proc) lacks SIGINT from then on. Ctrl-C in
    a terminal reaches us directly.
    """
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{make}/status").read_text().splitlines():
            name, _, mask = line.partition(":")
            if name == "SigCgt":
                return not int(mask, 16) & 1 << (signal.SIGINT - 1)
    return False


def main() -> None:
    """Run until a signal; returns when every program has ended."""
    configuration, lock = sys.argv[1], int(sys.argv[2])
    parent = os.getppid()
    options: Any = Options(lock)
    options.realize(["--nodaemon", "--configuration", configuration], doc=supervisord.__doc__)
    options.first, options.test = True, False
    with contextlib.suppress(ExitNow):
        Manager(options, parent=parent).main()
    options.close_httpservers()
    options.close_logger()


if __name__ == "__main__":
    main()
