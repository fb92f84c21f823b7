"""The product under the storm: machines with workers and beats, the web app, and what they lean on."""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from models.migrate import upgrade
from models.session import Database
from settings import ROOT
from tests.chaos.clock import Clock
from tests.chaos.listener import FOLDER, NAME
from tests.chaos.orders import Orders
from tests.chaos.postgresql import PostgreSQL
from tests.chaos.processes import Child, wait_for
from tests.chaos.quota import Quota
from tests.chaos.sqlite import SQLite
from tests.chaos.valkey import Valkey

if TYPE_CHECKING:
    from types import TracebackType

CLIENT_ID, CLIENT_SECRET = "evergrant-sandbox", "sandbox-secret"
ATTEMPT_DEADLINE = 3.0
SWEEP_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Options:
    database: str  # "sqlite" or "postgresql"
    token_seconds: int = 20
    strict: bool = False
    seed: int = 0
    refresh_rate: float = 50
    workers: int = 3
    attempt_deadline: float = ATTEMPT_DEADLINE
    clocks: bool = False  # whether the machines' clocks can be set wrong


@dataclass(kw_only=True)
class Machine:
    """A machine has a state folder and a clock of its own; the keys and the servers are shared."""

    name: str
    home: Path
    clock: Clock | None
    quota: Quota
    workers: list[Child]
    beat: Child


class Product:
    """Real processes in a new temporary folder, ended and removed when the block ends.

    PostgreSQL: two machines, of which the first runs the web app. SQLite, which is a file: one.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        self.code = _copy(self.folder / "code")
        self.logs = self.folder / "log"
        self.logs.mkdir()
        self.keys = "k1:" + base64.b64encode(secrets.token_bytes(32)).decode()
        self.orders = Orders(self.folder / "orders")
        self.ports = dict(zip(("web", "sandbox"), _free_ports(2), strict=True))
        self.valkey = Valkey(self.folder / "valkey", self.logs / "valkey.log")
        self.postgresql: PostgreSQL | None = None
        self.sqlite: SQLite | None = None
        if options.database == "postgresql":
            self.postgresql = PostgreSQL(self.folder / "pg", self.logs / "postgresql.log")
            self.url = self.postgresql.url
        else:
            self.sqlite = SQLite(self.folder / "evergrant.db")
            self.url = self.sqlite.url
        self.database = Database(self.url, pool_size=2)
        self.sandbox = self._sandbox()
        self.machines = self._machines()
        self.web = self._web(self.machines[0])

    # --- what there is ----------------------------------------------------------------------------

    @property
    def workers(self) -> list[Child]:
        return [worker for machine in self.machines for worker in machine.workers]

    @property
    def beats(self) -> list[Child]:
        return [machine.beat for machine in self.machines] + self._spare_beats

    @property
    def children(self) -> list[Child]:
        servers = [self.valkey.process, self.sandbox]
        if self.postgresql:
            servers.append(self.postgresql.process)
        return [*self.workers, *self.beats, self.web, *servers]

    @property
    def web_url(self) -> str:
        return f"http://localhost:{self.ports['web']}"

    @property
    def sandbox_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['sandbox']}"

    @property
    def clock_offset(self) -> float:
        """How far the token table's clock is ahead of the true one, in seconds: a server's is not, a file's
        is that of the processes which write into it."""
        clock = self.machines[0].clock
        return clock.offset if self.sqlite and clock else 0.0

    @property
    def web_is_behind(self) -> bool:
        """Whether the web app's clock is: then no id token is valid yet, and nobody can sign in."""
        clock = self.machines[0].clock
        return clock is not None and clock.offset < -60

    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = requests.get(f"{self.sandbox_url}/record.json", timeout=10).json()
        return found

    def fault(self, **rule: Any) -> int:
        """Switches a fault of the sandbox's on and returns the rule's number."""
        answer = requests.post(f"{self.sandbox_url}/faults", json=rule, timeout=10)
        assert answer.status_code == 201, answer.text
        number: int = answer.json()["id"]
        return number

    def tesla_side(self, owner: str) -> tuple[str | None, str | None]:
        """By the sandbox's own books: the hash of the refresh token that was issued to the owner last, and of
        the one that was presented last."""
        path = self.folder / "sandbox" / "sandbox.db"
        query = (
            "SELECT"
            " (SELECT hex(hash) FROM refresh_tokens WHERE family = id AND generation = newest_generation),"
            " (SELECT hex(hash) FROM refresh_tokens WHERE family = id AND generation = used_generation)"
            " FROM families JOIN owners ON family = id WHERE sub = ?"
        )
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
        try:
            newest, used = connection.execute(query, (owner,)).fetchone() or (None, None)
        finally:
            connection.close()
        return newest and newest.lower(), used and used.lower()

    def clear_faults(self) -> None:
        requests.delete(f"{self.sandbox_url}/faults", timeout=10)

    def environment(self, machine: Machine | None = None, name: str = "") -> dict[str, str]:
        """What a process of the product is started with: nothing is left to this shell's settings."""
        home = machine.home if machine else self.folder / "elsewhere"
        return (
            {
                key: value
                for key, value in os.environ.items()
                if key in {"PATH", "HOME", "LANG", "TZ", "TMPDIR"}
            }
            | dict.fromkeys(_LEFT_ALONE, "")
            | {
                "DATABASE_URL": self.url,
                "REDIS_URL": self.valkey.url,
                "ENCRYPTION_KEYS": self.keys,
                "SECRET_KEY": "only-for-the-storm",
                "OPERATOR_PASSWORD": "only-for-the-storm",
                "BIND": "127.0.0.1",
                "WEB_PORT": str(self.ports["web"]),
                "SANDBOX_PORT": str(self.ports["sandbox"]),
                "EVERGRANT_HOME": str(home),
                "ATTEMPT_DEADLINE": str(self.options.attempt_deadline),
                "SWEEP_SECONDS": str(SWEEP_SECONDS),
                "REFRESH_RATE": str(self.options.refresh_rate),
                "LOG_LEVEL": "INFO",
                "PYTHONUNBUFFERED": "1",
                "PYTHONPATH": str(self.code),
                FOLDER: str(self.folder),
                NAME: name,
            }
            | (machine.clock.environment if machine and machine.clock else {})
        )

    # --- life -------------------------------------------------------------------------------------

    def __enter__(self) -> Product:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def _start(self) -> None:
        if self.postgresql:
            self.postgresql.start()
            wait_for("PostgreSQL", self.postgresql.answers, 30, self.tend)
        upgrade(self.url)
        self.valkey.start()
        self.sandbox.start()
        self.web.start()
        for child in (*self.workers, *self.beats):
            child.start()
        wait_for("the sandbox", lambda: _answers(f"{self.sandbox_url}/healthz"), 30, self.tend)
        wait_for("the web app and a sweep", lambda: _answers(f"{self.web_url}/readyz"), 60, self.tend)

    def tend(self) -> None:
        """Starts again what has ended and is wanted."""
        for child in self.children:
            child.tend()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all processes and removes the folder."""
        servers = [self.sandbox, self.valkey.process]
        if self.postgresql:
            servers.append(self.postgresql.process)
        services = [child for child in self.children if child not in servers]
        for child in self.children:
            child.wanted = False
        for child in services:
            with contextlib.suppress(ProcessLookupError):
                child.send(signal.SIGCONT)
                child.send(signal.SIGTERM)
        end = time.monotonic() + 8
        for child in services:
            child.end(seconds=max(0.1, end - time.monotonic()))
        for child in servers:
            child.end(signal.SIGINT if child.name == "postgresql" else signal.SIGTERM)
        if self.sqlite:
            self.sqlite.refuse_writes(refuse=False)
        self.database.close()
        self.valkey.client.close()
        for machine in self.machines:
            machine.quota.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- how each is started ----------------------------------------------------------------------

    def _machines(self) -> list[Machine]:
        names = ["a", "b"] if self.postgresql else ["a"]
        machines = []
        for name in names:
            home = self.folder / f"home-{name}"
            home.mkdir(mode=0o700)
            clock = Clock.build(self.folder, name) if self.options.clocks else None
            quota = Quota(home / "escrow")
            machine = Machine(name=name, home=home, clock=clock, quota=quota, workers=[], beat=None)  # type: ignore[arg-type]
            machine.beat = self._celery(machine, f"beat-{name}", ["beat", "--schedule", str(home / "beat")])
            machines.append(machine)
        for number in range(self.options.workers):
            machine = machines[number % len(machines)]
            called = f"worker-{machine.name}{len(machine.workers) + 1}"
            machine.workers.append(
                self._celery(
                    machine,
                    called,
                    ["worker", "--hostname", f"{called}@%h", "--without-gossip", "--without-mingle"],
                )
            )
        # Two beats run in any case.
        self._spare_beats = (
            [self._celery(machines[0], "beat-a2", ["beat", "--schedule", str(machines[0].home / "beat2")])]
            if len(machines) == 1
            else []
        )
        return machines

    def _celery(self, machine: Machine, name: str, words: list[str]) -> Child:
        celery = [sys.executable, "-m", "celery", "--quiet", "--app", "tests.chaos.armed"]
        return self._child(name, [*celery, *words, "--loglevel", "info"], machine)

    def _web(self, machine: Machine) -> Child:
        gunicorn = [sys.executable, "-m", "gunicorn", "--config", "python:evergrant.serving"]
        return self._child("web", [*gunicorn, "tests.chaos.armed_web:create_app()"], machine)

    def _child(self, name: str, command: list[str], machine: Machine) -> Child:
        environment = self.environment(machine, name)
        return Child(name, command, environment, self.logs / f"{name}.log", folder=self.code)

    def _sandbox(self) -> Child:
        command = [
            *(sys.executable, "-m", "sandbox", "--port", str(self.ports["sandbox"])),
            *("--home", str(self.folder / "sandbox"), "--seed", str(self.options.seed)),
            *("--redirect-uri", f"{self.web_url}/callback"),
            *("--client-id", CLIENT_ID, "--client-secret", CLIENT_SECRET),
            *("--token-seconds", str(self.options.token_seconds)),
            *(["--strict"] if self.options.strict else []),
        ]
        return Child("sandbox", command, self.environment(), self.logs / "sandbox.log", folder=self.code)


_LEFT_ALONE = (
    *("TESLA_CLIENT_ID", "TESLA_CLIENT_SECRET", "TESLA_AUTHORIZE_URL", "TESLA_TOKEN_URL", "TESLA_JWKS_URL"),
    *("TESLA_ISSUER", "TESLA_FLEET_URL_NA", "TESLA_FLEET_URL_EU", "TESLA_FLEET_URL_CN", "TESLA_SCOPES"),
    *("PUBLIC_URL", "ENCRYPTION_KEYS_FILE", "FLOWER_PORT", "SANDBOX_URL", "SANDBOX_TOKEN_SECONDS"),
    *("REFRESH_AT", "LANES", "WORKER_CONCURRENCY"),
)
"""Empty is unset, whatever a `.env` says."""


def _copy(to: Path) -> Path:
    """The code as it is now: what starts in ten minutes runs the same, whatever is edited meanwhile."""
    to.mkdir()
    packages = [path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests"]
    for name in (*packages, "tests/chaos"):
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("settings.py", "celeryconfig.py"):
        shutil.copy(ROOT / name, to)
    return to


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=3).status_code == 200
    except requests.RequestException:
        return False
