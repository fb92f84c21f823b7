"""A grant in the table, and what changes it, with the parts that these tests don't look at filled in."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

from models import attempts, consent, grants
from models.answers import Answer, Settled, settle

if TYPE_CHECKING:
    from models.attempts import Attempt
    from models.crypto import Keyring
    from models.grants import Grant
    from models.session import Database


class Table:
    """The token table, as the protocol drives it."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self.database = database
        self.keyring = keyring

    def connect(self, owner: str = "ann", **changes: Any) -> int:
        values: dict[str, Any] = {
            "access_token": "access-0",
            "refresh_token": "refresh-0",
            "expires_in": 60,
            "due_in": -1,
            "requested_scopes": "openid offline_access",
            "scopes": "openid",
            "region": "NA",
            "fleet_url": "http://localhost/na",
            "correlation_id": secrets.token_hex(8),
        }
        generation = consent.connect(self.database, self.keyring, owner=owner, **values | changes)
        assert generation is not None
        return generation

    def read(self, owner: str = "ann") -> Grant:
        with self.database.read() as connection:
            grant = grants.read(connection, owner)
        assert grant is not None
        return grant

    def begin(
        self,
        owner: str = "ann",
        *,
        seconds: float = 60,
        stale: int | None = None,
        instead_of: Attempt | None = None,
    ) -> Attempt | None:
        with self.database.write() as connection:
            return attempts.begin(connection, owner, seconds=seconds, stale=stale, instead_of=instead_of)

    def attempt(self, owner: str = "ann", **how: Any) -> Attempt:
        attempt = self.begin(owner, **how)
        assert attempt is not None
        return attempt

    def answer(self, attempt: Attempt, token: str | None, **changes: Any) -> Answer:
        values: dict[str, Any] = {
            "presented": attempt.refresh_token(self.keyring),
            "access_token": f"access-of-{token}",
            "refresh_token": token,
            "expires_in": 60,
            "scopes": None,
        }
        return Answer.to(attempt, **values | changes)

    def settle(self, answer: Answer) -> Settled:
        return settle(self.database, self.keyring, answer, due_after=45)

    def current(self, owner: str = "ann") -> str:
        """The refresh token that the next attempt presents."""
        with self.database.read() as connection:
            row = connection.execute(grants.grants.select().where(grants.grants.c.owner == owner)).one()
        return self.keyring.open(
            row.refresh_token, owner=owner, column="refresh_token", generation=row.generation
        )

    def spares(self, attempt: Attempt, *tried: str) -> list[str]:
        with self.database.read() as connection:
            return [token for _, token in attempts.candidates(connection, self.keyring, attempt, tried)]

    def claim(self, limit: int = 100, seconds: float = 60) -> list[str]:
        with self.database.write() as connection:
            return grants.claim_due(connection, limit=limit, seconds=seconds)

    def kinds(self, owner: str = "ann") -> list[str]:
        from models.events import latest

        with self.database.read() as connection:
            return [event.kind for event in reversed(latest(connection, owner, 100))]


@pytest.fixture
def table(database: Database, keyring: Keyring) -> Table:
    return Table(database, keyring)
