"""REDIS_URL in all its spellings, for the hints and for Celery; with real TLS and real Sentinels."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
import subprocess
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection
from redis import Redis
from redis.exceptions import RedisError

from evergrant.valkey import find_server
from tests.fleet.conftest import certificate  # noqa: F401 - a fixture
from workers.redis_url import broker, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.fleet.conftest import Certificate


@pytest.mark.parametrize(
    ("url", "celery"),
    [
        ("redis://:pw@host:6380/2", {"broker_url": "redis://:pw@host:6380/2"}),
        ("unix:///run/valkey.sock?db=1", {"broker_url": "redis+socket:///run/valkey.sock?virtual_host=1"}),
        (
            "rediss://host/0?ssl_cert_reqs=none&ssl_check_hostname=false",
            {
                "broker_url": "rediss://host/0",
                "broker_use_ssl": {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_check_hostname": False},
            },
        ),
        (
            "sentinel://:pw@one:26380,two/main?db=3&sentinel_password=s",
            {
                "broker_url": "sentinel://:pw@one:26380/3;sentinel://:pw@two:26379/3",
                "broker_transport_options": {"master_name": "main", "sentinel_kwargs": {"password": "s"}},
            },
        ),
    ],
)
def test_as_celery_spells_it(url: str, celery: dict[str, Any]) -> None:
    assert broker(url) == celery


class Servers:
    """Valkey's server, in each of its roles."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = find_server(folder)
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str, config: str = "", server: str | None = None) -> subprocess.Popen[bytes]:
        file = self.folder / f"{len(self.running)}.conf"
        file.write_text(config)
        process = subprocess.Popen(
            [server or str(self.server), str(file), "--dir", str(self.folder), "--save", "", *words],
            stdout=subprocess.DEVNULL,
        )
        self.running.append(process)
        return process

    def stop(self) -> None:
        for process in self.running:
            process.send_signal(signal.SIGKILL)
            process.wait(10)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    servers = Servers(tmp_path)
    yield servers
    servers.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(true: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            if true():
                return
        except (RedisError, OSError) as error:
            last: Exception | str = error
        else:
            last = "not yet"
        assert time.monotonic() < end, last
        time.sleep(0.05)


def sends_and_receives(url: str) -> bool:
    """Whether a message of Celery's way through."""
    where = broker(url)
    with closing(
        Connection(
            where["broker_url"],
            ssl=where.get("broker_use_ssl"),
            transport_options=where.get("broker_transport_options", {}),
        )
    ) as connection:
        queue = connection.SimpleQueue("tried")
        queue.put({"to": "all"})
        message = queue.get(timeout=10)
        message.ack()
        return bool(message.payload == {"to": "all"})


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="Debian: apt install redis-server")
def test_over_tls(servers: Servers, certificate: Certificate) -> None:  # noqa: F811
    port = free_port()
    pem = certificate.path
    key = pem.with_name("key.pem")
    words = ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"]
    words += ["--tls-cert-file", str(pem), "--tls-key-file", str(key), "--tls-ca-cert-file", str(pem)]
    servers.start(*words, server=shutil.which("redis-server"))
    url = f"rediss://localhost:{port}/0?ssl_ca_certs={pem}"
    client = connect(url, socket_timeout=5)
    until(client.ping)
    assert sends_and_receives(url)
    with pytest.raises(RedisError, match="certificate verify failed"):
        connect(f"rediss://localhost:{port}/0").ping()


def test_behind_sentinels_through_a_failover(servers: Servers) -> None:
    master, replica, sentinel = free_port(), free_port(), free_port()
    first = servers.start("--port", str(master), "--bind", "127.0.0.1")
    until(lambda: Redis(port=master).ping())
    servers.start("--port", str(replica), "--bind", "127.0.0.1", "--replicaof", "127.0.0.1", str(master))
    until(lambda: Redis(port=replica).info()["master_link_status"] == "up")
    servers.start(
        "--sentinel",
        config=f"port {sentinel}\nsentinel monitor main 127.0.0.1 {master} 1\n"
        "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n",
    )
    url = f"sentinel://127.0.0.1:{sentinel}/main"
    client = connect(url, socket_timeout=5)
    until(lambda: client.set("told", "here"))
    assert sends_and_receives(url)
    until(lambda: Redis(port=sentinel).info()["master0"]["slaves"] == 1)
    first.kill()
    until(lambda: client.set("told", "there"))
    assert Redis(port=replica).get("told") == b"there"
    assert sends_and_receives(url)
