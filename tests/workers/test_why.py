"""Which of the causes behind one and the same `login_required` it is, told from what else is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from models.events import latest
from tests.sandbox.conftest import APP
from workers.due import LONGEST_WAIT
from workers.refresh import Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.workers.conftest import World
    from workers.parts import Parts


def reason(world: World, owner: str) -> tuple[str, str | None]:
    """Kind and reason of the last event."""
    with world.parts.database.read() as connection:
        event = latest(connection, owner, 1)[0]
    return event.kind, event.reason


@pytest.mark.parametrize(
    ("fault", "cause"), [("superseded", "superseded_token"), ("consent_withdrawn", "consent_withdrawn")]
)
def test_why_tesla_ended_it(world: World, caplog: pytest.LogCaptureFixture, fault: str, cause: str) -> None:
    owner = world.owner()
    world.tesla.fault(fault, owner=owner)
    outcome = world.parts.refresher.refresh(owner)
    assert outcome.result is Result.NEEDS_CONSENT
    assert outcome.cause
    assert outcome.cause.code == world.grant(owner).reason == cause
    assert reason(world, owner) == ("needs_consent", cause)
    assert f"{cause}: " in caplog.text
    assert f"docs/troubleshooting.md#{cause}" in caplog.text


@pytest.mark.parametrize(
    ("fault", "cause"), [("wrong_region", "superseded_token"), ("down_503", "login_required")]
)
def test_what_the_fleet_api_says_decides(world: World, fault: str, cause: str) -> None:
    owner = world.owner()
    world.tesla.fault("superseded", owner=owner)
    world.tesla.fault(fault, owner=owner, endpoint="fleet")
    world.parts.refresher.refresh(owner)
    assert world.grant(owner).reason == cause


def test_a_changed_password_is_not_called_anything_else(world: World) -> None:
    owner = world.owner()
    world.tesla.http.post(f"{world.tesla.url}/owners/{owner}/password", timeout=10)
    world.parts.refresher.refresh(owner)
    assert world.grant(owner).reason == "login_required"


def test_nothing_is_guessed_once_the_access_token_has_run_out(world: World) -> None:
    owner = world.owner()
    tokens = world.tesla.sign_in(world.seen(owner)["name"])
    world.connect(owner, tokens | {"expires_in": -1})
    world.tesla.fault("superseded", owner=owner)
    world.parts.refresher.refresh(owner)
    assert world.grant(owner).reason == "login_required"


def test_two_at_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    owner = world.owner()
    world.tesla.fault("two_at_once", owner=owner, count=1)
    assert world.parts.refresher.refresh(owner).result is Result.REFRESHED
    assert reason(world, owner) == ("refreshed", None)
    assert world.parts.refresher.refresh(owner, stale=1).result is Result.REFRESHED
    assert reason(world, owner) == ("spare_used", "two_refreshes")
    assert "docs/troubleshooting.md#two_refreshes" in caplog.text


def test_our_own_second_try_is_not_another_program(world: World) -> None:
    owner = world.owner()
    world.tesla.fault("down_503", owner=owner, where="after", count=1)
    world.parts.refresher.refresh(owner)
    world.due(owner)
    assert world.parts.refresher.refresh(owner, wait=20).result is Result.REFRESHED
    world.tesla.fault("login_required", owner=owner, count=1)
    assert world.parts.refresher.refresh(owner, stale=1).result is Result.REFRESHED
    assert reason(world, owner) == ("spare_used", None)


def test_a_grant_of_another_app_is_kept_until_that_is_back(
    world: World, make: Callable[..., Parts], caplog: pytest.LogCaptureFixture
) -> None:
    owner = world.owner()
    world.connect(owner, world.tesla.sign_in(world.seen(owner)["name"]), client_id=APP["client_id"])
    calls = world.seen(owner)["calls"]
    outcome = make(tesla_client_id="of-another-environment").refresher.refresh(owner)
    assert outcome.result is Result.OPERATOR_MUST_ACT
    assert outcome.retry_in is not None
    assert outcome.retry_in <= LONGEST_WAIT  # it goes on by itself soon after the app is put back
    assert world.seen(owner)["calls"] == calls  # nothing was presented
    assert reason(world, owner) == ("operator_must_act", "other_credentials")
    assert "docs/troubleshooting.md#other_credentials" in caplog.text
    grant = world.grant(owner)
    assert (grant.state, grant.in_flight) == ("alive", False)
    assert world.parts.refresher.refresh(owner, stale=grant.generation).result is Result.REFRESHED


def test_tesla_says_that_it_is_of_another_app(world: World) -> None:
    owner, other = world.owner(), world.owner()
    world.tesla.fault("other_credentials", owner=owner, count=1)
    outcome = world.parts.refresher.refresh(owner)
    assert outcome.result is Result.OPERATOR_MUST_ACT
    assert reason(world, owner) == ("operator_must_act", "other_credentials")
    # The others go on.
    assert world.parts.refresher.refresh(other).result is Result.REFRESHED
    assert world.last_for_all() is None
    assert world.parts.refresher.refresh(owner, stale=0).result is Result.REFRESHED
