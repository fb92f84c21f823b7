"""Sign-in: the way to Tesla's page and back. What comes back is stored whole or not at all."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

from flask import Blueprint, current_app, g, redirect, request, url_for

from fleet import authorize
from fleet.claims import unverified_claims
from fleet.deadline import Deadline
from fleet.errors import CAUSES, Actor, TeslaError, sort_refusal
from fleet.regions import region_of_hint
from fleet.scopes import missing
from models import grants, signin_links
from models.consent import SignIn
from models.signins import open_signin, take_signin
from web.problems import SIGN_IN_AGAIN, TO_YOUR_PAGE, Problem, note, of_signin
from web.public import ARRIVED_AT
from web.returning import refusal, with_status
from web.session import owner_of_session, start_session
from web.wiring import wiring

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from fleet.tokens import Tokens
    from models.signin_links import Link
    from models.signins import Pending

blueprint = Blueprint("signin", __name__)

DISCOVERY_SECONDS = 2.0
"""How long a sign-in may wait for the issuer's word on PKCE; asked once an hour."""

STORE_SECONDS = 5.0
"""How long the owner waits for the table to take what Tesla gave; from then on it is kept in the escrow."""

_BROWSER = re.compile(r"[A-Za-z0-9_-]{43}")
_LONGEST_CODE = 4096
_LONGEST_OWNER = 255


# --- there --------------------------------------------------------------------------------------------


@blueprint.get("/signin")
def signin() -> Response:
    """302 to Tesla's page."""
    return _to_tesla(ask_for_missing=False)


@blueprint.get("/signin/missing")
def signin_asking() -> Response:
    """The same, and Tesla asks again for what the owner had unticked: it remembers that otherwise."""
    return _to_tesla(ask_for_missing=True)


@blueprint.get("/signin/link")
def signin_link() -> Response:
    """The same, from a program's link; the way back leads to that program."""
    link = signin_links.find(wiring().parts.database, request.args.get("t", ""))
    if link is None or not link.is_good:
        raise _link_over(link)
    return _to_tesla(ask_for_missing=True, link=link.id)


def _to_tesla(*, ask_for_missing: bool, link: str | None = None) -> Response:
    wired = wiring()
    settings = wired.settings
    if request.environ[ARRIVED_AT] != request.host and "here" not in request.args:
        # Tesla sends the browser back to `PUBLIC_URL`, and cookies set at e.g. 127.0.0.1 are not sent to
        # localhost. Once only: behind a proxy that renames the host, each request looks like this.
        query = f"{request.query_string.decode('ascii', 'ignore')}&here=1".lstrip("&")
        return redirect(f"{settings.public_url}{request.path}?{query}")
    begun = authorize.begin(
        settings.endpoint("tesla_authorize_url"),
        settings.client_id,
        settings.redirect_uri,
        settings.tesla_scopes,
        pkce=wired.discovery.offers_pkce(Deadline(DISCOVERY_SECONDS)),
        prompt_missing_scopes=ask_for_missing,
    )
    browser = _browser() or secrets.token_urlsafe(32)
    open_signin(
        wired.parts.database,
        state=begun.state,
        browser=browser,
        nonce=begun.nonce,
        code_verifier=begun.code_verifier,
        link=link,
    )
    response = redirect(begun.url)
    _remember(response, browser)
    return response


def give_browser_cookie(response: Response) -> None:
    """Gives the browser its cookie with the page that the button is on, so that two tabs that sign in at once
    share it."""
    if _browser() is None:
        _remember(response, secrets.token_urlsafe(32))


def _remember(response: Response, browser: str) -> None:
    secure = wiring().settings.public_url.startswith("https://")
    response.set_cookie(_cookie(secure), browser, path="/", secure=secure, httponly=True, samesite="Lax")


def _browser() -> str | None:
    """What binds a sign-in to this browser. All its tabs share one, so several may sign in at once."""
    value = request.cookies.get(_cookie(wiring().settings.public_url.startswith("https://")), "")
    return value if _BROWSER.fullmatch(value) else None


def _cookie(secure: bool) -> str:
    # With this prefix a browser takes the cookie from this host over TLS only, never from a neighbour.
    return "__Host-evergrant-browser" if secure else "evergrant-browser"


# --- and back -----------------------------------------------------------------------------------------


@blueprint.get("/callback")
def callback() -> Response:
    """Where Tesla sends the browser.

    Parameters that it adds are ignored (`issuer` and `locale` are seen in the wild).
    """
    # It begins before the owner's word is dated, so that no code is exchanged long after that.
    deadline = Deadline(wiring().settings.attempt_deadline)
    pending = _take()
    link = _spent(pending)
    try:
        owner, stored = _signed_in(pending, deadline, link)
    except Exception as error:
        if link is not None:
            signin_links.give_back(wiring().parts.database, link.id)
            if isinstance(error, Problem) and (back := _way_back(link)):
                note(error)
                return redirect(with_status(back, status="failed", reason=error.code), 303)
        raise
    start_session(owner, waits=not stored)
    if link is not None and (back := _way_back(link)):
        return redirect(with_status(back, status="connected", owner=owner), 303)
    return redirect(url_for("owner.page"), 303)


def _signed_in(pending: Pending, deadline: Deadline, link: Link | None) -> tuple[str, bool]:
    """As `_connect`, with what Tesla says against it as a `Problem`."""
    code = request.args.get("code", "")
    try:
        if "error" in request.args:
            raise sort_refusal(request.args["error"], request.args.get("error_description", ""))
        if not code or len(code) > _LONGEST_CODE:
            raise _no_code()
        return _connect(code, pending, deadline, link)
    except TeslaError as error:
        raise of_signin(error, wiring().settings.redirect_uri) from None


def _spent(pending: Pending) -> Link | None:
    """The program's link that this sign-in began with, which no other can use from here on."""
    if pending.link is None:
        return None
    link = signin_links.spend(wiring().parts.database, pending.link)
    if link is None:
        raise _link_over(None)
    return link


def _way_back(link: Link) -> str | None:
    """Where this link leads back to, if that is still allowed."""
    allowed = wiring().settings.return_urls.split()
    return link.return_url if link.return_url and not refusal(link.return_url, allowed) else None


def _link_over(link: Link | None) -> Problem:
    return Problem(
        "link_over",
        404 if link is None else 410,
        Actor.OWNER,
        "This sign-in link was used, or is over",
        "It works for one sign-in, and for a limited time. Nothing was changed.",
        "Go back to where you got it, and begin anew.",
    )


def _take() -> Pending:
    """The sign-in that this browser began with this `state`; from here on it can't be used again."""
    state, browser = request.args.get("state", ""), _browser()
    if state and browser and (pending := take_signin(wiring().parts.database, state=state, browser=browser)):
        return pending
    if _is_alive(owner_of_session()):
        raise Problem(
            "state_used",
            400,
            Actor.OWNER,
            "You are signed in already",
            "This sign-in link was used before, or is old. Your grant is alive, and nothing was changed.",
            "Go on to your page.",
            TO_YOUR_PAGE,
        )
    raise Problem(
        "state_unknown" if state else "state_missing",
        400,
        Actor.OWNER,
        "This sign-in link is old or was opened in another browser",
        "A sign-in works once, within 15 minutes, and only in the browser that began it. "
        + ("" if state else "This link lacks the `state` that shows which sign-in it belongs to. ")
        + "Nothing was changed.",
        "Sign in again. If it happens each time, allow cookies for this site.",
        SIGN_IN_AGAIN,
    )


def _is_alive(owner: str | None) -> bool:
    if owner is None:
        return False
    with wiring().parts.database.read() as connection:
        grant = grants.read(connection, owner)
    return grant is not None and grant.state == grants.State.ALIVE


def _no_code() -> Problem:
    return Problem(
        "no_code",
        400,
        Actor.OWNER,
        "Tesla sent no sign-in code",
        "The way back from Tesla carried neither a code nor a reason. Nothing was changed.",
        "Sign in again.",
        SIGN_IN_AGAIN,
    )


def _connect(code: str, pending: Pending, deadline: Deadline, link: Link | None) -> tuple[str, bool]:
    """Exchanges the code, stores the grant, returns the owner and whether the table has it already. Raises
    `TeslaError`; then nothing is stored.

    It makes at most four calls to Tesla, each within `ATTEMPT_DEADLINE`.
    """
    wired = wiring()
    settings, parts = wired.settings, wired.parts
    region = region_of_hint(code) or "NA"
    tokens = parts.tesla.exchange(
        code,
        redirect_uri=settings.redirect_uri,
        audience=settings.fleet_urls[region],
        code_verifier=pending.code_verifier,
        deadline=deadline,
    )
    if tokens.refresh_token is None:
        raise TeslaError(CAUSES["no_refresh_token"])
    owner = _owner(tokens, pending)
    region, fleet_url, refused = _home(tokens.access_token, region)
    scopes = settings.tesla_scopes if tokens.scopes is None else " ".join(tokens.scopes)
    noticed = [(refused.cause.code, str(refused))] if refused else []
    if unticked := missing(settings.tesla_scopes.split(), tokens.scopes):
        noticed.append(("missing_scopes", f"Not granted: {', '.join(unticked)}."))
    for code, detail in noticed:
        current_app.logger.warning(
            "signed in: cause=%s %s correlation_id=%s (%s)",
            code,
            detail,
            g.correlation_id,
            CAUSES[code].entry,
        )
    expected = link is None or link.owner in {None, owner}
    if not expected and not _is_alive(owner):
        raise _another_owner()
    signin = SignIn(
        owner=owner,
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        expires_in=tokens.expires_in,
        due_in=parts.pacing.due_after(tokens.expires_in),
        requested_scopes=settings.tesla_scopes,
        scopes=scopes,
        region=region,
        fleet_url=fleet_url,
        correlation_id=g.correlation_id,
        # Before the exchange: never later than Tesla counts.
        said_at=pending.said_at,
        client_id=settings.client_id,
        noticed=tuple(noticed),
    )
    stored = parts.refresher.keep_signin(signin, patience=STORE_SECONDS)
    if not expected:
        # Kept all the same: Tesla may no longer accept what was held of this owner's.
        raise _another_owner()
    return owner, stored


def _another_owner() -> Problem:
    return Problem(
        "another_owner",
        403,
        Actor.OWNER,
        "This sign-in link is for another owner",
        "You signed in at Tesla with an account that it was not made for.",
        "Sign out at Tesla, open the link again and sign in with the other account.",
    )


def _owner(tokens: Tokens, pending: Pending) -> str:
    """Whose tokens these are, as the id token proves."""
    wired = wiring()
    if tokens.id_token is None:
        raise TeslaError(CAUSES["bad_id_token"], description="there is none in Tesla's answer")
    claims = wired.verifier.verify(
        tokens.id_token, nonce=pending.nonce, deadline=Deadline(wired.settings.attempt_deadline)
    )
    owner: str = claims["sub"]
    if len(owner) > _LONGEST_OWNER or not owner.isprintable():
        raise TeslaError(CAUSES["bad_id_token"], description="its `sub` is not an account's id")
    if unverified_claims(tokens.access_token).get("sub", owner) != owner:
        raise TeslaError(CAUSES["bad_id_token"], description="the access token belongs to another account")
    return owner


def _home(access_token: str, hint: str) -> tuple[str, str, TeslaError | None]:
    """The owner's region and its Fleet API base URL; the hint's, and why, when Tesla does not say."""
    wired = wiring()
    try:
        return *wired.api.region(access_token, hint, Deadline(wired.settings.attempt_deadline)), None
    except TeslaError as error:
        return hint, wired.settings.fleet_urls[hint], error
