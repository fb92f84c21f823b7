"""Machines whose clocks can be set wrong while their processes run, by a library preloaded into them."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")


class Clock:
    """One machine's clock; None of `build` where there is no C compiler."""

    def __init__(self, library: Path, file: Path) -> None:
        self._library = library
        self._file = file
        self.offset = 0.0
        file.write_bytes(struct.pack("d", 0.0))

    @classmethod
    def build(cls, folder: Path, name: str) -> Clock | None:
        """Compiles the library into `folder`, once."""
        library = folder / "clock.so"
        if not library.exists():
            compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
            if compiler is None:
                return None
            words = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl", "-lm"]
            if subprocess.run(words, capture_output=True, check=False).returncode:
                return None
        return cls(library, folder / f"clock.{name}")

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "CHAOS_CLOCK": str(self._file)}

    def jump(self, offset: float) -> None:
        """From now on this machine's clock is `offset` seconds ahead of the true one."""
        self.offset = offset
        with self._file.open("r+b") as file, mmap.mmap(file.fileno(), 8) as view:
            view[:] = struct.pack("d", offset)
