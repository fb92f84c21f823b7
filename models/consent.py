"""The owner's word: connecting, disconnecting, erasing. It wins over whatever is in flight."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError

from models import spares, webhooks
from models.events import Kind, events, record
from models.grants import State, grants
from models.session import now

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from models.crypto import Keyring
    from models.session import Database


def connect(
    database: Database,
    keyring: Keyring,
    *,
    owner: str,
    access_token: str,
    refresh_token: str,
    expires_in: float,
    due_in: float,
    requested_scopes: str,
    scopes: str,
    region: str,
    fleet_url: str,
    correlation_id: str,
    client_id: str | None = None,
    noticed: Iterable[tuple[str, str]] = (),
) -> int:
    """Stores what a sign-in brought and returns the generation. It replaces all that was held before.

    Storing the same sign-in again, which its `correlation_id` tells, changes nothing: the word that it was
    stored may have been lost, and its tokens may have been rotated since.

    `expires_in` and `due_in` are seconds from now. `client_id` is the app that Tesla gave the tokens to.
    `noticed` is what Tesla refuses to this grant: for each a cause's code, and words.

    An attempt that is in flight keeps its place on the row, so that no other begins beside it, but its answer
    belongs to the older consent and will be dropped.
    """
    values: dict[str, Any] = {
        "state": State.ALIVE.value,
        "reason": None,
        "consent_id": secrets.token_hex(16),
        "previous_refresh_token": None,
        "previous_until": None,
        "previous_attempt": None,
        "requested_scopes": requested_scopes,
        "scopes": scopes,
        "region": region,
        "fleet_url": fleet_url,
        "connected_at": now(),
        "refreshed_at": now(),
        "access_expires_at": now(expires_in),
        "refresh_at": now(due_in),
        "claimed_until": None,
        "retry_at": None,
        "failures": 0,
        "last_error": None,
        "last_error_at": None,
        "paused_at": None,
        "client_id": client_id,
    }

    def sealed(generation: int) -> dict[str, Any]:
        return {
            "generation": generation,
            "access_token": keyring.seal(
                access_token, owner=owner, column="access_token", generation=generation
            ),
            "refresh_token": keyring.seal(
                refresh_token, owner=owner, column="refresh_token", generation=generation
            ),
        }

    tries = 3
    while True:
        tries -= 1
        try:
            with database.write() as connection:
                found = connection.execute(
                    select(grants.c.generation, grants.c.attempt_number, grants.c.paused_at)
                    .where(grants.c.owner == owner)
                    .with_for_update()
                ).one_or_none()
                if found is not None and _is_stored(connection, owner, correlation_id):
                    return int(found.generation)
                if found is None:
                    generation = 0
                    connection.execute(
                        grants.insert().values(
                            owner=owner, attempt_number=0, token_attempt=0, **values, **sealed(0)
                        )
                    )
                else:
                    generation = found.generation + 1
                    connection.execute(
                        update(grants)
                        .where(grants.c.owner == owner)
                        .values(token_attempt=found.attempt_number, **values, **sealed(generation))
                    )
                    spares.erase(connection, owner)
                record(
                    connection,
                    Kind.CONNECTED,
                    owner=owner,
                    generation=generation,
                    correlation_id=correlation_id,
                    access_expires_at=now(expires_in),
                )
                if found is not None and found.paused_at is not None:
                    # Who has just signed in expects to be kept alive; the pause was about the consent before.
                    record(
                        connection,
                        Kind.RESUMED,
                        owner=owner,
                        detail="The owner signed in again.",
                        generation=generation,
                        correlation_id=correlation_id,
                    )
                for reason, detail in noticed:
                    record(
                        connection,
                        Kind.NOTICED,
                        owner=owner,
                        reason=reason,
                        detail=detail,
                        generation=generation,
                        correlation_id=correlation_id,
                    )
            return generation
        except IntegrityError:
            # The same owner's first sign-in, twice at once: the row is there now.
            if not tries:
                raise


def _is_stored(connection: Connection, owner: str, correlation_id: str) -> bool:
    this_one = select(events.c.id).where(
        events.c.owner == owner,
        events.c.kind == Kind.CONNECTED,
        events.c.correlation_id == correlation_id,
    )
    return connection.execute(this_one.limit(1)).first() is not None


def disconnect(database: Database, owner: str, *, correlation_id: str, detail: str | None = None) -> bool:
    """Erases the owner's tokens and keeps the history; `detail` is for that. False when there is nothing to
    disconnect."""
    with database.write() as connection:
        generation = connection.execute(
            update(grants)
            .where(grants.c.owner == owner, grants.c.state != State.DISCONNECTED)
            .values(
                state=State.DISCONNECTED.value,
                reason=None,
                consent_id=secrets.token_hex(16),
                access_token=None,
                refresh_token=None,
                previous_refresh_token=None,
                previous_until=None,
                access_expires_at=None,
                refresh_at=None,
                claimed_until=None,
                retry_at=None,
                failures=0,
                last_error=None,
                last_error_at=None,
                paused_at=None,
            )
            .returning(grants.c.generation)
        ).scalar_one_or_none()
        if generation is None:
            return False
        spares.erase(connection, owner)
        record(
            connection,
            Kind.DISCONNECTED,
            owner=owner,
            detail=detail,
            generation=generation,
            correlation_id=correlation_id,
        )
        return True


def erase(database: Database, owner: str) -> bool:
    """Erases all about the owner: the grant, its spares, its events. False when there is nothing."""
    with database.write() as connection:
        spares.erase(connection, owner)
        connection.execute(delete(events).where(events.c.owner == owner))
        webhooks.forget_owner(connection, owner)
        erased = connection.execute(delete(grants).where(grants.c.owner == owner)).rowcount > 0
        if erased:
            # The one thing that stays, until it has been told.
            webhooks.say(connection, "grant.disconnected", owner=owner, reason="erased")
        return erased
