"""Moves a refresh token that was kept elsewhere here: proven by one refresh, stored before anything else.

The promises of the refresh protocol hold for it. `models.imports` is the fence: an attempt is committed
before it is made, so that a crash and a new start spend no token twice. Breaker and rate are those of all
workers.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from fleet.claims import unverified_claims
from fleet.deadline import Deadline
from fleet.errors import CAUSES, Actor, TeslaError
from fleet.regions import region_of_hint
from models import grants, imports
from models.consent import SignIn
from models.imports import Fate
from workers.breaker import Gate
from workers.refresh import GRACE

if TYPE_CHECKING:
    from fleet.errors import Cause
    from fleet.tokens import Tokens
    from models.imports import Begun
    from workers.breaker import Admission
    from workers.parts import Parts

log = logging.getLogger(__name__)

TRIES = 6
"""So often a token is tried in one run before it is left for the next."""

STORE_SECONDS = 30.0
"""How long SQL may be away before an answer is left to the escrow."""

_IN_ESCROW = "SQL is away: it waits in the escrow until SQL is back."

LONGEST_OWNER = 255

ALIVE = "alive"
"""The reason for which a token is not sent: whose it is has a live grant here."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of one token. `before`: in an earlier run."""

    fate: Fate
    owner: str | None = None
    reason: str | None = None
    detail: str | None = None
    before: bool = False


class OperatorMustAct(Exception):
    """Tesla does not accept the app: no token can be moved until that is repaired."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.code)
        self.cause = cause


class Importer:
    """Thread-safe. `rate` is in tokens a second; `stopping` ends what has not begun yet."""

    def __init__(self, parts: Parts, *, rate: float, stopping: threading.Event) -> None:
        self._parts = parts
        self._seconds = parts.settings.attempt_deadline
        self._pace = _Pace(rate)
        self._stopping = stopping
        self.waits_for = ""  # in words, while Tesla is not called

    def move(self, token: str, *, owner: str | None = None) -> Moved:
        """Moves one token here. `owner` is whose it is, where that is known.

        Raises `OperatorMustAct`, SQLAlchemy's errors before an attempt was made, and
        `models.crypto.Unopenable`.
        """
        known = imports.digest(token)
        last = Moved(Fate.WAITING)
        tries = 0
        while tries < TRIES and not self._stopping.is_set():
            with self._parts.database.read() as connection:
                row = imports.read(connection, known)
                grant = None if owner is None else grants.read(connection, owner)
            if row is not None and row.fate.is_final:
                return Moved(row.fate, row.owner, row.reason, row.detail, before=True)
            if row is not None and row.wait:
                # An earlier attempt has not ended. What it brought may wait in the escrow.
                self._stopping.wait(min(row.wait, 1.0))
                self._parts.refresher.drain_all()
                continue
            if grant is not None and grant.state == grants.State.ALIVE:
                return Moved(Fate.WAITING, owner, ALIVE, "This owner has a live grant here. It was not sent.")
            admission = self._admitted()
            if admission is None:
                continue
            # This clock starts before the row's, so that this process lets go before another may begin.
            deadline = Deadline(self._seconds)
            begun = imports.begin(self._parts.database, known, seconds=self._seconds + GRACE)
            if begun is None:
                self._parts.breaker.give_back(admission)
                continue
            tries += 1
            last = self._attempt(token, owner, begun, admission, deadline)
            if last.fate is Fate.WAITING and tries < TRIES:
                self._stopping.wait(self._parts.pacing.wait_after(tries))
            if last.fate.is_final:
                return last
        return last

    def _admitted(self) -> Admission | None:
        """The turn that this call waits for; None when there is none soon, and it is worth asking again."""
        if self._stopping.wait(self._pace.turn()):
            return None
        admission = self._parts.breaker.admit(1.0)
        if not admission.may_go:
            cause = CAUSES.get(admission.cause)
            if admission.gate is Gate.OPEN and cause is not None and cause.actor is Actor.OPERATOR:
                raise OperatorMustAct(cause)
            if admission.gate is Gate.OPEN:
                self.waits_for = f"Waiting for Tesla: {cause.title if cause else 'it fails for everybody'}"
            self._stopping.wait(min(max(admission.seconds, 0.1), 5.0))
            return None
        self.waits_for = ""
        if self._stopping.wait(admission.seconds):
            self._parts.breaker.give_back(admission)
            return None
        return admission

    def _attempt(
        self, token: str, owner: str | None, begun: Begun, admission: Admission, deadline: Deadline
    ) -> Moved:
        parts = self._parts
        presented = begun.newer(parts.keyring) or token
        try:
            tokens = parts.tesla.refresh(presented, deadline=deadline)
        except TeslaError as error:
            return self._failed(presented, begun, admission, error)
        moved = self._keep(tokens, presented, owner, begun)
        parts.refresher.tesla_works(admission)
        return moved

    # --- Tesla answered ---------------------------------------------------------------------------

    def _keep(self, tokens: Tokens, presented: str, owner: str | None, begun: Begun) -> Moved:
        """The answer, and nothing else, comes first."""
        parts, settings = self._parts, self._parts.settings
        newer = tokens.refresh_token or presented
        owner = _owner(tokens) or owner
        if owner is None:
            detail = "Tesla's answer does not say whose it is. Name the owner in the file, and run it again."
            self._keep_newer(begun, newer, "no_owner", detail)
            return Moved(Fate.WAITING, None, "no_owner", detail)
        region = region_of_hint(newer) or "NA"
        scopes = settings.tesla_scopes if tokens.scopes is None else " ".join(tokens.scopes)
        signin = SignIn(
            owner=owner,
            access_token=tokens.access_token,
            refresh_token=newer,
            expires_in=tokens.expires_in,
            due_in=parts.pacing.due_after(tokens.expires_in),
            requested_scopes=settings.tesla_scopes,
            scopes=scopes,
            region=region,
            fleet_url=settings.fleet_urls[region],
            correlation_id=begun.id,
            # Before the call: never later than Tesla counts.
            said_at=begun.started_at,
            client_id=settings.client_id,
            imported=begun.token,
        )
        if not parts.refresher.keep_signin(signin, patience=STORE_SECONDS):
            return Moved(Fate.IMPORTED, owner, "escrow", _IN_ESCROW)
        with parts.database.read() as connection:
            row = imports.read(connection, begun.token)
            grant = grants.read(connection, owner)
        if row is not None and row.fate is Fate.IMPORTED and grant is not None:
            self._go_home(grant, tokens.access_token)
        return Moved(row.fate if row is not None else Fate.IMPORTED, owner)

    def _go_home(self, grant: grants.Grant, access_token: str) -> None:
        """Where the owner lives; the token's own word for it is only a hint."""
        try:
            region, url = self._parts.api.region(access_token, grant.region, Deadline(self._seconds))
        except TeslaError as error:
            log.warning("owner %s: kept %s as the region: %s", grant.owner, grant.region, error)
            return
        if region != grant.region:
            with self._parts.database.write() as connection:
                grants.correct_region(connection, grant, region=region, fleet_url=url)

    # --- Tesla did not ----------------------------------------------------------------------------

    def _failed(self, presented: str, begun: Begun, admission: Admission, error: TeslaError) -> Moved:
        parts = self._parts
        reason, detail = error.cause.code, str(error)
        if error.actor is Actor.OWNER:
            parts.refresher.tesla_works(admission)
            with parts.database.write() as connection:
                imports.give_up(connection, begun, reason=reason, detail=detail)
            return Moved(Fate.DEAD, None, reason, detail)
        operator = error.actor is Actor.OPERATOR
        parts.breaker.failed(
            begun.token,
            reason,
            everybody=operator or error.retry_after is not None or error.status == 429,
            pause=error.retry_after,
        )
        if error.salvaged and error.salvaged != presented:
            # The answer broke off behind a whole refresh token: the newest there is.
            self._keep_newer(begun, error.salvaged, reason, detail)
        elif not error.outcome_unknown:
            with parts.database.write() as connection:
                imports.put_back(connection, begun, reason=reason, detail=detail)
        if operator:
            raise OperatorMustAct(error.cause)
        # One whose outcome is unknown keeps its place until its deadline, and is tried again then.
        return Moved(Fate.WAITING, None, reason, detail)

    def _keep_newer(self, begun: Begun, newer: str, reason: str, detail: str) -> None:
        """Only this process has it: it stays until SQL takes it."""
        while True:
            try:
                with self._parts.database.write() as connection:
                    imports.keep_newer(
                        connection, self._parts.keyring, begun, newer, reason=reason, detail=detail
                    )
            except SQLAlchemyError as away:
                log.critical("SQL does not take a refresh token (%s); trying on", type(away).__name__)
                time.sleep(1)
            else:
                return


class _Pace:
    """Turns, evenly spread."""

    def __init__(self, rate: float) -> None:
        self._every = 1 / rate
        self._lock = threading.Lock()
        self._next = 0.0

    def turn(self) -> float:
        """Takes the next turn; how many seconds it is away."""
        with self._lock:
            now = time.monotonic()
            self._next = max(self._next, now) + self._every
            return self._next - self._every - now


def _owner(tokens: Tokens) -> str | None:
    """Whose tokens these are, as they say themselves: they came from Tesla just now."""
    for token in (tokens.access_token, tokens.id_token):
        owner = unverified_claims(token or "").get("sub")
        if isinstance(owner, str) and 0 < len(owner) <= LONGEST_OWNER and owner.isprintable():
            return owner
    return None
