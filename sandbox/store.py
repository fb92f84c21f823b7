"""The sandbox's one SQLite file: what has to survive a restart and a SIGKILL.

Tokens and codes are kept as SHA-256 hashes only, so the file is worth nothing to who finds it.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS owners (
    sub TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    region TEXT NOT NULL,
    first_seen REAL NOT NULL,
    generation INTEGER,
    family INTEGER,
    sign_ins INTEGER NOT NULL DEFAULT 0,
    calls INTEGER NOT NULL DEFAULT 0,
    rotations INTEGER NOT NULL DEFAULT 0,
    max_under_way INTEGER NOT NULL DEFAULT 0,
    overlaps INTEGER NOT NULL DEFAULT 0,
    overlaps_after_hangup INTEGER NOT NULL DEFAULT 0,
    superseded_presented INTEGER NOT NULL DEFAULT 0,
    superseded_after_refusal INTEGER NOT NULL DEFAULT 0,
    reused_in_grace INTEGER NOT NULL DEFAULT 0,
    revoked_presented INTEGER NOT NULL DEFAULT 0,
    expired_presented INTEGER NOT NULL DEFAULT 0,
    answers_cut INTEGER NOT NULL DEFAULT 0,
    answers_undelivered INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS families (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    owner TEXT NOT NULL,
    client_id TEXT,
    scopes TEXT NOT NULL,
    audience TEXT NOT NULL,
    started REAL NOT NULL,
    newest_generation INTEGER,
    used_generation INTEGER,
    used_at REAL,
    refused_generation INTEGER,
    revoked_at REAL,
    revoked_because TEXT
);
CREATE INDEX IF NOT EXISTS families_of_an_owner ON families (owner);
CREATE TABLE IF NOT EXISTS refresh_tokens (
    hash BLOB PRIMARY KEY,
    family INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    issued REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS codes (
    hash BLOB PRIMARY KEY,
    owner TEXT NOT NULL,
    redirect_uri TEXT NOT NULL,
    scopes TEXT NOT NULL,
    challenge TEXT NOT NULL,
    nonce TEXT NOT NULL,
    issued REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS registrations (
    region TEXT NOT NULL,
    domain TEXT NOT NULL,
    public_key TEXT NOT NULL,
    PRIMARY KEY (region, domain)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS totals (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""


def fingerprint(token: str) -> bytes:
    """What is stored in a token's or a code's place: 32 bytes."""
    return hashlib.sha256(token.encode()).digest()


class Store:
    """One connection and one lock: a transaction has the database to itself, whichever thread it runs in."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        # A killed process loses nothing in this mode, only a machine without power may.
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(SCHEMA)
        columns = {row["name"] for row in self._db.execute("PRAGMA table_info(families)")}
        if "client_id" not in columns:  # a file from before families had one
            self._db.execute("ALTER TABLE families ADD COLUMN client_id TEXT")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Read and write as one step; an exception undoes it."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # some errors, like a full disk, have rolled back already
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read only."""
        with self._lock:
            yield self._db

    def close(self) -> None:
        with self._lock:
            self._db.close()
