"""The hardest blows of the storm one by one, against real processes."""

from __future__ import annotations

import itertools
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from celery import Celery
from celery.utils import worker_direct
from sqlalchemy import func, select

from models.events import Kind, events
from models.grants import State, grants
from models.session import now
from tests.chaos import ledger
from tests.chaos.processes import wait_for
from tests.chaos.product import Options, Product
from tests.chaos.signin import Browser, sign_in
from workers.steps import Step

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

pytestmark = pytest.mark.processes

LIFE = 8
"""Seconds that an access token lives, where it shall fall due all the time."""


# --- Valkey is wiped ------------------------------------------------------------------------------------


def test_refreshes_go_on_ten_seconds_after_valkey_lost_everything_and_none_is_made_twice() -> None:
    options = Options(database="sqlite", token_seconds=LIFE, workers=2, attempt_deadline=6)
    with Product(options) as product:
        sign_in(product.web_url, owners(60))
        wait_for("a refresh of everybody", lambda: refreshed(product) >= 60, 30, product.tend)
        # More than all threads can do at once, so that tasks wait in Valkey, and are lost with it.
        product.fault(fault="slow", grant="refresh_token", where="before", seconds=2, count=60)
        wait_for("tasks that wait", lambda: waiting_for_a_thread(product) >= 10, 20, product.tend)
        product.valkey.kill()
        wait_for("Valkey's end", lambda: not product.valkey.process.alive, 5)
        before = generations(product)
        product.valkey.start(without_data=True)
        wait_for("a refresh after the wipe", lambda: generations(product) != before, 10, product.tend)
        wait_for(
            "everybody's after the wipe",
            lambda: all(number > before[owner] for owner, number in generations(product).items()),
            25,
            product.tend,
        )
        settle(product)
        totals = product.record()["totals"]
        assert totals["calls"] == totals["sign_ins"] + totals["rotations"]
        assert totals["rotations"] == refreshed(product)
        assert nothing_amiss(totals)
        assert shortest_time_between_two(product) > 1  # nobody was refreshed who was not due


def test_a_flush_while_calls_are_under_way_is_no_reason_to_call_twice() -> None:
    with Product(Options(database="postgresql", token_seconds=LIFE, workers=2)) as product:
        sign_in(product.web_url, owners(20))
        wait_for("a refresh of everybody", lambda: refreshed(product) >= 20, 30, product.tend)
        product.fault(fault="slow", grant="refresh_token", where="before", seconds=1.5, count=10)
        wait_for("calls under way", lambda: product.record()["totals"]["under_way"] >= 3, 15, product.tend)
        assert product.valkey.flush()  # their locks go as well
        before = refreshed(product)
        wait_for("refreshes after the flush", lambda: refreshed(product) >= before + 20, 25, product.tend)
        settle(product)
        totals = product.record()["totals"]
        assert totals["rotations"] == refreshed(product)
        assert nothing_amiss(totals)


# --- SQL is away ----------------------------------------------------------------------------------------


def test_what_tesla_answered_while_postgresql_was_away_is_in_the_table_after_it() -> None:
    with Product(Options(database="postgresql", token_seconds=LIFE, workers=2)) as product:
        assert product.postgresql is not None
        sign_in(product.web_url, owners(20))
        wait_for("a refresh of everybody", lambda: refreshed(product) >= 20, 30, product.tend)
        product.fault(fault="slow", grant="refresh_token", where="after", seconds=2, count=10)
        wait_for("calls under way", lambda: product.record()["totals"]["under_way"] >= 5, 20, product.tend)
        product.postgresql.stop(immediate=True)
        away = time.monotonic()
        wait_for("answers in the escrow", lambda: len(escrowed(product)) >= 3, 15, product.tend)
        wait_for("ten seconds", lambda: time.monotonic() - away > 10, 11, product.tend)
        waiting = escrowed(product)
        product.postgresql.start()
        wait_for("PostgreSQL", product.postgresql.answers, 15, product.tend)
        wait_for("them in the table", lambda: waiting <= in_the_table(product), 10, product.tend)
        wait_for("everybody alive", lambda: not without_a_token(product), 30, product.tend)
        settle(product)
        books = ledger.read(product.folder, product.database, product.keys)
        assert not books.lost_from_the_store
        assert books.current == books.newest
        assert nothing_amiss(product.record()["totals"])


# --- Tesla is away --------------------------------------------------------------------------------------


def test_tesla_down_for_longer_than_a_token_lives_costs_no_sign_in() -> None:
    rate = 10.0
    with Product(Options(database="sqlite", token_seconds=LIFE, workers=2, refresh_rate=rate)) as product:
        sign_in(product.web_url, owners(30))
        wait_for("a refresh of everybody", lambda: refreshed(product) >= 30, 30, product.tend)
        product.fault(fault="reset", grant="refresh_token", where="before")
        wait_for(
            "the end of all access tokens",
            lambda: len(without_a_token(product)) == 30,
            LIFE + 5,
            product.tend,
        )
        product.clear_faults()
        wait_for("everybody alive again", lambda: not without_a_token(product), 45, product.tend)
        settle(product)
        totals = product.record()["totals"]
        assert (totals["sign_ins"], totals["alive"]) == (30, 30)
        assert states(product) == {State.ALIVE}
        # Calls leave at a little less than the rate; one may be on its way for longer than the one behind it.
        assert totals["max_calls_per_second"] <= rate + 1
        assert nothing_amiss(totals)


# --- twenty at once -------------------------------------------------------------------------------------


def test_twenty_callers_in_six_processes_cost_one_call_and_get_one_generation(tmp_path: Path) -> None:
    options = Options(database="sqlite", token_seconds=600, workers=2, attempt_deadline=15)
    with Product(options) as product:
        [browser] = sign_in(product.web_url, owners(1))
        before = product.record()["totals"]["calls"]
        [stale] = generations(product).values()
        # Long enough for a command line to start: who asks after the end asks for another.
        product.fault(fault="slow", grant="refresh_token", where="before", seconds=8, count=1)
        notes = [tmp_path / f"{number}" for number in range(12)]
        with (
            Celery(broker=product.valkey.url.replace("unix", "redis+socket")) as broker,
            ThreadPoolExecutor(8) as pool,
        ):
            for number, note in enumerate(notes):  # six in each worker
                name = product.workers[number % 2].name
                queue = worker_direct(f"{name}@{socket.gethostname()}")
                broker.send_task("tests.chaos.ask", (browser.owner, stale, str(note)), queue=queue)
            others = [pool.submit(press, browser) for _ in range(5)]
            others += [pool.submit(command_line, product, browser.owner) for _ in range(3)]
            wait_for("the workers' callers", lambda: all(note.exists() for note in notes), 30, product.tend)
            got = [note.read_text() for note in notes] + [other.result() for other in others]
        assert len(got) == 20
        assert {int(re.findall(r"\d+", each)[-1]) for each in got} == {stale + 1}, str(got)
        totals = product.record()["totals"]
        assert totals["calls"] == before + 1
        assert totals["rotations"] == 1


def press(browser: Browser) -> str:
    """Presses "Refresh now"; the generation that the page then shows."""
    page = browser.refresh()
    found = re.search(r"<dt>Generation</dt><dd>(\d+)", page.text)
    assert found, page.text
    return found[1]


def command_line(product: Product, owner: str) -> str:
    """What the command line says after a refresh."""
    ran = subprocess.run(
        [sys.executable, "-m", "evergrant", "owners", "refresh", owner],
        cwd=product.code,
        env=product.environment(product.machines[0], "command-line"),
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout.strip()


# --- looking --------------------------------------------------------------------------------------------


def owners(count: int) -> list[str]:
    return [f"Owner {number:04d}" for number in range(count)]


def refreshed(product: Product) -> int:
    """How many refreshes the table knows of."""
    query = select(func.count()).select_from(events).where(events.c.kind == Kind.REFRESHED.value)
    with product.database.read() as connection:
        return int(connection.execute(query).scalar_one())


def shortest_time_between_two(product: Product) -> float:
    """Seconds between two refreshes of the same owner."""
    query = select(events.c.owner, events.c.at).where(events.c.kind == Kind.REFRESHED.value)
    with product.database.read() as connection:
        rows = sorted((row.owner, row.at) for row in connection.execute(query))
    return float(min((b[1] - a[1]).total_seconds() for a, b in itertools.pairwise(rows) if a[0] == b[0]))


def without_a_token(product: Product) -> set[str]:
    """Owners whose access token has run out."""
    query = select(grants.c.owner).where(grants.c.access_expires_at <= now())
    with product.database.read() as connection:
        return set(connection.execute(query).scalars())


def states(product: Product) -> set[str]:
    with product.database.read() as connection:
        return set(connection.execute(select(grants.c.state)).scalars())


def generations(product: Product) -> dict[str, int]:
    with product.database.read() as connection:
        rows = connection.execute(select(grants.c.owner, grants.c.generation))
        return {row.owner: row.generation for row in rows}


def waiting_for_a_thread(product: Product) -> int:
    """How many tasks were sent and have not begun."""
    query = (
        select(func.count())
        .select_from(grants)
        .where(grants.c.claimed_until > now(), grants.c.attempt_id.is_(None))
    )
    with product.database.read() as connection:
        return int(connection.execute(query).scalar_one())


def escrowed(product: Product) -> set[str]:
    """Attempts of which the answer went into the escrow."""
    notes = ledger.read_notes(product.folder / "steps")
    return {note.attempt for note in notes if note.step is Step.ESCROWED}


def in_the_table(product: Product) -> set[str]:
    """Attempts of which the answer came to the table."""
    kinds = [Kind.REFRESHED.value, Kind.SPARE_KEPT.value]
    query = select(events.c.correlation_id).where(events.c.kind.in_(kinds))
    with product.database.read() as connection:
        return set(connection.execute(query).scalars())


def settle(product: Product) -> None:
    """Lets what is under way end, and no more begin: beats, workers and the web app stop."""
    services = [*product.beats, *product.workers, product.web]
    stopping = [threading.Thread(target=child.end, kwargs={"seconds": 10}) for child in services]
    for each in stopping:
        each.start()
    for each in stopping:
        each.join()


def nothing_amiss(totals: dict[str, Any]) -> bool:
    """Tesla saw no two calls at once and no old token."""
    return not any(
        totals[name]
        for name in ("overlaps", "superseded_presented", "superseded_after_refusal", "reused_in_grace")
    )
