"""A check of schemathesis's: a key without a call's scope gets nothing from it, whatever is sent."""

from __future__ import annotations

import os
from typing import Any

import schemathesis

SCOPES = os.environ.get("KEY_SCOPES", "").split()
"""Those of the key that the run uses."""


@schemathesis.check
def only_with_scope(
    _context: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    """Nothing but a refusal of the key, or of what is no call at all."""
    (needed,) = case.operation.definition.raw["security"][0]["key"]
    if needed not in SCOPES:
        assert response.status_code in {401, 403, 404, 405}, f"{response.status_code} without {needed}"
        assert response.json()["code"] != "no_grant", f"told who is an owner without {needed}"
