"""Whether a port is free, and if not, who has it."""

from __future__ import annotations

import contextlib
import errno
import socket
from pathlib import Path

from evergrant.refusal import RefusalError


def require_free(*, bind: str, port: int, setting: str, purpose: str) -> None:
    """Raise `RefusalError` unless `port` can be listened on; it names `setting`, which would move it."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            bind, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the servers themselves do: a connection that lingers in TIME_WAIT does not make it busy.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            # Linux lets two sockets with SO_REUSEADDR bind as long as neither listens.
            probe.listen(1)
    except socket.gaierror:
        raise RefusalError(f"BIND={bind} is not an address of this machine.") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            who = _holder(port)
            raise RefusalError(
                f"Port {port}, for {purpose}, is taken{f' by {who}' if who else ''}. "
                f"Free it, or set {setting} to another port."
            ) from None
        if error.errno == errno.EACCES:
            raise RefusalError(
                f"Port {port}, for {purpose}, needs more rights than this user has. "
                f"Set {setting} to a port above 1023."
            ) from None
        raise RefusalError(f"BIND={bind} can't be listened on: {error.strerror}.") from None


def _holder(port: int) -> str:
    """Who listens on `port`, as ``name (process 123)``; empty where /proc does not say."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                # local address:port, state 0A = listening, inode (man 5 proc).
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return ""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(descriptor.readlink()) in inodes:
                        return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    return ""
