"""A key opens what it was made for, as long as it was made for, and nothing that is kept opens anything."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text, update

from models import api_keys
from models.api_keys import KeyLookup, Scope
from models.session import Database, now

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.models.conftest import Table

FOR_TOKENS = (Scope.TOKENS_READ,)


def make(database: Database, **changes: Any) -> str:
    given: dict[str, Any] = {"name": "a program", "scopes": FOR_TOKENS}
    with database.write() as connection:
        return api_keys.create(connection, **given | changes)[1]


def test_a_key_finds_itself_and_the_owners_grant(table: Table) -> None:
    table.connect("ann")
    use = KeyLookup(table.database).find(make(table.database), "ann")
    assert use is not None
    assert use.grant is not None
    assert use.grant == replace(table.read(), read_at=use.grant.read_at)
    assert use.grant.access_token(table.keyring) == "access-0"
    assert (use.key.name, use.key.scopes, use.allows_owner) == ("a program", "tokens:read", True)
    assert use.key.may(Scope.TOKENS_READ)
    assert not use.key.may(Scope.GATEWAY)


def test_an_owner_who_has_never_signed_in_has_no_grant(database: Database) -> None:
    use = KeyLookup(database).find(make(database), "nobody")
    assert use is not None
    assert use.grant is None


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "evergrant_",
        "evergrant_000000000000_" + "x" * 43,
        "Evergrant",
        "evergrant_é00000000000_" + "x" * 43,
    ],
)
def test_what_is_no_key_finds_nothing(database: Database, wrong: str) -> None:
    make(database)
    assert KeyLookup(database).find(wrong, "ann") is None


def test_the_right_id_with_another_secret_finds_nothing(database: Database) -> None:
    one, other = make(database), make(database)
    mixed = one[: one.rindex("_", 0, 23) + 1] + other[23:]
    assert mixed[:22] == one[:22]
    assert mixed != one
    assert KeyLookup(database).find(mixed, "ann") is None


def test_only_a_digest_is_kept(database: Database) -> None:
    key = make(database)
    with database.read() as connection:
        kept = str(connection.execute(select(api_keys.api_keys)).all())
    assert key[23:] not in kept


def test_revoked_is_revoked_for_the_next_use(database: Database) -> None:
    lookup, key = KeyLookup(database), make(database)
    found = lookup.find(key)
    assert found is not None
    with database.write() as connection:
        assert api_keys.revoke(connection, found.key.id)
        assert not api_keys.revoke(connection, found.key.id), "a second time"
        assert not api_keys.revoke(connection, "000000000000")
    found = lookup.find(key)
    assert found is not None
    assert found.key.revoked_at is not None


def test_it_ends_by_the_databases_clock(database: Database) -> None:
    lookup = KeyLookup(database)
    for lives, ended in ((60.0, False), (-1.0, True), (None, False)):
        use = lookup.find(make(database, lives=lives))
        assert use is not None
        assert use.key.has_ended is ended


def test_a_restricted_key_sees_its_own_owners_only(table: Table) -> None:
    table.connect("ann")
    table.connect("bob")
    lookup, key = KeyLookup(table.database), make(table.database, owners=["ann", "zoe"])
    seen = {owner: lookup.find(key, owner) for owner in ("ann", "bob", "zoe")}
    assert {owner: use and (use.allows_owner, use.grant is not None) for owner, use in seen.items()} == {
        "ann": (True, True),
        "bob": (False, False),
        "zoe": (True, False),
    }
    with table.database.read() as connection:
        assert api_keys.owners_of(connection, key.split("_")[1]) == ["ann", "zoe"]
    nobody = lookup.find(make(table.database, owners=[]), "ann")
    assert nobody is not None
    assert not nobody.allows_owner, "an empty list is no list of all"


def test_the_last_use_is_written_once_a_minute(database: Database) -> None:
    key = make(database)
    lookup = KeyLookup(database)

    def last() -> object:
        use = lookup.find(key)
        assert use is not None
        return use.key.last_used_at

    assert last() is None
    key_id = key.split("_")[1]
    for seconds, moves in ((None, True), (0, False), (59, False), (61, True)):
        with database.write() as connection:
            if seconds is not None:
                table = api_keys.api_keys
                connection.execute(update(table).values(last_used_at=now(-seconds)))
        before = last()
        with database.write() as connection:
            api_keys.note_use(connection, key_id)
        assert (last() != before) is moves, seconds


def test_the_newest_stands_first(database: Database) -> None:
    first = make(database, name="first")
    with database.write() as connection:
        connection.execute(update(api_keys.api_keys).values(created_at=now(-1)))
    make(database, name="second")
    with database.read() as connection:
        assert [key.name for key in api_keys.latest(connection)] == ["second", "first"]
        found = api_keys.read(connection, first.split("_")[1])
        assert found is not None
        assert found.name == "first"
        assert api_keys.read(connection, "000000000000") is None


def test_a_connection_that_was_cut_is_replaced(postgresql: Callable[[], str]) -> None:
    database = Database(postgresql())
    try:
        lookup, key = KeyLookup(database), make(database)
        assert lookup.find(key) is not None
        with database.write() as connection:
            cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            connection.execute(text(cut + " AND datname = current_database()"))
        assert lookup.find(key) is not None
    finally:
        database.close()
