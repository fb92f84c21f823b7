"""What the product does when what it leans on goes away and comes back: as whole processes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from models.events import Kind, events
from models.grants import State, grants
from models.session import now
from tests.chaos import ledger, signin
from tests.chaos.processes import wait_for
from tests.chaos.product import Options, Product
from workers.steps import Step

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]


def _sign_in(product: Product, count: int) -> None:
    for browser in signin.sign_in(product.web_url, [f"Owner {number}" for number in range(count)]):
        browser.close()


def _total(product: Product, name: str) -> int:
    value: int = product.record()["totals"][name]
    return value


def _states(product: Product) -> list[tuple[str, bool]]:
    """Each grant's state, and whether its access token is valid."""
    query = select(grants.c.state, grants.c.access_expires_at > now())
    with product.database.read() as connection:
        return [(row[0], bool(row[1])) for row in connection.execute(query)]


@pytest.mark.parametrize("wipe", ["flushall", "restarted without its data"])
def test_refreshes_go_on_when_valkey_lost_everything(wipe: str) -> None:
    with Product(Options(database="sqlite", token_seconds=10)) as product:
        _sign_in(product, 12)
        wait_for("refreshes", lambda: _total(product, "rotations") >= 12, 20, product.tend)
        if wipe == "flushall":
            assert product.valkey.flush()
        else:
            product.valkey.kill()
            wait_for("its end", lambda: not product.valkey.process.alive, 5)
            product.valkey.start(without_data=True)
        # Owners fall due all the time: who was refreshed before is refreshed again within seconds.
        before = _total(product, "rotations")
        wait_for("refreshes after the wipe", lambda: _total(product, "rotations") > before, 10, product.tend)
        wait_for(
            "a refresh of everybody", lambda: _total(product, "rotations") >= before + 12, 20, product.tend
        )
        totals = product.record()["totals"]
        assert (totals["overlaps"], totals["reused_in_grace"], totals["superseded_presented"]) == (0, 0, 0)
        assert all(state == State.ALIVE for state, _ in _states(product))


def test_answers_that_come_while_postgresql_is_down_reach_the_table() -> None:
    with Product(Options(database="postgresql", token_seconds=10)) as product:
        assert product.postgresql is not None
        _sign_in(product, 12)
        wait_for("refreshes", lambda: _total(product, "rotations") >= 12, 20, product.tend)
        number = product.fault(fault="slow", where="after", seconds=2, count=6)
        wait_for("calls under way", lambda: _total(product, "under_way") > 0, 20, product.tend)
        product.postgresql.stop(immediate=False)
        down = time.monotonic()
        escrowed = _escrowed(product)
        wait_for("answers in the escrow", lambda: bool(escrowed()), 10, product.tend)
        wait_for("ten seconds without SQL", lambda: time.monotonic() > down + 10, 11, product.tend)
        waiting = escrowed()
        product.postgresql.start()
        wait_for("PostgreSQL", product.postgresql.answers, 20, product.tend)
        stored = select(events.c.correlation_id).where(events.c.kind == Kind.REFRESHED.value)

        def all_are_there() -> bool:
            with product.database.read() as connection:
                return waiting <= set(connection.execute(stored).scalars())

        wait_for("every answer in the table", all_are_there, 10, product.tend)
        assert number
        totals = product.record()["totals"]
        assert (totals["overlaps_live"], totals["reused_in_grace"], totals["superseded_presented"]) == (
            0,
            0,
            0,
        )


def _escrowed(product: Product) -> Callable[[], set[str]]:
    def attempts() -> set[str]:
        notes = ledger.read_notes(product.folder / "steps")
        return {note.attempt for note in notes if note.step is Step.ESCROWED}

    return attempts


def test_tesla_is_down_for_longer_than_an_access_token_lives() -> None:
    rate = 4.0
    with Product(Options(database="postgresql", token_seconds=10, refresh_rate=rate)) as product:
        _sign_in(product, 16)
        wait_for("refreshes", lambda: _total(product, "rotations") >= 16, 30, product.tend)
        product.fault(fault="reset", grant="refresh_token")
        wait_for(
            "the end of all access tokens",
            lambda: not any(valid for _, valid in _states(product)),
            30,
            product.tend,
        )
        product.clear_faults()
        wait_for(
            "everybody's access token", lambda: all(valid for _, valid in _states(product)), 60, product.tend
        )
        assert all(state == State.ALIVE for state, _ in _states(product))
        totals = product.record()["totals"]
        assert totals["sign_ins"] == totals["alive"] == 16
        assert totals["max_calls_per_second"] <= rate
