"""The Monday: a million owners are due at once when Tesla comes back after hours.

The sweep, its claims and the order are real, on PostgreSQL at full size. Time is not: between two sweeps as
many refreshes are taken as done as the rate lets through.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import psycopg

from bench.fill import REFRESH_AT, Spread, fill
from bench.ground import CLIENT_ID, CLIENT_SECRET, Ground, ground
from bench.results import table
from bench.standin import TOKEN_SECONDS
from models.crypto import Keyring
from settings import Settings
from workers.breaker import MARGIN
from workers.due import JITTER
from workers.lanes import all_lanes, lane
from workers.parts import build
from workers.sweep import sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bench.results import Size

HOURS = (8, 5)
"""Without Tesla. After eight every access token has run out; after five, half of them."""

# The ages that the spread gives are those when the outage began. A refresh was to come some time before the
# token's end, moved by jitter. Everything is moved into the past once more, so that all are due.
_OUTAGE = """
UPDATE grants SET access_expires_at = access_expires_at - make_interval(secs => %(past)s),
  refresh_at = access_expires_at - make_interval(secs => %(past)s + %(before)s + %(jitter)s * random())
"""
_DONE = """
UPDATE grants SET refresh_at = now() + interval '1 day', claimed_until = NULL,
  access_expires_at = now() + interval '2 days'
WHERE owner = ANY(%s)
"""


def run(size: Size, say: Callable[[str], None]) -> str:
    owners = 3_000 if size.quick else size.owners
    rows = [_monday(owners, hours, say) for hours in HOURS]
    how = (
        f"{owners:,} owners due at once when Tesla is back, at REFRESH_RATE's default. The rate alone "
        "dictates owners ÷ rate. An owner-minute is a minute that an owner has no valid access token, "
        "counted from when Tesla is back. When all have run out, every order costs the same."
    )
    return "\n\n".join(
        (
            "## The Monday",
            how,
            table(
                (
                    "without Tesla",
                    "all is well after",
                    "the rate alone",
                    "goal: + 10 %",
                    "ran out before or meanwhile",
                    "owner-minutes",
                    "first in, first out",
                    "in no order",
                    "a sweep takes",
                ),
                *rows,
            ),
        )
    )


def _monday(owners: int, hours: int, say: Callable[[str], None]) -> tuple[str, ...]:
    due_after = REFRESH_AT * TOKEN_SECONDS
    with ground() as on:
        database = on.database()
        say(f"{hours} h: filling {owners:,} rows")
        fill(database, Keyring.parse(on.keys), owners, spread=Spread(), real=False)
        with psycopg.connect(on.conninfo(database), autocommit=True) as connection:
            past = hours * 3600 + due_after
            before = TOKEN_SECONDS - due_after
            connection.execute(_OUTAGE, {"past": past, "before": before, "jitter": JITTER * due_after})
            connection.execute("VACUUM ANALYZE grants")
            found = connection.execute(
                "SELECT owner, extract(epoch FROM access_expires_at - now())::float8 + %s, "
                "extract(epoch FROM refresh_at)::float8 FROM grants",
                (due_after,),
            ).fetchall()
            left = {owner: life for owner, life, _ in found}
            done, each = _recover(on, database, connection, owners, say)
    rate = _rate()
    in_turn = [owner for owner, _, _ in sorted(found, key=lambda row: row[2])]
    shuffled = random.sample(in_turn, len(in_turn))
    ours = _owner_minutes(left, done)
    ends, alone = max(done.values()), owners / rate
    return (
        f"{hours} h",
        _hours(ends),
        _hours(alone),
        "met" if ends <= alone * 1.1 + 10 else "MISSED",
        f"{sum(life < done[owner] for owner, life in left.items()):,}",
        f"{ours:,.0f}",
        f"{_owner_minutes(left, _one_after_another(in_turn, rate)):,.0f}",
        f"{_owner_minutes(left, _one_after_another(shuffled, rate)):,.0f}",
        f"{each * 1000:.0f} ms",
    )


def _settings(on: Ground, database: str) -> Settings:
    return Settings(
        _env_file=None,
        database_url=database,
        redis_url=on.redis_url,
        encryption_keys=on.keys,
        evergrant_home=on.home,
        tesla_client_id=CLIENT_ID,
        tesla_client_secret=CLIENT_SECRET,
    )


def _rate() -> float:
    rate: float = Settings.model_fields["refresh_rate"].default
    return MARGIN * rate


def _recover(
    on: Ground,
    database: str,
    connection: psycopg.Connection[tuple[object, ...]],
    owners: int,
    say: Callable[[str], None],
) -> tuple[dict[str, float], float]:
    """When each was refreshed, in seconds after Tesla came back, and how many seconds a sweep took."""
    parts = build(_settings(on, database))
    every, rate = parts.settings.sweep_seconds, _rate()
    done: dict[str, float] = {}
    at, taken, sweeps, credit = 0.0, 0.0, 0, 0.0

    def send(claimed: Iterable[str]) -> None:
        pipe = on.redis.pipeline(transaction=False)
        for owner in claimed:
            pipe.lpush(lane(owner, parts.settings.lanes), owner)
        pipe.execute()

    while len(done) < owners:
        began = time.monotonic()
        sweep(parts, send)
        taken += time.monotonic() - began
        sweeps += 1
        credit += every * rate
        refreshed = _take(on, parts.settings.lanes, int(credit))
        credit -= int(credit)
        connection.execute(_DONE, (refreshed,))
        done.update((owner, at + place / rate) for place, owner in enumerate(refreshed))
        at += every
        if sweeps % 200 == 0:
            say(f"{_hours(at)} later {len(done):,} are well")
    return done, taken / sweeps


def _take(on: Ground, lanes: int, count: int) -> list[str]:
    """The next `count` tasks, as a worker takes them: from each lane in turn, the oldest first."""
    names = all_lanes(lanes)
    taken: list[str] = []
    while len(taken) < count:
        pipe = on.redis.pipeline(transaction=False)
        for name in names:
            pipe.rpop(name)
        found = [owner.decode() for owner in pipe.execute() if owner]
        if not found:
            break
        taken += found
    return taken


def _one_after_another(order: list[str], rate: float) -> dict[str, float]:
    return {owner: place / rate for place, owner in enumerate(order)}


def _owner_minutes(left: dict[str, float], done: dict[str, float]) -> float:
    return sum(max(0.0, done[owner] - max(life, 0.0)) for owner, life in left.items()) / 60


def _hours(seconds: float) -> str:
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"
