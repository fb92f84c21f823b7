"""The two sides' books: what the sandbox issued, what the product received, stored and holds. Hashes only."""

from __future__ import annotations

import hashlib
import sqlite3
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from models.crypto import Keyring
from models.events import Kind, events
from models.grants import grants
from models.spares import spares
from workers.steps import Step

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from models.session import Database


LATE_REQUEST = "a request reached Tesla after its client had given up"
HELD = "its process was stopped with the answer in hand past the attempt's time"
ELSEWHERE = "the answer was on another machine's disk, and Redis had lost it"

_KEPT = (Step.SETTLED, Step.ESCROWED)


@dataclass(frozen=True)
class Note:
    """A line that `tests.chaos.listener` wrote. `at` is the monotonic clock in seconds."""

    at: float
    pid: int
    thread: int
    step: Step
    owner: str
    attempt: str
    token: str
    order: str


@dataclass
class Issued:
    """A refresh token that the sandbox issued for an earlier one."""

    owner: str
    generation: int
    family: int


@dataclass
class Ledger:
    issued: dict[str, Issued]  # by the token's hash
    received: dict[str, str]  # token's hash to attempt: the whole answer, or what was whole of it
    salvaged: set[str]  # hashes: the answer broke off behind them
    stored: set[str]  # attempts whose answer was settled in SQL, by the events
    kept: set[str]  # attempts of which a process noted that SQL or the escrow has the answer
    current: dict[str, str]  # owner to the hash of the token in the table
    held: dict[str, set[str]]  # owner to the hashes of all tokens in the table
    newest: dict[str, str]  # owner to the hash of the token that the sandbox issued last
    family_of: dict[str, int]  # token's hash to its family
    family: dict[str, int]  # owner to the family of the last sign-in
    ended_at: dict[str, float]  # owner to when a superseded token ended that family, by the monotonic clock
    notes: list[Note]
    windows: list[tuple[float, float]] = field(
        default_factory=list
    )  # when, how long: received to first write

    @property
    def lost_on_the_way(self) -> dict[str, Issued]:
        """Issued, and never received as a whole."""
        return {token: issued for token, issued in self.issued.items() if token not in self.received}

    @property
    def lost_in_the_window(self) -> dict[str, Issued]:
        """Received by a process that ended before SQL or the escrow had it."""
        return {
            token: self.issued[token]
            for token, attempt in self.received.items()
            if attempt not in self.kept and attempt not in self.stored and token in self.issued
        }

    def why_ended(self, owner: str) -> str:
        """Why a grant ended at a strict Tesla, though its newest token had been received and kept: what was
        going on when the call was made that ended it. "" when that call should not have been made."""
        token, end = self.newest[owner], self.ended_at[owner]
        calls = [note for note in self.notes if note.owner == owner and note.step is Step.CONNECTED]
        brought = next(note for note in self.notes if note.token == token)
        kept = next(note for note in self.notes if note.token == token and note.step in _KEPT)
        bringing = self._before(brought, Step.CONNECTED)
        last = max((call for call in calls if call.at < end), key=lambda call: call.at)
        if last.at <= bringing.at:
            return LATE_REQUEST
        looked = self._before(last, Step.WRITTEN, Step.DRAINED)
        if looked.at < kept.at:
            return HELD
        settled = [note.at for note in self.notes if note.token == token and note.step is Step.SETTLED]
        return ELSEWHERE if not settled or looked.at < settled[0] else ""

    def _before(self, note: Note, *steps: Step) -> Note:
        """The last note of these steps that the same thread made before, about the same owner."""
        return max(
            (
                other
                for other in self.notes
                if (other.pid, other.thread, other.owner) == (note.pid, note.thread, note.owner)
                and other.step in steps
                and other.at < note.at
            ),
            key=lambda other: other.at,
        )

    @property
    def lost_from_the_store(self) -> dict[str, str]:
        """Token's hash to attempt: SQL or the escrow had it once, and it never came to the table. Not of a
        consent that the owner has replaced since."""
        last = set(self.family.values())
        return {
            token: attempt
            for token, attempt in self.received.items()
            if attempt in self.kept and attempt not in self.stored and self.family_of[token] in last
        }


def read(folder: Path, database: Database, keys: str) -> Ledger:
    """Reads both sides' books. `folder` is the product's."""
    notes = read_notes(folder / "steps")
    issued, newest, family_of = _issued(folder / "sandbox" / "sandbox.db")
    family, ended_at = _families(folder / "sandbox" / "sandbox.db")
    received: dict[str, str] = {}
    salvaged: set[str] = set()
    kept: set[str] = set()
    windows: list[tuple[float, float]] = []
    since: dict[str, float] = {}
    for note in notes:
        if note.step is Step.ANSWERED:
            # The first one brought it; Tesla may leave it as it is later.
            received.setdefault(note.token, note.attempt)
            since[note.attempt] = note.at
        elif note.step in {Step.SETTLED, Step.ESCROWED} and note.attempt not in kept:
            kept.add(note.attempt)
            if note.attempt in since:
                windows.append((since[note.attempt], note.at - since[note.attempt]))
            else:
                received.setdefault(note.token, note.attempt)
                if note.token in issued:
                    salvaged.add(note.token)
    current, held = _held(database, Keyring.parse(keys))
    return Ledger(
        issued=issued,
        received=received,
        salvaged=salvaged,
        stored=_stored(database),
        kept=kept,
        current=current,
        held=held,
        newest=newest,
        family_of=family_of,
        family=family,
        ended_at=ended_at,
        notes=notes,
        windows=windows,
    )


def read_notes(folder: Path) -> list[Note]:
    """All processes' notes in the order of their times. A line that a SIGKILL cut short is left out."""
    notes = []
    for path in folder.glob("*.log"):
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) == 8:
                at, pid, thread, step, owner, attempt, token, order = words
                notes.append(
                    Note(int(at) / 1e9, int(pid), int(thread), Step(step), owner, attempt, token, order)
                )
    return sorted(notes, key=lambda note: note.at)


def percentile(values: Iterable[float], share: float) -> float:
    """The value that `share` of all are not above; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def median(values: Iterable[float]) -> float:
    found = list(values)
    return statistics.median(found) if found else 0.0


def fingerprint(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _issued(path: Path) -> tuple[dict[str, Issued], dict[str, str], dict[str, int]]:
    """The tokens that came for an earlier one, each owner's last, and each one's family."""
    query = (
        "SELECT hex(hash) AS hash, owner, refresh_tokens.generation AS generation, family,"
        " min(refresh_tokens.generation) OVER (PARTITION BY family) AS first,"
        " max(refresh_tokens.generation) OVER (PARTITION BY owner) AS last"
        " FROM refresh_tokens JOIN families ON family = id"
    )
    issued, newest, family_of = {}, {}, {}
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        for token, owner, generation, family, first, last in connection.execute(query):
            family_of[token.lower()] = family
            if generation == last:
                newest[owner] = token.lower()
            if generation != first:
                issued[token.lower()] = Issued(owner, generation, family)
    finally:
        connection.close()
    return issued, newest, family_of


def _families(path: Path) -> tuple[dict[str, int], dict[str, float]]:
    """Each owner's family of the last sign-in, and when a superseded token ended it, if one did."""
    query = "SELECT sub, family, revoked_at, revoked_because FROM owners JOIN families ON family = id"
    behind = time.time() - time.monotonic()
    family, ended_at = {}, {}
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        for owner, number, revoked_at, because in connection.execute(query):
            family[owner] = number
            if because == "superseded":
                ended_at[owner] = revoked_at - behind
    finally:
        connection.close()
    return family, ended_at


def _stored(database: Database) -> set[str]:
    settled = [Kind.REFRESHED, Kind.SPARE_USED, Kind.SPARE_KEPT, Kind.CONNECTED]
    with database.read() as connection:
        return set(
            connection.execute(select(events.c.correlation_id).where(events.c.kind.in_(settled))).scalars()
        )


def _held(database: Database, keyring: Keyring) -> tuple[dict[str, str], dict[str, set[str]]]:
    current: dict[str, str] = {}
    held: dict[str, set[str]] = defaultdict(set)
    with database.read() as connection:
        for row in connection.execute(select(grants)):
            newest, previous = open_both(keyring, row)
            held[row.owner] = {token for token in (newest, previous) if token}
            if newest:
                current[row.owner] = newest
        for row in connection.execute(select(spares)):
            token = keyring.open(
                row.refresh_token, owner=row.owner, column="spare", generation=row.attempt_number
            )
            held[row.owner].add(fingerprint(token))
    return current, dict(held)


def open_both(keyring: Keyring, row: Any) -> tuple[str, str]:
    """The hashes of a grant's current and previous refresh token; empty where there is none."""

    def opened(column: str) -> str:
        sealed = getattr(row, column)
        if sealed is None:
            return ""
        return fingerprint(keyring.open(sealed, owner=row.owner, column=column, generation=row.generation))

    return opened("refresh_token"), opened("previous_refresh_token")
