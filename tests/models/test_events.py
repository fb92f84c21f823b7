"""What happened, as it is read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.events import Kind, latest, latest_of, record

if TYPE_CHECKING:
    from tests.models.conftest import Table


def test_the_last_of_each_owner_in_one_go(table: Table) -> None:
    for owner, waits in (("ann", 5), ("bob", 1), ("cleo", 0)):
        table.connect(owner)
        with table.database.write() as connection:
            for number in range(waits):
                record(connection, Kind.WAITING, owner=owner, generation=number)
    with table.database.read() as connection:
        found = latest_of(connection, ["ann", "bob", "nobody"], 3)
        assert found == {
            "ann": latest(connection, "ann", 3),
            "bob": latest(connection, "bob", 3),
            "nobody": [],
        }
        assert [event.generation for event in found["ann"]] == [4, 3, 2]
        assert [event.kind for event in found["bob"]] == ["waiting", "connected"]
        assert latest_of(connection, [], 3) == {}


def test_each_access_token_says_until_when_it_is_good(table: Table) -> None:
    table.connect(expires_in=100)
    attempt = table.attempt()
    table.settle(table.answer(attempt, "one", expires_in=500))
    with table.database.read() as connection:
        refreshed, connected = latest(connection, "ann")
    assert connected.access_expires_at is not None
    assert 98 <= (connected.access_expires_at - connected.at).total_seconds() <= 101
    assert refreshed.access_expires_at == table.read().access_expires_at

    # An answer that broke off behind its refresh token brought no access token.
    table.settle(table.answer(table.attempt(stale=1), "two", access_token=None))
    with table.database.read() as connection:
        assert latest(connection, "ann")[0].access_expires_at is None
