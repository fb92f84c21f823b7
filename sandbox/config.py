"""What one sandbox is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

DAY = 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Config:
    """How this stand-in behaves. Durations are seconds."""

    home: Path
    """The folder for `sandbox.db` and `signing-key.pem`; made when missing."""
    redirect_uris: tuple[str, ...] = ("http://localhost:8000/callback",)
    """What the app registered. Compared to the letter, as Tesla does."""
    client_id: str = "evergrant-sandbox"
    client_secret: str = "sandbox-secret"  # noqa: S105 - opens nothing but this stand-in
    """Empty: an open-source app, which has no secret (documented by Tesla)."""
    public_url: str = "http://localhost:9000"
    """How browsers reach the sandbox; the issuer is this + ``/oauth2/v3``."""
    token_seconds: int = 60
    """Life of an access token. Tesla's is 28800 (8 h)."""
    code_seconds: float = 60
    """Life of an authorization code."""
    refresh_token_seconds: float = 90 * DAY
    """Life of an unused refresh token: 3 months (documented by Tesla)."""
    grace_seconds: float = DAY
    """How long the most recently used refresh token stays usable (Tesla's FAQ: up to 24 h)."""
    reuse_kills_lost_answer: bool = False
    """Whether using it again makes the token of the earlier, perhaps lost, answer worthless. Tesla does
    not say; the product has to be right under both readings."""
    strict: bool = False
    """No grace, and any use of a superseded refresh token revokes its whole family."""
    seed: int = 0
    """Decides whether a fault with a probability strikes, so that a run can be repeated."""

    @property
    def issuer(self) -> str:
        return f"{self.public_url}/oauth2/v3"
