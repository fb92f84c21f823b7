"""A refresh, from the sweep to the commit: what it costs beside doing nothing, doing it by the book, and the
floor. In CPU milliseconds a refresh, of all processes but Tesla's stand-in."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psycopg
from celery import Celery

from bench import cpu
from bench.fill import Spread, fill, owner
from bench.ground import Ground, ground, until
from bench.results import table
from bench.standin import access_token, refresh_token
from models.crypto import Keyring
from settings import ROOT
from workers.lanes import all_lanes

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.results import Size

LANES = 8
WARM = 200
DUE = Spread(due=1)


def run(size: Size, say: Callable[[str], None]) -> str:
    count, rounds = (60, 1) if size.quick else (1500, 3)
    found: dict[str, float] = {}
    ways = {"evergrant": evergrant, "noop": noop, "book": book, "floor": floor, "silent": silent}
    for tls in (False, True):
        with ground(tls=tls) as on:
            for way in rounds * (["evergrant", "book"] if tls else list(ways)):
                name = f"{way} over TLS" if tls else way
                used = 1000 * ways[way](on, count) / count
                say(f"{name} {used:.2f} ms")
                # The cheapest round decides: whatever else a machine does only adds to it.
                found[name] = min(found.get(name, used), used)
    ours, nothing, by_the_book, least, quiet = (found[name] for name in ways)
    safe, book_safe = found["evergrant over TLS"], found["book over TLS"]
    price = (
        f"With `worker_send_task_events` off it is {quiet:.2f} ms: the difference is what the worker and "
        "Redis pay for the events that Flower shows, where three rounds can tell it from noise. What Flower "
        "itself uses is in the ten minutes with a million owners."
    )
    return "\n\n".join(
        (
            "## A refresh, from the sweep to the commit",
            "As many as one worker makes; the no-op and the by-the-book solution run with the same settings.",
            table(
                ("Evergrant", "CPU ms", "compared with", "CPU ms", "ratio", "goal"),
                ("", f"{ours:.2f}", "a Celery no-op", f"{nothing:.2f}", f"{ours / nothing:.2f} ×", "≤ 3 ×"),
                (
                    "",
                    f"{ours:.2f}",
                    "the floor and a no-op",
                    f"{least:.2f} + {nothing:.2f}",
                    f"{ours / (least + nothing):.2f} ×",
                    "≤ 2 ×",
                ),
                (
                    "",
                    f"{ours:.2f}",
                    "by the book",
                    f"{by_the_book:.2f}",
                    f"{ours / by_the_book:.2f} ×",
                    "≤ 0.7 ×",
                ),
                (
                    "over TLS, which Tesla speaks",
                    f"{safe:.2f}",
                    "by the book, over TLS",
                    f"{book_safe:.2f}",
                    f"{safe / book_safe:.2f} ×",
                    "≤ 0.7 ×",
                ),
            ),
            price,
        )
    )


class Worker:
    """A worker process, and how to send it a task."""

    def __init__(self, on: Ground, app: str, environment: dict[str, str]) -> None:
        self.on = on
        on.redis.flushall()
        words = [*("-m", "celery", "--quiet", "--app", app, "worker", "--hostname", f"{app}@%h")]
        words += ["--without-gossip", "--without-mingle", "--loglevel", "info"]
        self.process = on.start(app, words, environment)
        self.broker = Celery(broker="redis+socket://" + on.redis_url.removeprefix("unix://"))
        self.broker.conf.broker_transport_options = {"priority_steps": [0]}
        self.broker.conf.task_ignore_result = True

    def send(self, task: str, *arguments: object) -> None:
        self.broker.send_task(task, arguments, queue="sweep")

    def cpu(self) -> float:
        return cpu.seconds([self.process.pid, *self.on.roots])

    def end(self) -> None:
        self.broker.close()
        self.on.end(self.process)


def silent(on: Ground, count: int) -> float:
    """Without task events."""
    return evergrant(on, count, app="bench.silent")


def noop(on: Ground, count: int) -> float:
    worker = Worker(on, "bench.noop", on.environment("sqlite://", lanes=LANES))
    lanes = all_lanes(LANES)

    def taken() -> bool:
        return not on.redis.exists(*lanes, "sweep", "unacked")

    worker.send("bench.publish", 0, WARM)
    until("the first tasks are taken", taken)
    time.sleep(1)
    until("the first tasks are taken", taken)
    before = worker.cpu()
    worker.send("bench.publish", WARM, count)
    time.sleep(0.5)
    until("all tasks are taken", taken, 300)
    used = worker.cpu() - before
    worker.end()
    return used


def evergrant(on: Ground, count: int, *, app: str = "workers") -> float:
    database = on.database()
    keyring = Keyring.parse(on.keys)
    environment = on.environment(database, lanes=LANES, sweep_seconds=60, refresh_rate=10_000)
    worker = Worker(on, app, environment)
    fill(database, keyring, WARM, spread=DUE)
    _refreshed(on, database, _once(lambda: worker.send("workers.sweep")), "grants")
    fill(database, keyring, count, spread=DUE, first=WARM)
    with psycopg.connect(on.conninfo(database), autocommit=True) as connection:
        connection.execute("DELETE FROM pulses")  # or the sweep would find that another has just run
    before = worker.cpu()
    _refreshed(on, database, _once(lambda: worker.send("workers.sweep")), "grants")
    used = worker.cpu() - before
    worker.end()
    return used


def book(on: Ground, count: int) -> float:
    database = on.database()
    environment = on.environment(database, lanes=LANES)
    subprocess.run([sys.executable, "-m", "bench.by_the_book"], cwd=ROOT, env=environment, check=True)
    worker = Worker(on, "bench.by_the_book", environment)

    def sign_in(first: int, number: int) -> None:
        with psycopg.connect(on.conninfo(database), autocommit=True) as connection:
            with connection.cursor().copy("COPY book_tokens FROM STDIN") as copy:
                for who in map(owner, range(first, first + number)):
                    copy.write_row((who, access_token(who, 0), refresh_token(who), 0.0))
            connection.execute("VACUUM ANALYZE book_tokens")

    sign_in(0, WARM)
    _refreshed(on, database, _once(lambda: worker.send("book.sweep")), "book_tokens")
    sign_in(WARM, count)
    before = worker.cpu()
    _refreshed(on, database, _once(lambda: worker.send("book.sweep")), "book_tokens")
    used = worker.cpu() - before
    worker.end()
    return used


def floor(on: Ground, count: int) -> float:
    database = on.database()
    fill(database, Keyring.parse(on.keys), count, spread=DUE)
    before = cpu.seconds(on.roots)
    loop = subprocess.run(
        [sys.executable, "-m", "bench.floor"],
        cwd=ROOT,
        env=on.environment(database),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return float(loop.stdout) + cpu.seconds(on.roots) - before


_LEFT = {
    "grants": "SELECT count(*) FROM grants WHERE refresh_at <= statement_timestamp()",
    "book_tokens": "SELECT count(*) FROM book_tokens WHERE expires_at = 0",
}


def _refreshed(on: Ground, database: str, sweep: Callable[[], None], table: str) -> None:
    """Sweeps until nothing is due."""
    with psycopg.connect(on.conninfo(database), autocommit=True) as connection:
        end = time.monotonic() + 300
        while True:
            left = connection.execute(_LEFT[table]).fetchone()
            if not left or not left[0]:
                return
            if time.monotonic() > end:
                raise TimeoutError(f"{left[0]} are still due: see {on.folder}")
            sweep()
            time.sleep(0.5)


def _once(do: Callable[[], None]) -> Callable[[], None]:
    todo = [do]
    return lambda: todo.pop()() if todo else None
