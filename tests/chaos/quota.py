"""The disk quota of an escrow's folder, which can be used up."""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_BALLAST = ".ballast"
SIZE = 4 << 20


class Quota:
    """As root a file system of `SIZE` bytes of the folder's own, which is full when it is. Elsewhere the
    folder is closed to its owner, which has the same effect on who writes there."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._libc = ctypes.CDLL(None, use_errno=True)
        options = f"size={SIZE},mode=700".encode()
        self.mounted = (
            os.geteuid() == 0 and self._libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, options) == 0
        )

    def fill(self) -> None:
        """From now on nothing can be written."""
        if not self.mounted:
            self._folder.chmod(0o500)
            return
        ballast = os.open(self._folder / _BALLAST, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            with contextlib.suppress(OSError):
                while True:
                    os.write(ballast, bytes(4096))
        finally:
            os.close(ballast)

    def free(self) -> None:
        self._folder.chmod(0o700)
        (self._folder / _BALLAST).unlink(missing_ok=True)

    def close(self) -> None:
        """Unmounts. All who use it have ended."""
        if self.mounted:
            self._libc.umount2(bytes(self._folder), 2)  # MNT_DETACH, linux/fs.h
            self.mounted = False
