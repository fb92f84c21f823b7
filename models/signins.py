"""Sign-ins under way: each is one row, bound to one browser, taken out once and short-lived."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Column, String, Table, Text, delete
from sqlalchemy.sql import ColumnElement  # noqa: TC002 - used at run time by the dialects

from models.session import Database, Instant, metadata, now

if TYPE_CHECKING:
    from datetime import datetime

LIFE = 15 * 60
"""Seconds that an owner may take at Tesla's page."""

signins = Table(
    "signins",
    metadata,
    Column("state", String(64), primary_key=True),  # SHA-256, so that the table can't be used to sign in
    Column("browser", String(64), nullable=False),  # SHA-256 of the browser's cookie
    Column("nonce", Text, nullable=False),
    Column("code_verifier", Text),
    Column("link", String(64)),  # id of the sign-in link that it began with
    Column("ends_at", Instant, nullable=False, index=True),
)


@dataclass(frozen=True, slots=True)
class Pending:
    """`said_at` is when the owner came back from Tesla's page, by the database's clock."""

    nonce: str
    code_verifier: str | None
    said_at: datetime
    link: str | None = None


def open_signin(
    database: Database,
    *,
    state: str,
    browser: str,
    nonce: str,
    code_verifier: str | None,
    link: str | None = None,
) -> None:
    """Notes that this browser was sent to Tesla with this `state`."""
    with database.write() as connection:
        connection.execute(delete(signins).where(_is_over()))
        connection.execute(
            signins.insert().values(
                state=_digest(state),
                browser=_digest(browser),
                nonce=nonce,
                code_verifier=code_verifier,
                link=link,
                ends_at=now(LIFE),
            )
        )


def take_signin(database: Database, *, state: str, browser: str) -> Pending | None:
    """What was noted, exactly once; None when this state is unknown, old, used or another browser's.

    A state that another browser presents stays usable for its own.
    """
    with database.write() as connection:
        row = connection.execute(
            delete(signins)
            .where(signins.c.state == _digest(state), signins.c.browser == _digest(browser), ~_is_over())
            .returning(signins.c.nonce, signins.c.code_verifier, now(), signins.c.link)
        ).one_or_none()
    return None if row is None else Pending(*row)


def _is_over() -> ColumnElement[bool]:
    return signins.c.ends_at <= now()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
