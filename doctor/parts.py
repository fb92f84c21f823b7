"""The parts that Evergrant runs on, and whether they do their work."""

from __future__ import annotations

import http.client
import os
import shutil
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from sqlalchemy import select

from doctor.findings import Check, Look
from doctor.table import NoTable, table
from fleet.errors import CAUSES
from fleet.transport import TransportError, call, session
from models import pulses
from models.session import now
from workers.breaker import Breaker
from workers.redis_url import connect
from workers.watch import silence, stall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

    from doctor.findings import Finding
    from fleet.deadline import Deadline
    from models.session import Database
    from settings import Settings

SQL = Check("parts.sql", "The token table is there, and of this version", "It is where every grant is kept.")
REDIS = Check("parts.redis", "Redis answers", "It carries the tasks from beat to the workers.")
WORKER = Check("parts.worker", "A worker is at work", "Workers make the refreshes.")
BEAT = Check("parts.beat", "Beat ticks", "It sends the sweep, which finds what is due.")
REFRESHES = Check(
    "parts.refreshes", "Refreshes go on", "A grant that is not refreshed in time opens nothing."
)
FLOWER = Check("parts.flower", "Flower answers", "It shows the tasks. Nothing else needs it.")
CLOCKS = Check(
    "parts.clocks",
    "The clocks agree to the minute",
    "Tokens and sign-ins are good for a time: a clock that is off calls good ones old, or old ones good.",
)
DISK = Check(
    "parts.disk",
    "There is room for the escrow",
    "Tesla’s answers wait there while SQL is down; without room, only Redis has them.",
)

APART = 60.0
"""Seconds."""

ROOM = 100 * 2**20
"""Bytes."""


def looks(settings: Settings) -> list[Look]:
    return [
        Look((SQL, WORKER, BEAT, REFRESHES), lambda _: _sql(settings)),
        Look((REDIS,), lambda _: [_redis(settings)]),
        Look((FLOWER,), lambda deadline: [_flower(settings, deadline)]),
        Look((CLOCKS,), lambda deadline: [_clocks(settings, deadline)]),
        Look((DISK,), lambda _: [_disk(settings)]),
    ]


# --- SQL, and what it knows of the others --------------------------------------------------------------


def _sql(settings: Settings) -> Iterator[Finding]:
    try:
        with table(settings) as database:
            yield SQL.passes("It is.")
            yield _worker(settings, database)
            yield _beat(settings, database)
            yield _refreshes(settings, database)
    except NoTable as away:
        yield SQL.fails(str(away), away.repair)
        for check in (WORKER, BEAT, REFRESHES):
            yield check.cant_know("Signs of life are kept in SQL.")


def _worker(settings: Settings, database: Database) -> Finding:
    seconds = silence(settings)
    if alive := pulses.lately(database, "worker:", seconds):
        return WORKER.passes(f"{', '.join(alive)} {'are' if len(alive) > 1 else 'is'}.")
    return WORKER.fails(
        f"No worker gave a sign of life in the last {seconds:.0f} s.",
        "Start one: `celery -A workers worker`, or `make up`.",
    )


def _beat(settings: Settings, database: Database) -> Finding:
    seconds = silence(settings)
    if pulses.beaten_within(database, "beat", seconds):
        return BEAT.passes("It does.")
    return BEAT.fails(
        f"There was no tick in the last {seconds:.0f} s.", "Start it: `celery -A workers beat`, or `make up`."
    )


def refreshes(settings: Settings) -> Look:
    """Whether they go on, alone: for who looks at one owner."""

    def work(_deadline: Deadline) -> Iterator[Finding]:
        try:
            with table(settings) as database:
                yield _refreshes(settings, database)
        except NoTable as away:
            yield REFRESHES.cant_know(str(away), away.repair)

    return Look((REFRESHES,), work)


def _refreshes(settings: Settings, database: Database) -> Finding:
    with _client(settings) as redis:
        breaker = Breaker(redis, rate=settings.refresh_rate, probe_life=1)
        look = breaker.look()
        if look.state == "closed":
            if why := stall(database, breaker, settings):
                return REFRESHES.fails(f"{why[0].upper()}{why[1:]}", "Repair what fails here.")
            return REFRESHES.passes("They do.")
    cause = CAUSES.get(look.cause, CAUSES["tesla_failed"])
    left = f" for {look.seconds:.0f} s more" if look.state == "open" else ", but for one that tries"
    return REFRESHES.fails(
        f"They stand still for everybody{left}: {cause.title}.", cause.repair, cause=cause.code
    )


# --- the others ---------------------------------------------------------------------------------------


def _client(settings: Settings) -> Redis:
    """Raises ValueError where the URL is none."""
    return connect(settings.redis, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0))


def _redis(settings: Settings) -> Finding:
    try:
        with _client(settings) as redis:
            redis.ping()
    except ValueError:
        return REDIS.fails("`REDIS_URL` is not a URL that redis-py knows.", "Set it right and restart.")
    except RedisError as error:
        return REDIS.fails(
            f"It can’t be reached ({type(error).__name__}).",
            "Start it, or set `REDIS_URL` right and restart.",
        )
    return REDIS.passes("It does.")


def _flower(settings: Settings, deadline: Deadline) -> Finding:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.bind, settings.bind)  # noqa: S104
    connection = http.client.HTTPConnection(host, settings.flower_port, timeout=max(deadline.remaining, 0.1))
    try:
        connection.request("GET", "/healthcheck")
        status = connection.getresponse().status
    except OSError:
        return FLOWER.cant_know(
            f"It does not answer at port {settings.flower_port} of this machine; it may run on another.",
            "If it should run here, start it: `celery -A workers flower`, or `make up`.",
        )
    finally:
        connection.close()
    if status != 200:
        return FLOWER.fails(f"It answers HTTP {status}.", "Restart it.")
    return FLOWER.passes(f"It does, at port {settings.flower_port}.")


def _clocks(settings: Settings, deadline: Deadline) -> Finding:
    apart: dict[str, float] = {}
    with suppress(NoTable), table(settings) as database, database.read() as connection:
        apart["SQL’s"] = connection.execute(select(now())).scalar_one().timestamp() - time.time()
    with suppress(RedisError, ValueError), _client(settings) as redis:
        seconds, microseconds = redis.time()
        apart["Redis’s"] = seconds + microseconds / 1e6 - time.time()
    with suppress(TransportError, KeyError, ValueError, TypeError):
        answer = call(session(pool_size=1), "GET", settings.endpoint("tesla_jwks_url"), deadline=deadline)
        apart["Tesla’s"] = parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()
    if not apart:
        return CLOCKS.cant_know("Nobody else told the time.")
    words = f"Beside this machine’s, {', '.join(f'{whose} is {_apart(by)}' for whose, by in apart.items())}."
    if any(abs(seconds) > APART for seconds in apart.values()):
        return CLOCKS.fails(words, "Have them all set by NTP.")
    return CLOCKS.passes(words)


def _apart(seconds: float) -> str:
    if abs(seconds) < 2:
        return "the same"
    return f"{abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'}"


def _disk(settings: Settings) -> Finding:
    home = settings.evergrant_home
    if not home.exists():
        return DISK.cant_know(f"{home} is not there yet: the first start makes it.", "Run `make up` once.")
    if not os.access(home, os.W_OK):
        return DISK.fails(f"{home} can’t be written to.", "Set EVERGRANT_HOME to a folder of this user’s.")
    free = shutil.disk_usage(home).free
    words = f"{free // 2**20} MB are free at {home}."
    return DISK.passes(words) if free >= ROOM else DISK.fails(words, "Make room there.")
