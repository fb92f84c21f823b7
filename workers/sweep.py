"""The sweep: finds what is due, claims it, and sends one task an owner to that owner's lane."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from models import ending, grants, pulses, retention, spares
from workers.lanes import all_lanes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from workers.breaker import Look
    from workers.parts import Parts

CLAIM_SWEEPS = 3
"""A claim lasts so many sweeps: what a broker lost is sent again after that."""

BATCH = 500
"""Grants claimed in one transaction."""

_FORGOTTEN = 24 * 3600.0
_ENDING_SECONDS = 3600.0
_EPOCH = "evergrant:epoch"


def sweep(parts: Parts, send: Callable[[Iterable[str]], None]) -> int:
    """Claims what is due, at most what the lanes will take before the claims end; returns how many.

    `send` is handed the owners of a batch, nearest to the end of their access token first, after their claims
    are committed. Any number of sweeps may run at once. Raises SQLAlchemy's and Redis's errors.
    """
    pulses.beat(parts.database, "sweep")
    _notice_a_wiped_redis(parts)
    look = parts.breaker.look()
    room = _room(parts, look)
    claimed = 0
    while claimed < room:
        limit = min(BATCH, room - claimed)
        with parts.database.write() as connection:
            owners = grants.claim_due(
                connection,
                limit=limit,
                seconds=_claim_seconds(parts),
                # A probe says something about Tesla only with an owner for whom it has not failed: one for
                # whom it always does would keep the breaker open for all.
                well_first=look.state == "half_open",
            )
        if owners:
            send(owners)
        claimed += len(owners)
        if len(owners) < limit:
            break
    with parts.database.write() as connection:
        spares.erase_ended(connection)
    pulses.forget(parts.database, _FORGOTTEN)
    settings = parts.settings
    retention.purge(parts.database, days=settings.event_days, refreshed_days=settings.refreshed_days)
    if not pulses.beaten_within(parts.database, "ending", _ENDING_SECONDS):
        pulses.beat(parts.database, "ending")
        _say_ending(parts)
    return claimed


def _say_ending(parts: Parts) -> None:
    said = BATCH
    while said == BATCH:
        with parts.database.write() as connection:
            said = ending.say_ending(connection, BATCH)


def is_superfluous(parts: Parts) -> bool:
    """Whether another sweep has only just run: messages pile up while no worker is there to take them."""
    return pulses.beaten_within(parts.database, "sweep", parts.settings.sweep_seconds / 2)


def _claim_seconds(parts: Parts) -> float:
    return CLAIM_SWEEPS * parts.settings.sweep_seconds


def _room(parts: Parts, look: Look) -> int:
    """How many more tasks the lanes may hold: what the rate lets through in two sweeps, so that they never
    run dry between two and are empty before the claims end. Only a probe while the breaker is open."""
    if look.state == "open":
        return 0
    if look.state == "half_open":
        return 1
    pipe = parts.redis.pipeline(transaction=False)
    for lane in all_lanes(parts.settings.lanes):
        pipe.llen(lane)
    waiting: int = sum(pipe.execute())
    return int(max(2 * parts.settings.sweep_seconds * parts.settings.refresh_rate, 1)) - waiting


def _notice_a_wiped_redis(parts: Parts) -> None:
    """A Redis that lost everything has lost the tasks of all claims as well: they are given back at once."""
    try:
        wiped = parts.redis.set(_EPOCH, secrets.token_hex(8), nx=True)
    except RedisError:
        return
    if wiped:
        with parts.database.write() as connection:
            grants.release_claims(connection)
