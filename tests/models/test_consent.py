"""The owner's last word wins, in whatever order words are stored."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, update

from models import consent, grants
from models.consent import SignIn, erasures
from models.session import now

if TYPE_CHECKING:
    from tests.models.conftest import Table


def clock(table: Table) -> datetime:
    """The database's, at a moment that nothing else bears yet: SQLite counts milliseconds."""
    with table.database.read() as connection:
        before: datetime = connection.execute(select(now())).scalar_one()
        while (at := connection.execute(select(now())).scalar_one()) == before:
            pass
    return at


def signin(table: Table, name: str, **changes: Any) -> SignIn:
    """A sign-in of ann's, who has just come back from Tesla."""
    values: dict[str, Any] = {
        "owner": "ann",
        "access_token": f"access-{name}",
        "refresh_token": f"refresh-{name}",
        "expires_in": 60,
        "due_in": 45,
        "requested_scopes": "openid offline_access",
        "scopes": "openid",
        "region": "NA",
        "fleet_url": "http://localhost/na",
        "correlation_id": name,
        "said_at": clock(table),
    }
    return SignIn(**values | changes)


def store(table: Table, signin: SignIn) -> int | None:
    return signin.store(table.database, table.keyring)


def test_a_sign_in_that_is_stored_late_counts_from_when_it_was_said(table: Table) -> None:
    said_at = clock(table) - timedelta(minutes=5)
    assert store(table, signin(table, "one", said_at=said_at)) == 0
    grant = table.read()
    assert grant.access_expires_at == said_at + timedelta(seconds=60)
    assert grant.refresh_at == said_at + timedelta(seconds=45)


def test_it_is_stored_once(table: Table) -> None:
    """The word of the first commit was lost on the way, and a refresh was quicker than the second try."""
    said = signin(table, "one")
    again = SignIn.from_json(said.to_json())
    assert again == said
    assert store(table, said) == 0
    table.settle(table.answer(table.attempt(stale=0), "rotated"))
    assert store(table, again) == 1
    assert table.current() == "rotated"
    assert table.kinds() == ["connected", "refreshed"]


def test_an_older_sign_in_does_not_overwrite_a_newer(table: Table) -> None:
    stalled = signin(table, "stalled")
    assert store(table, signin(table, "newer")) == 0
    assert store(table, stalled) is None
    assert table.current() == "refresh-newer"
    assert table.kinds() == ["connected"]


def test_a_newer_one_overwrites_an_older_that_was_stored_in_between(table: Table) -> None:
    slow = signin(table, "slow")
    newer = signin(table, "newer", said_at=slow.said_at + timedelta(milliseconds=1))
    store(table, slow)
    assert store(table, newer) == 1
    assert table.current() == "refresh-newer"


def test_a_stalled_sign_in_does_not_undo_a_disconnection(table: Table) -> None:
    table.connect()
    stalled = signin(table, "stalled")
    consent.disconnect(table.database, "ann", correlation_id="c")
    assert store(table, stalled) is None
    assert table.read().state == "disconnected"
    assert store(table, signin(table, "again")) == 1
    assert table.read().state == "alive"


@pytest.mark.parametrize("was_there", [True, False])
def test_a_stalled_sign_in_does_not_bring_back_who_was_erased(table: Table, was_there: bool) -> None:
    if was_there:
        table.connect()
    stalled = signin(table, "stalled")
    assert consent.erase(table.database, "ann") is was_there
    assert store(table, stalled) is None
    assert table.kinds() == []
    assert store(table, signin(table, "of another", owner="bob")) == 0
    assert store(table, signin(table, "again")) == 0


def test_of_an_erasure_stays_no_name_and_not_for_ever(table: Table) -> None:
    consent.erase(table.database, "ann")
    with table.database.write() as connection:
        (row,) = connection.execute(select(erasures)).all()
        assert "ann" not in row.owner
        connection.execute(update(erasures).values(at=now(-consent.ERASURE_LIFE - 1)))
    consent.erase(table.database, "bob")
    with table.database.read() as connection:
        assert len(connection.execute(select(erasures)).all()) == 1


@pytest.mark.parametrize("word", ["sign-in", "erasure"])
def test_a_clock_that_was_set_back_locks_nobody_out(table: Table, word: str) -> None:
    """The last word bears a time that is still to come."""
    table.connect()
    ahead = now(3600)
    if word == "erasure":
        consent.erase(table.database, "ann")
    with table.database.write() as connection:
        connection.execute(update(grants.grants).values(said_at=ahead))
        connection.execute(update(erasures).values(at=ahead))
    assert store(table, signin(table, "again")) is not None
    assert table.current() == "refresh-again"


def test_no_token_is_in_its_text(table: Table) -> None:
    assert "refresh-" not in repr(signin(table, "one"))
    assert "access-" not in repr(signin(table, "one"))
