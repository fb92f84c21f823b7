"""What needs the operator now, and since when nothing has."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from models import pulses, surveys
from models.grants import grants
from models.session import now
from workers.needs import LONG_PAUSE, needs
from workers.survey import QUIET, survey

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.workers.conftest import World
    from workers.parts import Parts


@pytest.fixture
def running(world: World) -> World:
    """An installation in which everybody has just given a sign of life."""
    for name in ("beat", "sweep", "refresh"):
        pulses.beat(world.parts.database, name)
    return world


def codes(parts: Parts) -> list[str]:
    return [need.code for need in needs(parts)]


def count(world: World) -> None:
    with world.parts.database.write() as connection:
        connection.execute(surveys.surveys.delete())
    assert surveys.take(world.parts.database)


def change(world: World, owner: str, **values: Any) -> None:
    with world.parts.database.write() as connection:
        connection.execute(update(grants).where(grants.c.owner == owner).values(**values))


def test_normally_nothing(running: World) -> None:
    running.owner(due_in=1000)
    count(running)
    assert codes(running.parts) == []


def test_nobody_is_at_work(world: World) -> None:
    (need,) = needs(world.parts)
    assert need.code == "stall"
    assert need.explanation.startswith("No beat in the last")
    assert need.urgent


def test_redis_is_away(running: World, make: Callable[..., Parts]) -> None:
    assert "redis" in codes(make(redis_url="redis://127.0.0.1:1/0"))


@pytest.mark.parametrize(("cause", "urgent"), [("invalid_client", True), ("tesla_failed", False)])
def test_the_breaker_is_open(running: World, cause: str, urgent: bool) -> None:
    running.parts.breaker.failed("ann", cause, everybody=True, pause=60)
    (need,) = needs(running.parts)
    assert (need.code, need.urgent) == (f"breaker:{cause}", urgent)
    assert "next try is in" in need.explanation


@pytest.mark.parametrize(
    ("changes", "code", "owners"),
    [
        ({"failures": 2, "last_error": "encryption_key"}, "failing:encryption_key", "failing"),
        ({"access_expires_at": now(-5), "refresh_at": now(10)}, "run_out", "run_out"),
        ({"refresh_at": now(-400)}, "late", "due"),
        ({"state": "needs_consent", "refresh_at": None}, "needs_consent", "needs_consent"),
        ({"paused_at": now(-LONG_PAUSE - 60), "refresh_at": None}, "long_pause", "paused"),
    ],
)
def test_a_grant_wants_something(running: World, changes: dict[str, Any], code: str, owners: str) -> None:
    change(running, running.owner(due_in=1000), **changes)
    count(running)
    (need,) = needs(running.parts)
    assert (need.code, need.owners) == (code, owners)


def test_failures_that_pass_are_nobodys_turn(running: World) -> None:
    change(running, running.owner(due_in=1000), failures=2, last_error="tesla_failed")
    count(running)
    assert codes(running.parts) == []


def test_answers_wait_in_the_escrow(running: World, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = running.owner()
    parts = running.parts

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("no")

    with monkeypatch.context() as patched:
        patched.setattr(parts.refresher, "_settle", refuse)
        parts.refresher.refresh(owner)
    assert parts.escrow.count() == 1
    (need,) = needs(parts)
    assert need.code == "escrow"
    parts.refresher.drain_all()
    assert parts.escrow.count() == 0
    assert codes(parts) == []


def test_it_is_known_since_when_all_is_quiet(running: World) -> None:
    def quiet_since() -> datetime | None:
        with running.parts.database.write() as connection:
            connection.execute(pulses.pulses.delete().where(pulses.pulses.c.name == "survey"))
        assert survey(running.parts)
        with running.parts.database.read() as connection:
            noted = surveys.noted(connection, QUIET)
        since = (noted or {}).get("since")
        return None if since is None else datetime.fromisoformat(since)

    first = quiet_since()
    assert first is not None
    assert quiet_since() == first
    running.parts.breaker.failed("ann", "tesla_failed", everybody=True, pause=60)
    assert quiet_since() is None
    running.parts.breaker.succeeded()
    later = quiet_since()
    assert later is not None
    assert later > first
    assert not survey(running.parts), "another has only just run"
