"""Who calls, and whether they may: a bearer key, its scope, its owners, its rate.

Key and grant are read in one round trip (`models.api_keys.KeyLookup`), so a key that was revoked a moment
ago opens nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flask import request

from web.api.parts import api_parts
from web.api.problems import Refusal, owner_not_allowed

if TYPE_CHECKING:
    from models.api_keys import ApiKey, Scope
    from models.grants import Grant
    from web.api.parts import ApiParts

LONGEST_OWNER = 255


@dataclass(frozen=True, slots=True)
class Call:
    """One call that may be made. `grant` is the owner's, where the call concerns one who has one."""

    key: ApiKey
    owner: str
    grant: Grant | None


def admit(scope: Scope, owner: str = "") -> Call:
    """The call of this request, if its key is good for it. Raises `Refusal`."""
    return check(api_parts(), request.environ.get("HTTP_AUTHORIZATION", ""), scope, owner)


def check(parts: ApiParts, authorization: str, scope: Scope, owner: str) -> Call:
    """The call that comes with this header, if its key is good for it. Raises `Refusal`."""
    kind, _, text = authorization.partition(" ")
    if not text or kind.lower() != "bearer":
        raise _refused("key_missing", "A key is missing", "Send `Authorization: Bearer evergrant_…`.", "")
    possible = len(owner) <= LONGEST_OWNER and owner.isprintable()  # what no database is asked for
    use = parts.keys.find(text.strip(), owner if possible else "")
    if use is None:
        raise _refused("key_unknown", "The key is unknown", "Check that it is whole.")
    key = use.key
    if key.revoked_at is not None:
        raise _refused("key_revoked", "The key was revoked", "Ask the operator for another.")
    if key.has_ended:
        raise _refused("key_ended", "The key has ended", "Ask the operator for another.")
    wait = parts.rates.take(key.id, key.rate)
    if wait is not None:
        raise Refusal(
            429,
            "too_fast",
            "The key is used too fast",
            f"It may make {key.rate} calls a second.",
            "Wait as long as `Retry-After` says.",
            retry_in=wait,
        )
    parts.uses.note(key.id)
    if not key.may(scope):
        challenge = f'Bearer realm="evergrant", error="insufficient_scope", scope="{scope}"'
        raise Refusal(
            403,
            "scope_missing",
            f"The key lacks the scope {scope}",
            f"It was made for: {key.scopes or 'nothing'}.",
            "Ask the operator for a key with this scope.",
            headers={"WWW-Authenticate": challenge},
            scope=str(scope),
        )
    if owner and not use.allows_owner:
        raise owner_not_allowed()
    return Call(key, owner, use.grant)


def _refused(code: str, title: str, repair: str, error: str = ', error="invalid_token"') -> Refusal:
    return Refusal(
        401, code, title, "", repair, headers={"WWW-Authenticate": f'Bearer realm="evergrant"{error}'}
    )
