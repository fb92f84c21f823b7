"""A grant that nobody refreshed for too long is announced once, before Tesla ends it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import update

from models import pausing, webhooks
from models.ending import BEFORE, say_ending
from models.grants import grants
from models.session import now
from models.spares import LIFE

if TYPE_CHECKING:
    from tests.models.conftest import Table


def unused(table: Table, owner: str, seconds: float, *, paused: bool = False) -> None:
    """A grant whose last refresh was so long ago."""
    table.connect(owner)
    with table.database.write() as connection:
        times = {"refreshed_at": now(-seconds), "refresh_at": now(20_000 - seconds)}
        connection.execute(update(grants).where(grants.c.owner == owner).values(**times))
    if paused:
        assert pausing.pause(table.database, owner, correlation_id="c")


def say(table: Table, limit: int = 100) -> int:
    with table.database.write() as connection:
        return say_ending(connection, limit)


def test_it_is_said_once_in_time_whether_it_fails_or_is_paused(table: Table) -> None:
    with table.database.write() as connection:
        endpoint, _ = webhooks.add(connection, table.keyring, "https://example.com/", ["grant.ending"])
    soon = LIFE - BEFORE + 60
    unused(table, "failing", soon)
    unused(table, "paused", soon, paused=True)
    unused(table, "not yet", LIFE - BEFORE - 60)
    unused(table, "not yet, paused", LIFE - BEFORE - 60, paused=True)
    table.connect("fresh")
    assert say(table, limit=1) == 1
    assert say(table) == 1
    assert say(table) == 0
    with table.database.read() as connection:
        told = webhooks.latest(connection, endpoint, 10)
    assert {message.owner for message in told} == {"failing", "paused"}
    for message in told:
        refreshed = table.read(message.owner or "").refreshed_at
        assert message.ends_at == refreshed + timedelta(seconds=LIFE)


def test_after_a_refresh_it_may_be_said_again(table: Table) -> None:
    unused(table, "ann", LIFE - BEFORE + 60)
    assert say(table) == 1
    table.settle(table.answer(table.attempt("ann"), "refresh-1"))
    assert say(table) == 0
    with table.database.write() as connection:
        times = {"refreshed_at": now(BEFORE - LIFE), "refresh_at": now(BEFORE - LIFE)}
        connection.execute(update(grants).values(**times))
    assert say(table) == 1
