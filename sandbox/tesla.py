"""How Tesla behaves: consent, codes, families of refresh tokens and their rotation. No HTTP in here.

What Tesla documents, and what this module does with it:

- A refresh token is single use and lives 3 months ("Third-Party Tokens" in Tesla's developer pages).
- The most recently used one stays usable for up to 24 h (Tesla's FAQ, "Why are my refresh tokens suddenly
  invalid?"). Using it again rotates anew. Whether that makes the token of the earlier answer worthless is
  not documented: `Config.reuse_kills_lost_answer` chooses.
- Without both ``openid`` and ``offline_access`` there is no refresh token.
- Withdrawing consent and changing the password revoke everything the owner granted to the app (seen).

A *family* is what one sign-in began: all refresh tokens that descend from it. Tokens never change once
issued; a family's row says which of them count. With ``used`` the generation of the token used last:

====================  ==================================================================================
a token's generation  it is
====================  ==================================================================================
above ``used``        fresh: it rotates (with `reuse_kills_lost_answer`, only the newest is)
equal to ``used``     usable again within `Config.grace_seconds`; in strict mode superseded
below ``used``        superseded: 401 ``login_required``; in strict mode the whole family is revoked
====================  ==================================================================================

A new sign-in begins a new family and leaves earlier ones as they are.
"""

from __future__ import annotations

import base64
import contextlib
import enum
import hashlib
import hmac
import secrets
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.store import fingerprint

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection

    from sandbox.config import Config
    from sandbox.store import Store

REGIONS = ("NA", "EU", "CN")
SCOPES = (
    "openid",
    "offline_access",
    "user_data",
    "vehicle_device_data",
    "vehicle_location",
    "vehicle_cmds",
    "vehicle_charging_cmds",
    "vehicle_specs",
    "energy_device_data",
    "energy_cmds",
    "enterprise_management",
)
"""Every scope that Tesla documents."""

OWNERS = {"Ada Ampere": "NA", "Volta Moreau": "EU", "Joule Okafor": "EU", "Ohm Lindqvist": "NA"}
"""Invented owners to pick from, and where they live."""

_NAMES = uuid.UUID("7d0c8f4e-3a86-5f0e-9f0c-5a0d0b0e4e67")


class Refused(Exception):
    """Tesla's no: an HTTP status, an OAuth error code and a sentence. Carries no token."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(f"{status} {error}: {description}")
        self.status = status
        self.error = error
        self.description = description


class Standing(enum.Enum):
    """What a refresh token is worth at the moment it is presented."""

    FRESH = "fresh"
    IN_GRACE = "in grace"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, kw_only=True)
class Issued:
    """What a token call won."""

    sub: str
    region: str
    family: int
    scopes: tuple[str, ...]
    audience: str
    nonce: str
    refresh_token: str | None
    rotated: bool
    """True when the answer carries a refresh token that nobody has seen yet: lost if the answer is."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """The owner and the consent behind an access token."""

    sub: str
    name: str
    region: str
    revoked_because: str | None


def sub_of(name: str) -> str:
    """The stable id of the owner of that name; letter case and outer spaces make no difference."""
    return str(uuid.uuid5(_NAMES, " ".join(name.split()).casefold()))


class Tesla:
    """Tesla's authorization server. Safe to call from many threads; each method is one transaction."""

    def __init__(self, store: Store, config: Config, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._config = config
        self._clock = clock

    # --- the owner's side --------------------------------------------------------------------------

    def allow(
        self,
        *,
        name: str,
        region: str | None,
        scopes: Collection[str],
        redirect_uri: str,
        challenge: str = "",
        nonce: str = "",
    ) -> str:
        """The owner allows `scopes`; returns an authorization code, which begins with the region (seen).

        `region` None keeps the one that is remembered for the owner. `challenge` is the PKCE S256 one.
        """
        name = " ".join(name.split())
        sub = sub_of(name)
        now = self._clock()
        with self._store.transaction() as db:
            known = db.execute("SELECT region FROM owners WHERE sub = ?", (sub,)).fetchone()
            if known is None:
                region = region or OWNERS.get(name, "NA")
                db.execute(
                    "INSERT INTO owners (sub, name, region, first_seen) VALUES (?, ?, ?, ?)",
                    (sub, name, region, now),
                )
            elif region is None:
                region = str(known["region"])
            else:
                db.execute("UPDATE owners SET region = ? WHERE sub = ?", (region, sub))
            code = f"{region}_{secrets.token_urlsafe(32)}"
            db.execute("DELETE FROM codes WHERE issued < ?", (now - self._config.code_seconds,))
            db.execute(
                "INSERT INTO codes VALUES (?, ?, ?, ?, ?, ?, ?)",
                (fingerprint(code), sub, redirect_uri, " ".join(scopes), challenge, nonce, now),
            )
        return code

    def revoke(self, sub: str, because: str) -> bool:
        """The owner withdraws consent or changes the password; False when nobody of that `sub` is known."""
        with self._store.transaction() as db:
            if db.execute("SELECT 1 FROM owners WHERE sub = ?", (sub,)).fetchone() is None:
                return False
            db.execute(
                "UPDATE families SET revoked_at = ?, revoked_because = ?"
                " WHERE owner = ? AND revoked_at IS NULL",
                (self._clock(), because, sub),
            )
        return True

    # --- the app's side ----------------------------------------------------------------------------

    def check_client(self, client_id: str, client_secret: str | None, *, secret_required: bool) -> None:
        """Raises `Refused` for credentials that are not the app's.

        A refresh may leave the secret out, but one that is sent has to be right (both are seen)."""
        expected = self._config.client_secret
        right_secret = (
            not (secret_required and expected)
            if not client_secret
            else hmac.compare_digest(client_secret.encode(), expected.encode())
        )
        if not (hmac.compare_digest(client_id.encode(), self._config.client_id.encode()) and right_secret):
            raise Refused(
                401, "invalid_client", "We don't recognize this client_id and client_secret combination."
            )

    def owner_of_code(self, code: str) -> str | None:
        """The `sub` that a code belongs to, None when it is unknown, used or long past."""
        with self._store.reading() as db:
            row = db.execute("SELECT owner FROM codes WHERE hash = ?", (fingerprint(code),)).fetchone()
        return None if row is None else str(row["owner"])

    def owner_of_refresh_token(self, token: str) -> str | None:
        """The `sub` that a refresh token, however old, belongs to; None when the sandbox never issued it."""
        with self._store.reading() as db:
            row = db.execute(
                "SELECT owner FROM families JOIN refresh_tokens ON family = id WHERE hash = ?",
                (fingerprint(token),),
            ).fetchone()
        return None if row is None else str(row["owner"])

    def exchange_code(
        self,
        *,
        code: str,
        redirect_uri: str,
        audience: str,
        verifier: str,
        client_id: str | None = None,
        without_refresh_token: bool = False,
    ) -> Issued:
        """An authorization code for tokens, once. Raises `Refused`, which leaves the code unused."""
        now = self._clock()
        with self._store.transaction() as db:
            row = db.execute(
                "SELECT codes.*, region FROM codes JOIN owners ON owner = sub WHERE hash = ?",
                (fingerprint(code),),
            ).fetchone()
            if row is None or now > row["issued"] + self._config.code_seconds:
                raise Refused(400, "invalid_auth_code", "The authorization code is expired, used or unknown.")
            if redirect_uri != row["redirect_uri"]:
                raise Refused(
                    400,
                    "invalid_redirect_url",
                    f"The code was issued for {row['redirect_uri']!r}, the exchange says {redirect_uri!r}.",
                )
            if not _proves(verifier, row["challenge"]):
                raise Refused(400, "invalid_grant", "The code_verifier does not fit the code_challenge.")
            scopes = tuple(str(row["scopes"]).split())
            db.execute("DELETE FROM codes WHERE hash = ?", (row["hash"],))
            family = db.execute(
                "INSERT INTO families (owner, client_id, scopes, audience, started) VALUES (?, ?, ?, ?, ?)",
                (row["owner"], client_id, row["scopes"], audience, now),
            ).lastrowid
            assert family is not None  # noqa: S101 - an INSERT has a rowid
            db.execute(
                "UPDATE owners SET sign_ins = sign_ins + 1, family = ? WHERE sub = ?", (family, row["owner"])
            )
            token = None
            if {"openid", "offline_access"} <= set(scopes) and not without_refresh_token:
                token = _issue(db, row["owner"], row["region"], family, now)
            return Issued(
                sub=row["owner"],
                region=row["region"],
                family=family,
                scopes=scopes,
                audience=audience,
                nonce=row["nonce"],
                refresh_token=token,
                rotated=token is not None,
            )

    def refresh(self, token: str, *, client_id: str | None = None, rotate: bool = True) -> Issued:
        """A refresh token for new tokens. Raises `Refused` with ``login_required``, without a word of why:
        also where the token was given to another app than `client_id`.

        With `rotate` False the token stays what it is and is answered again (two of the faults need it).
        """
        now = self._clock()
        with self._store.transaction() as db:
            row = db.execute(
                "SELECT generation, issued, families.* FROM refresh_tokens JOIN families ON family = id"
                " WHERE hash = ?",
                (fingerprint(token),),
            ).fetchone()
            if row is None:
                _count_total(db, "unknown_presented")
            elif client_id is None or row["client_id"] in {None, client_id}:
                standing = self._standing(row, now)
                self._count(db, row, standing, now)
                if standing in {Standing.FRESH, Standing.IN_GRACE}:
                    return self._answer(db, row, standing, now, token if not rotate else None)
        # Raised out here, where what was counted has been committed.
        raise Refused(401, "login_required", "The refresh token is expired, used or revoked: sign in again.")

    def use_elsewhere(self, token: str) -> None:
        """Another program refreshes with this token and with what it gets, if Tesla lets it: then this one is
        superseded and out of its 24 h."""
        with contextlib.suppress(Refused):
            won = self.refresh(token).refresh_token
            if won is not None:
                self.refresh(won)

    def use_at_once(self, won: str) -> None:
        """Another program has used the token that `won` was issued for as well, a moment later: its answer
        takes the place of `won`, which becomes worthless."""
        with self._store.transaction() as db:
            row = db.execute(
                "SELECT owner, region, id AS family FROM refresh_tokens AS t JOIN families ON t.family = id"
                " JOIN owners ON owner = sub WHERE hash = ?",
                (fingerprint(won),),
            ).fetchone()
            db.execute("UPDATE refresh_tokens SET generation = -1 WHERE hash = ?", (fingerprint(won),))
            _issue(db, row["owner"], row["region"], row["family"], self._clock())

    def note_refusal(self, token: str) -> None:
        """A fault refused this token in Tesla's name. Unless it was a superseded one, who now tries an older
        one does so in good faith, until the next new token."""
        with self._store.transaction() as db:
            db.execute(
                "UPDATE families SET refused_generation = newest_generation"
                " FROM (SELECT family, generation FROM refresh_tokens WHERE hash = ?) AS t"
                " WHERE id = t.family AND t.generation >= ifnull(used_generation, -1)",
                (fingerprint(token),),
            )

    def session(self, family: int) -> Session | None:
        """Who stands behind an access token of that family; None when there is no such family."""
        with self._store.reading() as db:
            row = db.execute(
                "SELECT sub, name, region, revoked_because FROM families JOIN owners ON owner = sub"
                " WHERE id = ?",
                (family,),
            ).fetchone()
        return None if row is None else Session(**dict(row))

    # --- rotation ----------------------------------------------------------------------------------

    def _standing(self, row: sqlite3.Row, now: float) -> Standing:
        generation, used = row["generation"], row["used_generation"]
        if row["revoked_at"] is not None:
            return Standing.REVOKED
        if used is None or generation > used:
            if self._config.reuse_kills_lost_answer and generation != row["newest_generation"]:
                return Standing.SUPERSEDED
            expired = now > row["issued"] + self._config.refresh_token_seconds
            return Standing.EXPIRED if expired else Standing.FRESH
        in_grace = now <= row["used_at"] + self._config.grace_seconds
        if generation == used and in_grace and not self._config.strict:
            return Standing.IN_GRACE
        return Standing.SUPERSEDED

    def _count(self, db: sqlite3.Connection, row: sqlite3.Row, standing: Standing, now: float) -> None:
        column = {
            Standing.IN_GRACE: "reused_in_grace",
            Standing.SUPERSEDED: "superseded_presented",
            Standing.EXPIRED: "expired_presented",
            Standing.REVOKED: "revoked_presented",
        }.get(standing)
        if standing is Standing.SUPERSEDED:
            refused = row["refused_generation"]
            if refused is not None and refused == row["newest_generation"]:
                column = "superseded_after_refusal"
            if self._config.strict:
                db.execute(
                    "UPDATE families SET revoked_at = ?, revoked_because = 'superseded' WHERE id = ?",
                    (now, row["id"]),
                )
        if column is not None:
            _bump(db, row["owner"], column)

    def _answer(
        self, db: sqlite3.Connection, row: sqlite3.Row, standing: Standing, now: float, kept: str | None
    ) -> Issued:
        owner = row["owner"]
        region = str(db.execute("SELECT region FROM owners WHERE sub = ?", (owner,)).fetchone()[0])
        if kept is None:
            if standing is Standing.FRESH:
                # The 24 h count from the first use; another one within them does not prolong them.
                db.execute(
                    "UPDATE families SET used_generation = ?, used_at = ? WHERE id = ?",
                    (row["generation"], now, row["id"]),
                )
            _bump(db, owner, "rotations")
        return Issued(
            sub=owner,
            region=region,
            family=row["id"],
            scopes=tuple(str(row["scopes"]).split()),
            audience=row["audience"],
            nonce="",
            refresh_token=kept or _issue(db, owner, region, row["id"], now),
            rotated=kept is None,
        )


def _issue(db: sqlite3.Connection, sub: str, region: str, family: int, now: float) -> str:
    """A new refresh token of the owner's next generation; it begins with the region (seen)."""
    token = f"{region}_{secrets.token_urlsafe(48)}"
    generation = db.execute(
        "UPDATE owners SET generation = ifnull(generation, -1) + 1 WHERE sub = ? RETURNING generation", (sub,)
    ).fetchone()[0]
    db.execute(
        "INSERT INTO refresh_tokens VALUES (?, ?, ?, ?)", (fingerprint(token), family, generation, now)
    )
    db.execute("UPDATE families SET newest_generation = ? WHERE id = ?", (generation, family))
    return token


def _bump(db: sqlite3.Connection, sub: str, column: str) -> None:
    db.execute(f"UPDATE owners SET {column} = {column} + 1 WHERE sub = ?", (sub,))  # noqa: S608 - our own names


def _count_total(db: sqlite3.Connection, name: str) -> None:
    db.execute("INSERT INTO totals VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1", (name,))


def _proves(verifier: str, challenge: str) -> bool:
    """PKCE's S256 (RFC 7636, 4.6). A code that was asked for without a challenge needs no verifier."""
    if not challenge:
        return True
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
    return hmac.compare_digest(digest, challenge.encode())
