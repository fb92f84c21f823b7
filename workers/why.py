"""Why Tesla refuses a refresh token: it says the same to all, and whether consent stands tells more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import CAUSES, TeslaError
from models.crypto import Unopenable

if TYPE_CHECKING:
    from fleet.api import FleetApi
    from fleet.deadline import Deadline
    from fleet.errors import Cause
    from models.crypto import Keyring
    from models.grants import Grant

_ACCEPTED = {"wrong_region", "not_registered", "missing_scopes"}
"""Refusals of the Fleet API that come after it has accepted the token."""


def why_refused(api: FleetApi, keyring: Keyring, grant: Grant, deadline: Deadline) -> Cause | None:
    """The cause behind a refusal of the grant's newest refresh token; None where there is no telling.

    It reads with the access token, which is mostly still good then: where Tesla takes that one, consent
    stands, and so another refresh token must be the newest.
    """
    if grant.access_expires_at is None or grant.access_expires_at <= grant.read_at:
        return None
    try:
        token = grant.access_token(keyring)
        if token is None:
            return None
        api.region(token, grant.region, deadline)
    except (Unopenable, KeyError):
        return None
    except TeslaError as error:
        if error.cause.code == "consent_withdrawn":
            return error.cause
        if error.cause.code not in _ACCEPTED:
            return None
    return CAUSES["superseded_token"]
