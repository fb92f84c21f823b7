"""What a token says about itself, unverified: good for lifetimes and scopes, never for identity."""

from __future__ import annotations

import base64
import json
from typing import Any


def unverified_claims(jwt: str) -> dict[str, Any]:
    """The payload of a JWT, its signature unchecked; empty if `jwt` is none. Never raises."""
    try:
        _, payload, _ = jwt.split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (AttributeError, TypeError, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}
