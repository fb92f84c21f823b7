"""The sweep: finding who is due among few owners and many, beside an entry an owner in a schedule; and how
PostgreSQL goes about what is asked often."""

from __future__ import annotations

import gc
import os
import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
from celery import Celery
from celery.beat import Scheduler
from celery.schedules import schedule

from bench import cpu, plans
from bench.fill import Spread, fill, owner
from bench.ground import CLIENT_ID, CLIENT_SECRET, Ground, ground
from bench.results import table
from models.crypto import Keyring
from settings import Settings
from workers.parts import build
from workers.sweep import sweep

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.results import Size
    from workers.parts import Parts

DUE = 500
SIZES = (10_000, 100_000, 1_000_000)
ENTRIES = 100_000
"""So many of redbeat's are really made: a tick's cost follows what is due, memory how many there are."""


def run(size: Size, say: Callable[[str], None]) -> str:
    sizes = (1_000, 2_000) if size.quick else SIZES
    due, entries = (20, 200) if size.quick else (DUE, ENTRIES)
    most = sizes[-1]
    with ground() as on:
        ours = {}
        for rows in sizes:
            database = on.database()
            say(f"filling {rows:,} rows")
            fill(database, Keyring.parse(on.keys), rows, spread=Spread(due=due / rows, gap=3600), real=False)
            ours[rows] = claim(on, _parts(on, database, due), due, times=1 if size.quick else 5)
            say(f"{rows:,} rows, {due} due: {ours[rows] * 1000:.1f} ms of CPU a sweep")
        index = index_bytes(on, database)
        all_due = round(most * 0.002)
        redbeat_seconds, redbeat_bytes = redbeat(on, entries, due)
        say(f"redbeat: {redbeat_seconds / due * 1000:.2f} ms an owner that is due")
        beat_seconds, beat_bytes = celery_beat(entries if size.quick else most, 3)
        say(f"celery beat: {beat_seconds * 1000:.0f} ms an owner that is due")
        ours_all = ours[most] / due * all_due
        found = plans.check(on, _parts(on, database, due), most)
    return "\n\n".join(
        (
            "## The sweep",
            f"Finding and claiming {due} owners who are due; CPU of the sweep and of PostgreSQL.",
            table(
                ("rows", "CPU ms", f"against {sizes[0]:,} rows", "goal"),
                *(
                    (f"{rows:,}", f"{used * 1000:.1f}", f"{used / ours[sizes[0]]:.2f} ×", "≤ 1.5 ×")
                    for rows, used in ours.items()
                ),
            ),
            f"{most:,} owners, 0.2 % of them due ({all_due:,}), without sending the tasks:",
            table(
                ("", "CPU s", "against ours", "memory MB"),
                ("Evergrant: an index", f"{ours_all:.2f}", "", f"{index / 1e6:.0f}"),
                (
                    f"redbeat, an entry an owner (a tick at {entries:,} entries, scaled up)",
                    f"{redbeat_seconds / due * all_due:.1f}",
                    f"{redbeat_seconds / due * all_due / ours_all:.0f} ×",
                    f"{redbeat_bytes / entries * most / 1e6:.0f}",
                ),
                (
                    "Celery's own beat, an entry an owner (3 ticks, scaled up)",
                    f"{beat_seconds * all_due:.0f}",
                    f"{beat_seconds * all_due / ours_all:.0f} ×",
                    f"{beat_bytes / 1e6:.0f}",
                ),
            ),
            "## Query plans",
            f"At {most:,} rows; each must find its way by an index.",
            found,
        )
    )


def _parts(on: Ground, database: str, room: int) -> Parts:
    """Parts whose sweep claims at most `room`, for so short that they can be claimed again soon."""
    seconds = 0.1
    return build(
        Settings(
            _env_file=None,
            database_url=database,
            redis_url=on.redis_url,
            encryption_keys=on.keys,
            evergrant_home=on.home,
            tesla_client_id=CLIENT_ID,
            tesla_client_secret=CLIENT_SECRET,
            tesla_token_url=on.token_url,
            refresh_rate=room / (2 * seconds),
            sweep_seconds=seconds,
        )
    )


def claim(on: Ground, parts: Parts, due: int, times: int) -> float:
    """CPU seconds of a sweep, the sweep's own and PostgreSQL's: the median of some."""
    rounds, taken = 10, []  # /proc counts hundredths of a second
    for _ in range(times):
        used = 0.0
        for _ in range(rounds):
            claimed: list[str] = []
            began = time.process_time() + cpu.seconds(on.roots)
            sweep(parts, claimed.extend)
            used += time.process_time() + cpu.seconds(on.roots) - began
            if len(claimed) != due:
                raise AssertionError(f"{len(claimed)} claimed of {due}")
            time.sleep(3.5 * parts.settings.sweep_seconds)  # until the claims have run out
        taken.append(used / rounds)
    return statistics.median(taken)


def index_bytes(on: Ground, database: str) -> int:
    with psycopg.connect(on.conninfo(database)) as connection:
        row = connection.execute("SELECT pg_relation_size('ix_grants_refresh_at')").fetchone()
        return int(row[0]) if row else 0


# --- an entry an owner --------------------------------------------------------------------------------


def redbeat(on: Ground, entries: int, due: int) -> tuple[float, float]:
    """CPU seconds of the tick that sends `due` of so many entries, of redbeat and Valkey, and their bytes."""
    from redbeat import RedBeatSchedulerEntry
    from redbeat.schedulers import RedBeatScheduler

    on.redis.flushall()
    before = _used_memory(on)
    app = _app(redbeat_redis_url=on.redis_url, redbeat_lock_key=None)
    now = datetime.now(UTC)
    for number in range(entries):
        RedBeatSchedulerEntry(
            f"refresh:{owner(number)}",
            "workers.refresh",
            schedule(timedelta(seconds=21_600), app=app),
            args=[owner(number)],
            last_run_at=now - timedelta(seconds=21_700 if number < due else 60),
            app=app,
        ).save()
    memory = _used_memory(on) - before
    scheduler = RedBeatScheduler(app, lazy=True)
    sent: list[object] = []
    scheduler.send_task = lambda *_, **__: sent.append(1)
    roots = [on.valkey.pid]
    began = time.process_time() + cpu.seconds(roots)
    scheduler.tick()
    used = time.process_time() + cpu.seconds(roots) - began
    if len(sent) != due:
        raise AssertionError(f"{len(sent)} sent of {due}")
    return used, memory


def celery_beat(entries: int, due: int) -> tuple[float, float]:
    """CPU seconds that Celery's own scheduler takes for one of so many entries, and their bytes."""
    gc.collect()
    before = cpu.memory([os.getpid()])
    app = _app()
    scheduler = Scheduler(app, lazy=True)
    now = app.now()
    for number in range(entries):
        scheduler.add(
            name=f"refresh:{number}",
            task="workers.refresh",
            schedule=schedule(timedelta(seconds=21_600), app=app),
            args=(owner(number),),
            last_run_at=now - timedelta(seconds=21_700 if number <= due else 60),
        )
    scheduler.apply_entry = lambda *_, **__: None
    scheduler.tick()  # builds its heap, once
    began = time.process_time()
    for _ in range(due):
        scheduler.tick()
    used = (time.process_time() - began) / due
    return used, cpu.memory([os.getpid()]) - before


def _app(**settings: Any) -> Celery:
    app = Celery("entries", broker="memory://", set_as_current=False)
    app.conf.update(settings)
    return app


def _used_memory(on: Ground) -> float:
    return float(on.redis.info("memory")["used_memory"])
