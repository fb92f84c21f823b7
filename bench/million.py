"""A million owners for real: all processes, against a stand-in with Tesla's latency, for some minutes.

Owners fall due as in life, which makes 46 a second.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psycopg
import requests

from bench import cpu
from bench.fill import Spread, fill
from bench.ground import Ground, free_port, ground, until
from bench.results import table
from models.crypto import Keyring
from workers.lanes import all_lanes

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import Popen

    from bench.results import Size

LATENCY, TAIL = 0.3, 0.6
"""The stand-in's median in seconds, and the sigma of its log-normal distribution: one call in a hundred takes
more than four times as long."""

CONCURRENCY = 48
"""Threads of the one worker: 46 a second, 0.36 s each, make 17 at once; the rest is for the tail."""

PROGRAMS = ("web", "worker", "beat", "flower")
SAMPLE_SECONDS = 10.0

# Seconds from falling due to the commit, of the refreshes since a moment.
_LATENESS = """
SELECT count(*),
  percentile_cont(ARRAY[0.5, 0.99, 1]) WITHIN GROUP (
    ORDER BY late + extract(epoch FROM events.at - grants.refreshed_at))
FROM events JOIN grants USING (owner, generation)
WHERE events.id > %s AND kind = 'refreshed'
"""

_OVERDUE = "SELECT count(*) FROM grants WHERE refresh_at < now() - interval '10 s'"


def run(size: Size, say: Callable[[str], None]) -> str:
    owners, seconds = (2_000, 6.0) if size.quick else (size.owners, 60 * size.minutes)
    with ground(latency=LATENCY, spread=TAIL) as on:
        database = on.database()
        began = time.monotonic()
        fill(
            database,
            Keyring.parse(on.keys),
            owners,
            # Filling takes minutes, in which nobody should fall due; 46 a second is what a million make.
            spread=Spread(due=0.02) if size.quick else Spread(gap=owners / 7_000),
            progress=lambda n: say(f"{n:,} of {owners:,} owners") if n % 100_000 == 0 else None,
        )
        say(f"filled in {time.monotonic() - began:.0f} s")
        return _run(on, database, owners, seconds, say)


def _run(on: Ground, database: str, owners: int, seconds: float, say: Callable[[str], None]) -> str:
    environment = on.environment(
        database,
        worker_concurrency=CONCURRENCY,
        web_port=free_port(),
        flower_port=free_port(),
        operator_password="bench",  # noqa: S106
    )
    programs = {name: on.start(name, ["-m", "evergrant", "run", name], environment) for name in PROGRAMS}
    with psycopg.connect(on.conninfo(database), autocommit=True) as connection:
        until("refreshes go on", lambda: _number(connection, "SELECT count(*) FROM events") > 5, 600)
        until("what was due at the start is done", lambda: _number(connection, _OVERDUE) == 0, 600)
        time.sleep(min(20, seconds / 6))
        before = _CPU(on, programs)
        # In a minute or less hardly anybody falls due: then those count who were due at the start.
        first = 0 if seconds <= 60 else _number(connection, "SELECT max(id) FROM events")
        size_before = _number(connection, "SELECT pg_database_size(current_database())")
        memory, queued = [before.memory], [0]
        began = time.monotonic()
        while (elapsed := time.monotonic() - began) < seconds:
            time.sleep(min(SAMPLE_SECONDS, seconds - elapsed))
            queued.append(sum(on.redis.llen(lane) for lane in all_lanes(8)))
            if len(queued) % 6 == 0:
                memory.append(_CPU(on, programs).memory)
                say(f"{elapsed:.0f} s of {seconds:.0f}: {memory[-1] / 1e6:.0f} MB, {queued[-1]} queued")
        after = _CPU(on, programs)
        elapsed = time.monotonic() - began
        time.sleep(5)  # what is under way is committed
        done, measured = connection.execute(_LATENESS, (first,)).fetchone() or (0, None)
        late = measured or [float("nan")] * 3  # nothing was refreshed
        out = _number(connection, "SELECT count(*) FROM grants WHERE access_expires_at < now()")
        size_after = _number(connection, "SELECT pg_database_size(current_database())")
        events = _number(connection, "SELECT pg_total_relation_size('events')")
        number = _number(connection, "SELECT count(*) FROM events")
        dead = _number(connection, "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'grants'")
    record = requests.get(on.token_url, timeout=10).json()
    for process in programs.values():
        on.end(process)
    used = {name: after.seconds[name] - before.seconds[name] for name in after.seconds}
    total = sum(used.values())
    how = (
        f"{owners:,} owners in PostgreSQL, {elapsed / 60:.1f} minutes, {done / elapsed:.1f} refreshes/s; "
        f"a stand-in that answers after {LATENCY * 1000:.0f} ms (median; one in a hundred after more than "
        f"1.2 s). One worker with {CONCURRENCY} threads, everything else as it comes."
    )
    shares = ", ".join(f"{name} {used[name] / elapsed:.1%}" for name in sorted(used, key=lambda n: -used[n]))
    return "\n\n".join(
        (
            "## A million owners",
            how,
            table(
                ("", "measured", "goal"),
                ("CPU of all processes", f"{total / elapsed:.0%} of one core", "≤ 35 %"),
                ("CPU a refresh", f"{1000 * total / max(done, 1):.2f} ms", ""),
                ("from due to committed: p50", f"{late[0]:.1f} s", ""),
                ("p99", f"{late[1]:.1f} s", "≤ 15 s"),
                ("longest", f"{late[2]:.1f} s", ""),
                ("access tokens that ran out", f"{out:,}", "0"),
                ("refresh tokens presented twice", f"{record['again']:,}", "0"),
                (
                    "memory of all, each minute",
                    f"{', '.join(f'{each / 1e6:.0f}' for each in memory)} MB",
                    "flat",
                ),
                ("most that waited in the lanes", f"{max(queued):,}", ""),
                ("database", f"{size_before / 1e9:.2f} GB, and {size_after / 1e9:.2f} GB at the end", ""),
                ("an event", f"{events / max(number, 1):.0f} bytes with its indexes", ""),
                ("dead rows of grants at the end", f"{dead:,}", ""),
            ),
            f"By process, of one core: {shares}.",
        )
    )


class _CPU:
    """What each has used and all hold at this moment."""

    def __init__(self, on: Ground, programs: dict[str, Popen[Any]]) -> None:
        pids = {name: process.pid for name, process in programs.items()}
        pids |= {"postgresql": on.postgresql.pid, "valkey": on.valkey.pid}
        self.seconds = {name: cpu.seconds([pid]) for name, pid in pids.items()}
        self.memory = cpu.memory(pid for name, pid in pids.items() if name != "postgresql")


def _number(connection: psycopg.Connection[Any], query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    return int(row[0] or 0) if row else 0
