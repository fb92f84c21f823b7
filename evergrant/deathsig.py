"""A process that ends when its parent does, even when the parent was killed outright."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

# Loaded once, in the parent: a child between fork and exec does as little as it can.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def end_with_parent(signum: signal.Signals = signal.SIGTERM, *, parent: int | None = None) -> None:
    """Have the kernel send `signum` to this process when its parent dies; it outlives an exec.

    `parent` is the process id that the parent had when it forked: a parent that died before this call
    sends nothing, so its absence is looked for. Does nothing where the kernel isn't Linux.
    """
    if _libc is None:
        return
    _libc.prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signum)
