"""One Evergrant per state folder: an exclusive lock that every process of a run holds open.

The lock belongs to an open file, which all processes of a run inherit. So it is free only when the last of
them has ended, also after the manager alone was killed: no process of an earlier run can still write to the
embedded Valkey's files, or hold a port, once the lock was taken.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import time
from pathlib import Path

from evergrant.refusal import RefusalError

PATIENCE = 12.0
"""How long processes of a run whose manager is gone may take to end by themselves, s."""


def claim(home: Path, *, patience: float = PATIENCE) -> int:
    """Take the lock of `home` for this process and return its file descriptor, which stays open over exec.

    Raises `RefusalError` when Evergrant runs in `home`. Where only leftovers of a killed manager still
    hold it, waits `patience` seconds for them to end and then kills them.
    """
    path = home / "up.lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience
    told = killed = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            break
        manager = _written(path)
        holders = _holders(path)
        if holders is None or manager in holders:
            os.close(lock)
            raise RefusalError(
                f"Evergrant already runs here, process {manager}. Stop it with `kill {manager}`, "
                "or set EVERGRANT_HOME to another folder (and its ports) to run a second one."
            )
        if holders and not told:
            told = True
            count = "a process" if len(holders) == 1 else f"{len(holders)} processes"
            _say(f"Waiting for {count} of an earlier run to end.")
        if time.monotonic() > deadline:
            if killed:
                raise RefusalError(f"Processes of an earlier run do not end: {', '.join(map(str, holders))}.")
            killed, deadline = True, time.monotonic() + 5
            # They hold this very lock, so they are ours.
            for process in holders:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        time.sleep(0.05)
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    os.set_inheritable(lock, True)
    return lock


def _written(path: Path) -> int:
    try:
        return int(path.read_text())
    except ValueError:  # taken a moment ago and not yet written
        return 0


def _holders(path: Path) -> list[int] | None:
    """The processes with the locked file open, as far as this user can see; None where /proc doesn't tell.

    Others may have the file open without the lock (a second `up` that waits): only the descriptors that
    the lock belongs to have a ``lock:`` line in fdinfo (man 5 proc).
    """
    if not Path("/proc/self/fdinfo").is_dir():
        return None
    name = str(path.resolve())
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(descriptor.readlink()) == name:
                        info = (process / "fdinfo" / descriptor.name).read_text()
                        if "\nlock:" in info:
                            found.append(int(process.name))
                            break
    return found


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)  # noqa: T201 - this is the command line speaking
