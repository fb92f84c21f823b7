"""The owner's page: what was granted, that it is alive, and what the owner may do about it."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from functools import wraps
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from flask import Blueprint, flash, g, make_response, redirect, render_template, request, send_file, url_for
from sqlalchemy.exc import SQLAlchemyError

from fleet.authorize import CONSENT_PAGE
from fleet.errors import Actor
from fleet.regions import REGIONS
from fleet.scopes import SCOPES, missing
from models import consent, events, grants, pulses
from models.events import Kind
from models.export import export as everything
from web.problems import Problem
from web.sentence import cause_of, sentence
from web.session import end_session, keep_session, owner_of_session, signin_is_stored, signin_waits
from web.timeline import EVENTS, outcome, timeline
from web.wiring import wiring
from web.words import duration, exact
from workers.refresh import Result
from workers.watch import silence

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Response

    from fleet.errors import Cause
    from workers.refresh import Outcome

blueprint = Blueprint("owner", __name__, url_prefix="/owner")

PATIENCE = 20.0
"""Seconds that "Refresh now" waits for an attempt that another process is making."""

LIVE_SECONDS = 10
"""How often an open page asks what has changed."""

IN_FLIGHT_SECONDS = 2
"""The same while a refresh is under way."""

SHOWN = 20
"""How many of the last events."""


def signed_in(view: Callable[[str], str | Response]) -> Callable[[], str | Response]:
    """Gives the view the owner who is signed in; sends everybody else to the start page. Where a part of a
    page asks, the whole page is what goes there."""

    @wraps(view)
    def checked() -> str | Response:
        owner = owner_of_session()
        if owner is None and "HX-Request" in request.headers:
            return make_response("", {"HX-Refresh": "true"})
        if owner is None:
            flash("You are not signed in here. Sign in to see your page.")
            return redirect(url_for("pages.landing"), 303)
        if signin_waits():
            _store_signin(owner)
        return view(owner)

    return checked


def _store_signin(owner: str) -> None:
    """Takes what this session's sign-in brought from the escrow into the table. Raises `Problem` while that
    can't be."""
    try:
        wiring().parts.refresher.drain(owner)
    except SQLAlchemyError:
        raise Problem(
            "signin_waits",
            503,
            Actor.WAIT,
            "You are signed in, and your consent is kept",
            "Tesla has given its tokens. The token table does not take them at the moment, so they wait, "
            "encrypted, and are stored by themselves as soon as it does. You need not sign in again.",
            "Nothing to do. Look again in a minute.",
            ("Look again", "owner.page"),
            retry_after=10,
        ) from None
    signin_is_stored()


@blueprint.get("")
@signed_in
def page(owner: str) -> str:
    """The page."""
    keep_session()
    return render_template("owner.html", **_shown(owner))


@blueprint.get("/live")
@signed_in
def live(owner: str) -> str:
    """What on the page changes by itself."""
    return render_template("owner_live.html", part=True, **_shown(owner))


def _shown(owner: str) -> dict[str, Any]:
    wired = wiring()
    with wired.parts.database.read() as connection:
        grant = grants.read(connection, owner)
        happened = events.latest(connection, owner, EVENTS)
    swept = pulses.beaten_within(wired.parts.database, "sweep", silence(wired.settings))
    ended = next((event for event in happened if event.kind == Kind.DISCONNECTED), None)
    now = grant.read_at if grant else datetime.now(UTC)
    return {
        "owner": owner,
        "grant": grant,
        "sentence": sentence(grant, ended=ended, pause=_pause(), swept=swept),
        "timeline": timeline(grant, happened, now),
        "events": happened[:SHOWN],
        "shown": SHOWN,
        "now": now,
        "every": IN_FLIGHT_SECONDS if grant and grant.in_flight else LIVE_SECONDS,
        "outcome": outcome,
        "cause_of": cause_of,
        "regions": REGIONS,
        "scopes": SCOPES,
        "granted": grant.scopes.split() if grant else (),
        "missing": missing(wired.settings.tesla_scopes.split(), grant.scopes.split()) if grant else (),
        "at_tesla": _at_tesla(owner),
    }


def _at_tesla(owner: str) -> str:
    """Where Tesla shows the owner which apps may use the account; of the sandbox, the page that plays it."""
    settings = wiring().settings
    if not settings.uses_sandbox:
        return CONSENT_PAGE
    sandbox = urlsplit(settings.endpoint("tesla_authorize_url"))
    return f"{sandbox.scheme}://{sandbox.netloc}/?{urlencode({'q': owner})}"


def _pause() -> Cause | None:
    """Why attempts stand still for everybody, if they do."""
    look = wiring().parts.breaker.look()
    return None if look.state == "closed" else cause_of(look.cause)


# --- refresh now --------------------------------------------------------------------------------------


@blueprint.post("/refresh")
@signed_in
def refresh(owner: str) -> Response:
    """Refreshes what the owner saw; who clicks twice gets the first one's result."""
    wired = wiring()
    with wired.parts.database.read() as connection:
        grant = grants.read(connection, owner)
    if grant is None:
        flash("There is no grant to refresh.")
    else:
        seen = request.form.get("generation", type=int)
        stale = grant.generation if seen is None else min(seen, grant.generation)
        flash(_said(wired.parts.refresher.refresh(owner, stale=stale, wait=PATIENCE)))
    return redirect(url_for("owner.page"), 303)


def _said(outcome: Outcome) -> str:
    title = outcome.cause.title if outcome.cause else ""
    retry = f" Next try in {duration(outcome.retry_in)}." if outcome.retry_in is not None else ""
    match outcome.result:
        case Result.REFRESHED:
            return "Refreshed just now."
        case Result.FRESH:
            return "It is fresh already; there was nothing to do."
        case Result.IN_FLIGHT:
            return "A refresh is under way and has not ended yet. Look again in a moment."
        case Result.WAITING:
            return f"Not refreshed: {title or 'Tesla is not answering'}.{retry} Nothing to do."
        case Result.NEEDS_CONSENT:
            return f"Not refreshed: {title or 'Tesla ended this grant'}. Reconnect to go on."
        case Result.OPERATOR_MUST_ACT:
            return f"Not refreshed: {title or 'Tesla does not accept the app'}. That is the operator’s turn."
        case Result.NOT_CONNECTED:
            return "There is no grant to refresh."
        case Result.PAUSED:
            return "Not refreshed: the operator has paused it. It goes on when the operator resumes it."


# --- the owner's data ---------------------------------------------------------------------------------


@blueprint.get("/export")
@signed_in
def export(owner: str) -> Response:
    """All that is kept about the owner, as a file; the tokens are not in it."""
    with wiring().parts.database.read() as connection:
        kept = everything(connection, owner)
    now = datetime.now(UTC)
    content = {"exported_at": now, "owner": owner, "kept": kept}
    text = json.dumps(content, default=_written, indent=2, ensure_ascii=False)
    return send_file(
        io.BytesIO(text.encode()),
        "application/json",
        as_attachment=True,
        download_name=f"evergrant-{now:%Y-%m-%d}.json",
    )


def _written(value: object) -> str:
    return exact(value) if isinstance(value, datetime) else str(value)


# --- the owner's word ---------------------------------------------------------------------------------


@blueprint.get("/disconnect")
@signed_in
def ask_disconnect(_owner: str) -> str:
    """Asks before disconnecting."""
    return render_template(
        "confirm.html",
        title="Disconnect?",
        explanation="Evergrant erases your tokens and stops refreshing. The history stays on your page, "
        "and you can reconnect at any time.",
        label="Disconnect",
        target="owner.disconnect",
    )


@blueprint.post("/disconnect")
@signed_in
def disconnect(owner: str) -> Response:
    """Erases the tokens and keeps the history."""
    done = consent.disconnect(wiring().parts.database, owner, correlation_id=g.correlation_id)
    flash(
        "Disconnected. To withdraw the consent at Tesla too, remove the app in your Tesla account."
        if done
        else "It was disconnected already."
    )
    return redirect(url_for("owner.page"), 303)


@blueprint.get("/erase")
@signed_in
def ask_erase(_owner: str) -> str:
    """Asks before erasing."""
    return render_template(
        "confirm.html",
        title="Erase everything about this owner?",
        explanation="Tesla will no longer let Evergrant refresh it, and it can’t be undone. "
        "The tokens, the grant and its history go.",
        label="Erase everything",
        danger=True,
        target="owner.erase",
    )


@blueprint.post("/erase")
@signed_in
def erase(owner: str) -> Response:
    """Erases everything about the owner and signs out."""
    consent.erase(wiring().parts.database, owner)
    end_session()
    flash(
        "Everything about you is erased. "
        "To withdraw the consent at Tesla too, remove the app in your Tesla account."
    )
    return redirect(url_for("pages.landing"), 303)


@blueprint.post("/signout")
@signed_in
def signout(_owner: str) -> Response:
    """Signs out here; the grant stays alive."""
    end_session()
    flash("Signed out. Your grant stays alive.")
    return redirect(url_for("pages.landing"), 303)
