"""The owner's word: connecting, disconnecting, erasing. It wins over whatever is in flight."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, String, Table, delete, select, update
from sqlalchemy.exc import IntegrityError

from models import api_keys, imports, signin_links, spares, webhooks
from models.events import Kind, events, record
from models.grants import State, grants
from models.imports import Fate
from models.session import Instant, metadata, now

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection, Row

    from models.crypto import Keyring
    from models.session import Database

erasures = Table(
    "erasures",
    metadata,
    Column("owner", String(64), primary_key=True),  # SHA-256: it tells only who knows the owner's id
    Column("at", Instant, primary_key=True, index=True),
)

ERASURE_LIFE = spares.LIFE
"""Seconds that it is remembered that an owner was erased: what an older sign-in brought is worth nothing
then, wherever it may have waited."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """What a sign-in brought, with all that storing it takes, at once or much later: `connect` has the
    words."""

    owner: str
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: float
    due_in: float
    requested_scopes: str
    scopes: str
    region: str
    fleet_url: str
    correlation_id: str
    said_at: datetime
    client_id: str | None = None
    noticed: tuple[tuple[str, str], ...] = ()
    imported: str | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"said_at": self.said_at.isoformat()})

    @classmethod
    def from_json(cls, text: str) -> SignIn:
        values = json.loads(text)
        values["said_at"] = datetime.fromisoformat(values["said_at"])
        values["noticed"] = tuple((code, detail) for code, detail in values["noticed"])
        return cls(**values)

    def store(self, database: Database, keyring: Keyring) -> int | None:
        """`connect` with these."""
        return connect(database, keyring, **asdict(self))


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
    said_at: datetime | None = None,
    client_id: str | None = None,
    noticed: Iterable[tuple[str, str]] = (),
    imported: str | None = None,
) -> int | None:
    """Stores what a sign-in brought and returns the generation. It replaces all that was held before.

    `said_at` is when the owner came back from Tesla, by the database's clock; none: now. `expires_in` and
    `due_in` are seconds from then. None is returned, and nothing is changed, when the owner has signed in,
    disconnected or erased since: the later word wins, whichever is stored first.

    Storing the same sign-in again, which its `correlation_id` tells, changes nothing: the word that it was
    stored may have been lost, and its tokens may have been rotated since.

    `client_id` is the app that Tesla gave the tokens to. `noticed` is what Tesla refuses to this grant: for
    each a cause's code, and words. `imported` is the digest of the refresh token that was kept elsewhere and
    brought these (`models.imports`): it takes no live grant's place, but is kept beside it, and brings back
    nobody who disconnected here.

    An attempt that is in flight keeps its place on the row, so that no other begins beside it, but its answer
    belongs to the older consent and will be dropped.
    """

    def then(seconds: float) -> Any:
        return now(seconds) if said_at is None else said_at + timedelta(seconds=seconds)

    values: dict[str, Any] = {
        "state": State.ALIVE.value,
        "reason": None,
        "consent_id": correlation_id,
        "said_at": then(0),
        "previous_refresh_token": None,
        "previous_until": None,
        "previous_attempt": None,
        "requested_scopes": requested_scopes,
        "scopes": scopes,
        "region": region,
        "fleet_url": fleet_url,
        "connected_at": now(),
        "refreshed_at": now(),
        "access_expires_at": then(expires_in),
        "refresh_at": then(due_in),
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
                    select(
                        grants.c.generation,
                        grants.c.attempt_number,
                        grants.c.state,
                        grants.c.consent_id,
                        grants.c.said_at,
                        grants.c.paused_at,
                        now().label("read_at"),
                    )
                    .where(grants.c.owner == owner)
                    .with_for_update()
                ).one_or_none()
                if found is not None and found.consent_id == correlation_id:
                    return int(found.generation)
                spoken = said_at is not None and _has_spoken_since(connection, owner, said_at, found)
                if imported is not None:
                    fate = _fate(found, spoken)
                    imports.settle(connection, imported, fate, owner)
                    if fate is Fate.BESIDE and found is not None:
                        _keep_beside(
                            connection, keyring, owner, found.generation, refresh_token, correlation_id
                        )
                    if fate is not Fate.IMPORTED:
                        return None
                if spoken:
                    return None
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
                    detail=None if imported is None else "Imported with a token that was kept elsewhere.",
                    correlation_id=correlation_id,
                    access_expires_at=then(expires_in),
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


def _fate(found: Row[Any] | None, spoken: bool) -> Fate:
    """What becomes of an imported token whose owner has this row."""
    if found is not None and found.state == State.ALIVE:
        return Fate.BESIDE
    if spoken or (found is not None and found.state == State.DISCONNECTED):
        return Fate.DROPPED
    return Fate.IMPORTED


def _keep_beside(
    connection: Connection,
    keyring: Keyring,
    owner: str,
    generation: int,
    refresh_token: str,
    correlation_id: str,
) -> None:
    """Tesla has given it for a token that may be of the live grant's own family: then it may have taken the
    place of the one that is held, and it is found among the spares when that is refused."""
    # No attempt of the grant's has such a number; it is always the same for this one.
    number = -int(_digest(correlation_id)[:15], 16)
    if spares.keep(connection, keyring, owner, number, refresh_token):
        record(
            connection,
            Kind.SPARE_KEPT,
            owner=owner,
            generation=generation,
            correlation_id=correlation_id,
            detail="An imported token is kept beside the live grant.",
        )


def _has_spoken_since(connection: Connection, owner: str, said_at: datetime, row: Row[Any] | None) -> bool:
    """Whether the owner's last word is later than that. One from the future was said before the clock was set
    back: it is not known when."""
    if row is not None and said_at <= row.said_at <= row.read_at:
        return True
    erased = select(erasures.c.at).where(
        erasures.c.owner == _digest(owner), erasures.c.at >= said_at, erasures.c.at <= now()
    )
    return connection.execute(erased).first() is not None


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
                said_at=now(),
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
    """Erases all about the owner: the grant, its spares, its events. False when there is nothing.

    What stays for a while is that whoever has this id was erased, and when.
    """
    with database.write() as connection:
        spares.erase(connection, owner)
        connection.execute(delete(events).where(events.c.owner == owner))
        webhooks.forget_owner(connection, owner)
        imports.forget_owner(connection, owner)
        signin_links.forget_owner(connection, owner)
        api_keys.forget_owner(connection, owner)
        erased = connection.execute(delete(grants).where(grants.c.owner == owner)).rowcount > 0
        if erased:
            # It stays until it has been told.
            webhooks.say(connection, "grant.disconnected", owner=owner, reason="erased")
        digest = _digest(owner)
        over = erasures.c.at <= now(-ERASURE_LIFE)
        connection.execute(delete(erasures).where((erasures.c.owner == digest) | over))
        connection.execute(erasures.insert().values(owner=digest, at=now()))
        return erased


def _digest(owner: str) -> str:
    return hashlib.sha256(owner.encode()).hexdigest()
