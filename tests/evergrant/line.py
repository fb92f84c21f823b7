"""A command line: one installation, and what its commands print."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from fleet.claims import unverified_claims
from models import consent, grants
from models.crypto import Keyring
from models.session import Database
from settings import ROOT
from tests.sandbox.conftest import APP

if TYPE_CHECKING:
    from pathlib import Path

    from models.grants import Grant
    from tests.sandbox.conftest import Running


class Line:
    """`database_url` is migrated; without a sandbox Tesla is nowhere to be found."""

    def __init__(
        self, home: Path, database_url: str, keys: str, redis_url: str, tesla: Running | None = None
    ) -> None:
        self.database = Database(database_url)
        self.keyring = Keyring.parse(keys)
        self.tesla = tesla
        origin = tesla.url if tesla else "http://127.0.0.1:9"
        self.environment = dict(
            os.environ,
            EVERGRANT_HOME=str(home),
            DATABASE_URL=database_url,
            REDIS_URL=redis_url,
            ENCRYPTION_KEYS=keys,
            ATTEMPT_DEADLINE="5",
            REFRESH_RATE="1000",
            TESLA_CLIENT_ID=APP["client_id"],
            TESLA_CLIENT_SECRET=APP["client_secret"],
            TESLA_TOKEN_URL=f"{origin}/oauth2/v3/token",
            TESLA_ISSUER=f"{origin}/oauth2/v3",
            TESLA_FLEET_URL_NA=f"{origin}/na",
            TESLA_FLEET_URL_EU=f"{origin}/eu",
            TESLA_FLEET_URL_CN=f"{origin}/cn",
        )

    def start(self, *words: str, quiet: bool = False) -> subprocess.Popen[str]:
        """Begins a command; `quiet`: nobody reads what it prints."""
        return subprocess.Popen(
            [sys.executable, "-m", "evergrant", *words],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if quiet else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, code: int = 0, seconds: float = 100) -> subprocess.CompletedProcess[str]:
        """The command, which has to end with `code`, within so many seconds."""
        process = self.start(*words)
        out, err = process.communicate(timeout=seconds)
        assert process.returncode == code, out + err
        assert "Traceback" not in out + err
        return subprocess.CompletedProcess(words, code, out, err)

    # --- the owners --------------------------------------------------------------------------------

    def sign_in(self, name: str) -> dict[str, Any]:
        """An owner who has signed in at Tesla; nobody keeps the tokens."""
        assert self.tesla is not None
        return self.tesla.sign_in(name)

    def connect(self, owner: str = "ann", tokens: dict[str, Any] | None = None, **changes: Any) -> str:
        """An owner with a grant."""
        given = tokens or {"access_token": "the-access-token", "refresh_token": "the-refresh-token"}
        values: dict[str, Any] = {
            "owner": str(unverified_claims(given["access_token"]).get("sub", owner)),
            "access_token": given["access_token"],
            "refresh_token": given["refresh_token"],
            "expires_in": given.get("expires_in", 3600),
            "due_in": 2700,
            "requested_scopes": "openid offline_access",
            "scopes": "openid offline_access",
            "region": "NA",
            "fleet_url": f"{self.tesla.url if self.tesla else 'http://127.0.0.1:9'}/na",
            "correlation_id": secrets.token_hex(8),
        }
        consent.connect(self.database, self.keyring, **values | changes)
        return str((values | changes)["owner"])

    def grant(self, owner: str) -> Grant:
        with self.database.read() as connection:
            found = grants.read(connection, owner)
        assert found is not None
        return found
