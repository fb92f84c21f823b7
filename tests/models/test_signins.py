"""A sign-in under way is one browser's, once, for a while."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import update

from models.session import Database, now
from models.signins import open_signin, signins, take_signin


def begin(database: Database, state: str = "state", browser: str = "browser") -> None:
    open_signin(database, state=state, browser=browser, nonce="nonce", code_verifier="verifier")


def test_it_is_taken_once(database: Database) -> None:
    begin(database)
    pending = take_signin(database, state="state", browser="browser")
    assert pending is not None
    assert (pending.nonce, pending.code_verifier) == ("nonce", "verifier")
    assert abs((pending.said_at - datetime.now(UTC)).total_seconds()) < 5
    assert take_signin(database, state="state", browser="browser") is None


def test_another_browser_gets_nothing_and_spoils_nothing(database: Database) -> None:
    begin(database)
    assert take_signin(database, state="state", browser="another") is None
    assert take_signin(database, state="other", browser="browser") is None
    assert take_signin(database, state="state", browser="browser") is not None


def test_one_browser_may_sign_in_in_several_tabs(database: Database) -> None:
    begin(database, state="one")
    begin(database, state="two")
    assert take_signin(database, state="one", browser="browser")
    assert take_signin(database, state="two", browser="browser")


def test_it_ends_by_itself(database: Database) -> None:
    begin(database)
    with database.write() as connection:
        connection.execute(update(signins).values(ends_at=now(-1)))
    assert take_signin(database, state="state", browser="browser") is None
    begin(database, state="another")
    with database.read() as connection:
        assert len(connection.execute(signins.select()).all()) == 1, "what is over is erased"
