"""The embedded Valkey of a storm."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from typing import TYPE_CHECKING, Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from evergrant.valkey import configuration, find_server
from tests.chaos.processes import Child

if TYPE_CHECKING:
    from pathlib import Path


class Valkey:
    """Its data is in `folder`, set up as `make up` does it."""

    def __init__(self, folder: Path, log: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._socket = folder / "valkey.sock"
        config = folder.parent / "valkey.conf"
        config.write_text(configuration(socket=self._socket, folder=folder))
        self.process = Child("valkey", [str(find_server(folder.parent)), str(config)], os.environ, log)
        self.client: Redis = Redis.from_url(
            self.url, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0)
        )

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisError:
            return False

    def kill(self) -> None:
        """SIGKILL; it stays down until it is started again."""
        self.process.wanted = False
        self.process.send(signal.SIGKILL)

    def start(self, *, without_data: bool = False) -> None:
        if without_data:
            for path in self.folder.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif not path.is_socket():
                    path.unlink()
        self.process.start()

    def flush(self) -> bool:
        """FLUSHALL; False when nobody answers."""
        try:
            return bool(self.client.flushall())
        except RedisError:
            return False

    def everything(self) -> list[bytes]:
        """All that it holds: keys and values as bytes."""
        found: list[bytes] = []
        client: Any = self.client
        for key in client.scan_iter(count=1000):
            with contextlib.suppress(RedisError):
                found += [key, *_values(client, key)]
        return found


def _values(client: Any, key: bytes) -> list[bytes]:
    match client.type(key):
        case b"string":
            return [client.get(key) or b""]
        case b"list":
            return list(client.lrange(key, 0, -1))
        case b"set":
            return list(client.smembers(key))
        case b"zset":
            return list(client.zrange(key, 0, -1))
        case b"hash":
            return [part for pair in client.hgetall(key).items() for part in pair]
    return [client.dump(key) or b""]
