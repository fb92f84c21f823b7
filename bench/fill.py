"""Fills a PostgreSQL with grants as they are in life: encrypted tokens, due spread over the hours to come."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
from sqlalchemy.engine import make_url

from bench.standin import TOKEN_SECONDS, access_token, refresh_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.crypto import Keyring

REFRESH_AT = 0.75

_REST: dict[str, object] = {
    "state": "alive",
    "consent_id": "0" * 32,
    "generation": 1,
    "requested_scopes": "openid offline_access vehicle_device_data",
    "scopes": "openid offline_access vehicle_device_data",
    "region": "NA",
    "fleet_url": "https://fleet-api.prd.na.vn.cloud.tesla.com",
    "failures": 0,
    "attempt_number": 1,
    "token_attempt": 1,
}
_TIMES = ("said_at", "connected_at", "refreshed_at", "access_expires_at", "refresh_at")
_COLUMNS = ("owner", "access_token", "refresh_token", *_TIMES, *_REST)


@dataclass(frozen=True)
class Spread:
    """When owners fall due: the share `due` of all is due already, for up to `overdue` seconds; the others
    fall due one by one, the first in `gap` seconds and the last when a fresh token would."""

    due: float = 0.0
    overdue: float = 5.0
    gap: float = 0.0

    def age(self, share: float) -> float:
        """Seconds since the token was issued, of the grant at this place (0 to 1) among all."""
        due_after = REFRESH_AT * TOKEN_SECONDS
        if share < self.due:
            return due_after + self.overdue * (1 - share / self.due)
        return (due_after - self.gap) * (1 - (share - self.due) / (1 - self.due))


def owner(number: int) -> str:
    """The id of an owner, as long as Tesla's."""
    return f"{number:08d}-be7c-4a1f-9d2e-000000000000"


def fill(
    database: str,
    keyring: Keyring,
    count: int,
    *,
    spread: Spread,
    first: int = 0,
    real: bool = True,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Adds `count` grants, those of the owners from `first` on, in the order in which they fall due.

    With `real` each has tokens of its own, which open; without, all have the same bytes, which is quicker.
    """
    url = make_url(database).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False)) as connection:
        row = connection.execute("SELECT extract(epoch FROM statement_timestamp())").fetchone()
        now = float(row[0]) if row else 0.0
        step = next(prime for prime in (7_919, 104_729, 1_299_709) if count % prime)
        sealed = (secrets.token_bytes(1050), secrets.token_bytes(700))
        with connection.cursor().copy(f"COPY grants ({', '.join(_COLUMNS)}) FROM STDIN".encode()) as copy:
            for number in range(count):
                who = owner(first + number * step % count)  # ids come in no order, as Tesla's do
                issued = now - spread.age(number / count)
                if real:
                    sealed = _sealed(keyring, who, issued)
                copy.write_row((who, *sealed, *_times(issued), *_REST.values()))
                if number % 10_000 == 0:
                    progress(number)
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE grants")


def _sealed(keyring: Keyring, who: str, issued: float) -> tuple[bytes, bytes]:
    return (
        keyring.seal(access_token(who, issued), owner=who, column="access_token", generation=1),
        keyring.seal(refresh_token(who), owner=who, column="refresh_token", generation=1),
    )


def _times(issued: float) -> list[datetime]:
    """When the owner said so, it was connected, refreshed, ends, and falls due."""
    return [
        datetime.fromtimestamp(issued + later, UTC)
        for later in (0, 0, 0, TOKEN_SECONDS, REFRESH_AT * TOKEN_SECONDS)
    ]
