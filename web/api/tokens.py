"""A valid access token of an owner: what programs ask for most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.api_keys import Scope
from models.crypto import Unopenable
from web.api.fresh import fresh, meets
from web.api.operations import operation
from web.api.problems import waiting
from web.api.shapes import Token, TokenQuery
from web.wiring import wiring
from workers.refresh import KEY_MISSING

if TYPE_CHECKING:
    from models.grants import Grant
    from web.api.access import Call


@operation(
    "GET",
    "/owners/{owner}/token",
    Scope.TOKENS_READ,
    "An access token that is good now",
    answer=Token,
    query=TokenQuery,
    problems=(404, 409),
)
def token(call: Call, query: TokenQuery) -> Token:
    """The owner's access token, with the base URL of the Fleet API where it works.

    A token that has less life left than `min_ttl` is refreshed first; however many ask at once, Tesla is
    called once. When Tesla can't be reached, a token that still lives is handed out all the same, with
    `min_ttl_met` false; when none lives, the answer is 503 and `Retry-After` says when to ask again. Ask
    before each use, or keep the token until shortly before `expires_at`.
    """
    grant = fresh(call.owner, call.grant, query.min_ttl)
    return Token.of(grant, opened(grant), min_ttl_met=meets(grant, query.min_ttl), settings=wiring().settings)


def opened(grant: Grant) -> str:
    """Its access token in the clear. Raises `Refusal`."""
    try:
        access_token = grant.access_token(wiring().parts.keyring)
    except Unopenable:
        raise waiting(KEY_MISSING, 60) from None
    if access_token is None:
        raise waiting(None, None)
    return access_token
