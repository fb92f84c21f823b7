"""Sign-in links: how another app embeds the sign-in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models import signin_links
from models.api_keys import Scope, is_good_for
from web.api.operations import operation
from web.api.problems import Refusal, owner_not_allowed
from web.api.shapes import SignInLink, SignInLinkBody
from web.returning import refusal
from web.wiring import wiring

if TYPE_CHECKING:
    from web.api.access import Call


@operation(
    "POST",
    "/signin-links",
    Scope.OWNERS_WRITE,
    "A one-time sign-in link",
    answer=SignInLink,
    status=201,
    body=SignInLinkBody,
    problems=(400, 413, 415),
)
def create(call: Call, body: SignInLinkBody) -> SignInLink:
    """Send the owner's browser to `url`, in a window of its own: neither Tesla's pages nor these show in
    frames. After the sign-in it comes back to `return_url` with `status=connected` and `owner`, or with
    `status=failed` and `reason`; never with a token.

    A link is good for one sign-in that succeeds; with `owner`, only that owner's counts. A `return_url` has
    to lie below one of the operator's `RETURN_URLS`; put into it whatever lets you recognise your own
    session. Without it the owner ends at Evergrant's page.
    """
    wired = wiring()
    settings = wired.settings
    if body.return_url is not None and (why := refusal(body.return_url, settings.return_urls.split())):
        raise Refusal(
            403,
            "return_url_not_allowed",
            "Nobody is sent to this return URL",
            f"It {why}.",
            "Use one below those that the operator allows, or ask the operator to allow this one.",
        )
    with wired.parts.database.read() as connection:
        if not is_good_for(connection, call.key, body.owner):
            raise owner_not_allowed()
    token, expires_at = signin_links.create(
        wired.parts.database,
        key=call.key.id,
        owner=body.owner,
        return_url=body.return_url,
        lives=body.lives,
    )
    return SignInLink(
        url=f"{settings.public_url}/signin/link?t={token}",
        owner=body.owner,
        return_url=body.return_url,
        expires_at=expires_at,
    )
