"""A token that is good now: the one at hand, or a newer one."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from models import grants
from models.grants import State
from web.api.parts import api_parts
from web.api.problems import disconnected, needs_consent, no_grant, paused, waiting
from web.sentence import cause_of
from web.wiring import wiring
from workers.refresh import Result

if TYPE_CHECKING:
    from models.grants import Grant
    from web.api.problems import Refusal
    from workers.refresh import Outcome

FRESH = 0.9
"""Share of its life that a token has left while another would not be better: who asks for more than tokens
ever live must not have them refreshed with each call."""

YOUNG = 5.0
"""Seconds after a refresh in which another would not be better either, however short tokens live."""

LEAST = 2.0
"""Seconds that a token must have left to be handed out as it is."""


def life_left(grant: Grant) -> float:
    """Seconds that its access token has left."""
    if grant.access_expires_at is None:
        return 0.0
    return (grant.access_expires_at - grant.read_at).total_seconds()


def meets(grant: Grant, min_ttl: float) -> bool:
    """Whether its access token has `min_ttl` seconds left."""
    return life_left(grant) >= max(min_ttl, LEAST)


def fresh(owner: str, grant: Grant | None, min_ttl: float, *, seated: bool = False) -> Grant:
    """The grant with an access token that has `min_ttl` seconds left, or as many as can be had; refreshed if
    it has to be. `grant` is what was read of it, `seated` whether this call has a seat. Raises `Refusal`."""
    grant = alive(owner, grant)
    if meets(grant, min_ttl) or is_new(grant):
        return grant
    parts = api_parts()
    with nullcontext() if seated else parts.seats:
        outcome = parts.together.refresh(owner, grant.generation)
    good = outcome.result in {Result.REFRESHED, Result.FRESH}
    grant = alive(owner, outcome.grant if good and outcome.grant else read(owner))
    if life_left(grant) <= 0:
        raise not_now(owner, outcome)
    return grant


def alive(owner: str, grant: Grant | None) -> Grant:
    """The grant, if it is alive. Raises `Refusal`."""
    if grant is None:
        raise no_grant(owner)
    if grant.state == State.DISCONNECTED:
        raise disconnected(owner)
    if grant.state == State.NEEDS_CONSENT:
        raise needs_consent(owner, cause_of(grant.reason))
    return grant


def read(owner: str) -> Grant | None:
    """The grant as the table has it now."""
    with wiring().parts.database.read() as connection:
        return grants.read(connection, owner)


def not_now(owner: str, outcome: Outcome) -> Refusal:
    """Why a refresh has brought nothing."""
    if outcome.result is Result.PAUSED:
        return paused(owner)
    cause = outcome.cause if outcome.result is not Result.IN_FLIGHT else None
    return waiting(cause, outcome.retry_in)


def is_new(grant: Grant) -> bool:
    """Whether its access token lives and is so new that another would not be better."""
    left, age = life_left(grant), (grant.read_at - grant.refreshed_at).total_seconds()
    return left > 0 and (left >= FRESH * (left + age) or age < YOUNG)
