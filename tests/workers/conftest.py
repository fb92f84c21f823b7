"""The refresh protocol on real parts: a sandbox process, Valkey, SQLite and PostgreSQL."""

from __future__ import annotations

import itertools
import secrets
import threading
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from fleet.claims import unverified_claims
from models import consent, grants
from models.events import latest, latest_for_all
from models.session import now
from settings import Settings
from tests.sandbox.conftest import APP, Running
from workers import steps
from workers.parts import Parts, build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from redis import Redis

    from models.grants import Grant
    from workers.steps import Step

_numbers = itertools.count()


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("sandbox"))
    yield running
    running.stop()


class World:
    """One installation: its parts, its sandbox and its owners."""

    def __init__(self, tesla: Running, make: Callable[..., Parts]) -> None:
        self.tesla = tesla
        self.make = make
        self.parts = make()

    def owner(self, due_in: float = -1) -> str:
        """A new owner who has signed in; returns the owner's id. The grant is due unless told otherwise."""
        tokens = self.tesla.sign_in(f"Worker {next(_numbers)}")
        owner = str(unverified_claims(tokens["access_token"])["sub"])
        self.connect(owner, tokens, due_in)
        return owner

    def connect(
        self, owner: str, tokens: dict[str, Any], due_in: float = -1, client_id: str | None = None
    ) -> None:
        consent.connect(
            self.parts.database,
            self.parts.keyring,
            owner=owner,
            access_token=tokens["access_token"],
            refresh_token=tokens["refresh_token"],
            expires_in=tokens["expires_in"],
            due_in=due_in,
            requested_scopes="openid offline_access",
            scopes="openid",
            region="NA",
            fleet_url=f"{self.tesla.url}/na",
            correlation_id=secrets.token_hex(8),
            client_id=client_id,
        )

    def said(self, owner: str) -> consent.SignIn:
        """What it brings when this owner signs in once more."""
        with self.parts.database.read() as connection:
            said_at = connection.execute(select(now())).scalar_one()
        tokens = self.tesla.sign_in(self.seen(owner)["name"])
        return consent.SignIn(
            owner=owner,
            access_token=tokens["access_token"],
            refresh_token=tokens["refresh_token"],
            expires_in=tokens["expires_in"],
            due_in=60,
            requested_scopes="openid offline_access",
            scopes="openid",
            region="NA",
            fleet_url=f"{self.tesla.url}/na",
            correlation_id=secrets.token_hex(8),
            said_at=said_at,
        )

    def grant(self, owner: str) -> Grant:
        with self.parts.database.read() as connection:
            found = grants.read(connection, owner)
        assert found is not None
        return found

    def due(self, owner: str) -> None:
        """Makes the grant due now, with no wait left from a failure."""
        with self.parts.database.write() as connection:
            connection.execute(
                grants.grants.update()
                .where(grants.grants.c.owner == owner)
                .values(refresh_at=grants.grants.c.connected_at, retry_at=None)
            )

    def seen(self, owner: str) -> dict[str, Any]:
        """What Tesla has seen of this owner."""
        return next(seen for seen in self.tesla.record()["owners"] if seen["sub"] == owner)

    def kinds(self, owner: str) -> list[str]:
        with self.parts.database.read() as connection:
            return [event.kind for event in reversed(latest(connection, owner, 100))]

    def last_for_all(self) -> tuple[str, str | None] | None:
        with self.parts.database.read() as connection:
            event = latest_for_all(connection)
        return None if event is None else (event.kind, event.reason)


@pytest.fixture
def make(
    database_url: str, redis: Redis, redis_url: str, sandbox: Running, keys: str, tmp_path: Path
) -> Iterator[Callable[..., Parts]]:
    """Builds the parts of one more process of the same installation."""
    built: list[Parts] = []

    def parts(**changes: Any) -> Parts:
        values: dict[str, Any] = {
            "database_url": database_url,
            "redis_url": redis_url,
            "encryption_keys": keys,
            "evergrant_home": tmp_path / "home",
            "tesla_client_id": APP["client_id"],
            "tesla_client_secret": APP["client_secret"],
            "tesla_token_url": sandbox.token_url,
            **{f"tesla_fleet_url_{region}": f"{sandbox.url}/{region}" for region in ("na", "eu", "cn")},
            "attempt_deadline": 5,
            "refresh_rate": 1000,
        }
        built.append(build(Settings(_env_file=None, **values | changes)))
        return built[-1]

    yield parts
    for each in built:
        each.database.close()
        each.redis.close()


@pytest.fixture
def world(sandbox: Running, make: Callable[..., Parts]) -> Iterator[World]:
    yield World(sandbox, make)
    sandbox.http.delete(f"{sandbox.url}/faults", timeout=10)


class Steps:
    """Does something when a refresh reaches a step, once for each time it was asked to."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._todo: dict[Step, list[Callable[[], object]]] = {}
        self.reached: list[Step] = []

    def at(self, step: Step, do: Callable[[], object]) -> None:
        self._todo.setdefault(step, []).append(do)

    def wait_for(self, step: Step, times: int) -> None:
        """Until the step was reached so often."""
        with self._lock:
            assert self._lock.wait_for(lambda: self.reached.count(step) >= times, 20)

    def __call__(self, step: Step, owner: str) -> None:
        with self._lock:
            self.reached.append(step)
            self._lock.notify_all()
            do = self._todo[step].pop(0) if self._todo.get(step) else None
        if do is not None:
            do()


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Steps:
    listener = Steps()
    monkeypatch.setattr(steps, "listener", listener)
    return listener


def done(futures: list[Future[Any]]) -> list[Any]:
    return [future.result(timeout=60) for future in futures]
