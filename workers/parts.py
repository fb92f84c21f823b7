"""Puts the parts together from the settings, once a process. Nothing here loads Celery."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from fleet.api import FleetApi
from fleet.regions import Regions
from models.crypto import Keyring
from models.session import Database
from settings import Settings, get_settings
from workers.breaker import Breaker
from workers.counts import CountedEndpoint, Counts
from workers.due import Pacing
from workers.escrow import Escrow
from workers.lock import OwnerLocks
from workers.redis_url import hints
from workers.refresh import Refresher, lock_life

if TYPE_CHECKING:
    from redis import Redis


@dataclass(frozen=True)
class Parts:
    settings: Settings
    database: Database
    keyring: Keyring
    redis: Redis
    tesla: CountedEndpoint
    api: FleetApi
    breaker: Breaker
    pacing: Pacing
    escrow: Escrow
    counts: Counts
    refresher: Refresher


@cache
def parts() -> Parts:
    """This process's parts. Raises `settings.SettingsError` or `models.crypto.BadKeys`."""
    return build(get_settings())


def build(settings: Settings) -> Parts:
    database = Database(settings.database, pool_size=settings.worker_concurrency)
    keyring = Keyring.parse(settings.keys)
    redis = hints(settings.redis)
    counts = Counts(redis)
    tesla = CountedEndpoint(
        counts,
        url=settings.endpoint("tesla_token_url"),
        client_id=settings.client_id,
        client_secret=settings.client_secret,
        pool_size=settings.worker_concurrency,
    )
    api = FleetApi(Regions(settings.fleet_urls))
    life = lock_life(settings.attempt_deadline)
    breaker = Breaker(redis, rate=settings.refresh_rate, probe_life=life)
    pacing = Pacing(settings.refresh_at, settings.sweep_seconds)
    escrow = Escrow(keyring=keyring, redis=redis, folder=settings.evergrant_home / "escrow")
    refresher = Refresher(
        database=database,
        keyring=keyring,
        tesla=tesla,
        locks=OwnerLocks(redis, life=life),
        breaker=breaker,
        escrow=escrow,
        pacing=pacing,
        attempt_deadline=settings.attempt_deadline,
        api=api,
        count=counts.settled,
    )
    return Parts(
        settings=settings,
        database=database,
        keyring=keyring,
        redis=redis,
        tesla=tesla,
        api=api,
        breaker=breaker,
        pacing=pacing,
        escrow=escrow,
        counts=counts,
        refresher=refresher,
    )
