"""The page where an owner allows or denies: ``/oauth2/v3/authorize``.

GET shows it. It takes ``client_id``, ``response_type=code``, ``redirect_uri``, ``scope`` and ``state``, and
perhaps ``nonce``, ``code_challenge`` with ``code_challenge_method=S256``, ``require_requested_scopes`` and
``prompt_missing_scopes`` (the page always asks, so the latter changes nothing); anything else, like
``locale`` or ``prompt``, is ignored.

POST decides. A script needs no browser and no GET before it; it posts, form-encoded, what the page would:

- the query's parameters, in the URL or as fields, ``scope`` under the name ``requested_scope``;
- ``owner``: any name (``other_owner``, when not empty, wins: the page's text field);
- ``region``: ``NA``, ``EU`` or ``CN``; empty or absent: the one remembered for the owner, else NA;
- ``scope``: once for each scope that is granted, or all in one, separated by spaces;
- ``decision``: ``allow``, ``deny`` (``access_denied``) or ``cancel`` (``login_cancelled``).

The answer is a 303 to the redirect URI. A request that can't be trusted with a redirect gets a page of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from flask import Blueprint, redirect, render_template, request

from sandbox.services import services
from sandbox.tesla import OWNERS, REGIONS, SCOPES, sub_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from werkzeug.wrappers import Response

blueprint = Blueprint("authorize", __name__)

MAX_NAME = 80


class _Mistake(Exception):
    def __init__(self, title: str, why: str, *letters: tuple[str, str]) -> None:
        super().__init__(title)
        self.why = why
        self.letters = letters
        """What to compare letter by letter, each with its label."""


@dataclass(frozen=True, kw_only=True)
class _Ask:
    """A checked authorize request."""

    parameters: dict[str, str]
    scopes: tuple[str, ...] | None
    """What the app asks for; None when a script left it out, which means: whatever is granted."""

    def back(self, **answer: str) -> Response:
        target = self.parameters["redirect_uri"]
        separator = "&" if urlsplit(target).query else "?"
        query = urlencode({**answer, "state": self.parameters["state"]})
        return redirect(f"{target}{separator}{query}", code=303)


@blueprint.get("/oauth2/v3/authorize")
def show() -> tuple[str, int] | Response:
    """The page, or the reason why there is none."""
    try:
        ask = _read()
    except _Mistake as mistake:
        return _explain(mistake)
    if wrong := _wrong(ask):
        return ask.back(error="invalid_request", error_description=wrong)
    return _page(ask, "", 200)


@blueprint.post("/oauth2/v3/authorize")
def decide() -> tuple[str, int] | Response:
    """Allow, deny or cancel."""
    try:
        ask = _read()
    except _Mistake as mistake:
        return _explain(mistake)
    if wrong := _wrong(ask):
        return ask.back(error="invalid_request", error_description=wrong)
    decision = request.form.get("decision", "")
    if decision == "deny":
        return ask.back(error="access_denied", error_description="The owner denied the request.")
    if decision == "cancel":
        return ask.back(error="login_cancelled", error_description="The owner cancelled the sign-in.")
    if decision != "allow":
        return _page(ask, "Choose Allow or Deny.", 400)
    name = (request.form.get("other_owner") or request.form.get("owner") or "").strip()
    if not name or len(name) > MAX_NAME:
        return _page(ask, f"Pick an owner or type a name of at most {MAX_NAME} letters.", 400)
    region = request.form.get("region") or None
    if region is not None and region not in REGIONS:
        return _page(ask, f"The region must be one of {', '.join(REGIONS)}.", 400)
    if services().weather.strike("authorize", sub_of(name)):
        return _explain(
            _not_registered(ask.parameters["redirect_uri"], [f"{ask.parameters['redirect_uri']}/"])
        )
    ticked = set(" ".join(request.form.getlist("scope")).split())
    asked = tuple(sorted(ticked)) if ask.scopes is None else ask.scopes
    granted = [scope for scope in asked if scope in ticked]
    if len(granted) < len(asked) and ask.parameters.get("require_requested_scopes") == "true":
        return _page(ask, "This app goes on only with every scope that it asks for. Tick all, or deny.", 400)
    code = services().tesla.allow(
        name=name,
        region=region,
        scopes=granted,
        redirect_uri=ask.parameters["redirect_uri"],
        challenge=ask.parameters.get("code_challenge", ""),
        nonce=ask.parameters.get("nonce", ""),
    )
    # Tesla lately adds these two; they must not break a callback.
    return ask.back(code=code, issuer=services().config.issuer, locale="en-US")


def _read() -> _Ask:
    parameters = {**request.args.to_dict(), **request.form.to_dict()}
    config = services().config
    if (client_id := parameters.get("client_id", "")) != config.client_id:
        raise _Mistake(
            "This client_id is not registered.",
            "Tesla does not know the app that sent you here.",
            ("Sent", client_id),
            ("Registered", config.client_id),
        )
    registered = config.redirect_uris
    if request.method == "GET" and services().weather.strike("authorize", None):
        registered = tuple(f"{uri}/" for uri in registered)
    if (redirect_uri := parameters.get("redirect_uri", "")) not in registered:
        raise _not_registered(redirect_uri, registered)
    if not parameters.get("state"):
        raise _Mistake("The state is missing.", "Tesla requires it: without it a sign-in can be forged.")
    scope = request.form.get("requested_scope") or request.args.get("scope")
    return _Ask(parameters=parameters, scopes=None if scope is None else tuple(dict.fromkeys(scope.split())))


def _not_registered(sent: str, registered: Iterable[str]) -> _Mistake:
    return _Mistake(
        "The redirect_uri is not the registered one.",
        "Tesla compares them to the letter: scheme, host, port, path and a slash at the end.",
        ("Sent", sent),
        *(("Registered", uri) for uri in registered),
    )


def _wrong(ask: _Ask) -> str:
    """What is wrong with a request that may be answered by a redirect; empty: nothing."""
    if ask.parameters.get("response_type") != "code":
        return "response_type must be code."
    if request.method == "GET" and not ask.scopes:
        return "scope is missing."
    if unknown := [scope for scope in ask.scopes or () if scope not in SCOPES]:
        return f"Unknown scope: {' '.join(unknown)}."
    if ask.parameters.get("code_challenge") and ask.parameters.get("code_challenge_method") != "S256":
        return "code_challenge_method must be S256."
    return ""


def _page(ask: _Ask, problem: str, status: int) -> tuple[str, int]:
    carried = {
        name: ask.parameters[name]
        for name in (
            "client_id",
            "response_type",
            "redirect_uri",
            "state",
            "nonce",
            "code_challenge",
            "code_challenge_method",
            "require_requested_scopes",
            "prompt_missing_scopes",
        )
        if name in ask.parameters
    }
    scopes = ask.scopes or ()
    page = render_template(
        "authorize.html",
        carried=carried,
        scopes=scopes,
        ticked=set(request.form.getlist("scope")) if request.method == "POST" else set(scopes),
        owners=OWNERS,
        picked=request.form.get("owner") or next(iter(OWNERS)),
        typed=request.form.get("other_owner", ""),
        region=request.form.get("region", ""),
        required=ask.parameters.get("require_requested_scopes") == "true",
        problem=problem,
        home=urlsplit(ask.parameters["redirect_uri"]).netloc,
    )
    return page, status


def _explain(mistake: _Mistake) -> tuple[str, int]:
    return render_template("error.html", title=str(mistake), why=mistake.why, letters=mistake.letters), 400
