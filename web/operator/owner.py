"""One owner: the whole story of the grant, and what the operator may do about it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flask import Blueprint, flash, g, redirect, render_template, request, url_for

from fleet.errors import Actor
from fleet.regions import REGIONS
from fleet.scopes import SCOPES, missing
from models import consent, events, grants, listing, pausing, pulses, spares
from models.events import Kind
from web.operator.asking import ask
from web.operator.events import place
from web.operator.owners import state_of, why
from web.operator.session import operator_signed_in
from web.problems import Problem
from web.sentence import BY_OPERATOR, sentence
from web.timeline import EVENTS, outcome, timeline
from web.wiring import wiring
from web.words import duration
from workers.lanes import lane
from workers.refresh import Result, cause_of
from workers.watch import silence

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from models.grants import Grant
    from workers.refresh import Outcome

blueprint = Blueprint("owner", __name__)

PATIENCE = 20.0
"""Seconds that "Refresh now" waits for an attempt that another process is making."""

ON_A_PAGE = 30
"""Events."""


@blueprint.get("/owner")
@operator_signed_in
def page() -> str:
    """The page."""
    parts = wiring().parts
    owner = _asked_for()
    with parts.database.read() as connection:
        grant = grants.read(connection, owner)
        happened = events.latest(connection, owner, EVENTS)
        history = listing.happened(
            connection,
            owner=owner,
            older_than=place("older"),
            newer_than=place("newer"),
            limit=ON_A_PAGE,
        )
        inside = grants.inside(connection, owner)
        kept = spares.number(connection, owner)
    if grant is None and not happened:
        raise _nobody(owner)
    look = parts.breaker.look()
    now = grant.read_at if grant else datetime.now(UTC)
    return render_template(
        "operator/owner.html",
        owner=owner,
        grant=grant,
        state=state_of(grant) if grant else None,
        why=why(grant) if grant else "",
        sentence=sentence(
            grant,
            ended=next((event for event in happened if event.kind == Kind.DISCONNECTED), None),
            pause=None if look.state == "closed" else cause_of(look.cause),
            swept=pulses.beaten_within(parts.database, "sweep", silence(parts.settings)),
            you="the owner",
        ),
        timeline=timeline(grant, happened, now),
        inside=inside,
        history_page=history,
        lane=lane(owner, parts.settings.lanes),
        spares=kept,
        now=now,
        outcome=outcome,
        cause_of=cause_of,
        regions=REGIONS,
        scopes=SCOPES,
        granted=grant.scopes.split() if grant else (),
        missing=missing(grant.requested_scopes.split(), grant.scopes.split()) if grant else (),
    )


def _asked_for() -> str:
    owner = request.args.get("id", "")
    if not owner or "\0" in owner:
        raise _nobody(owner)
    return owner


def _grant(owner: str) -> Grant:
    with wiring().parts.database.read() as connection:
        grant = grants.read(connection, owner)
    if grant is None:
        raise _nobody(owner)
    return grant


def _nobody(owner: str) -> Problem:
    return Problem(
        "no_such_owner",
        404,
        Actor.OPERATOR,
        "There is no such owner",
        "Nobody with this id has signed in here, or everything about them was erased.",
        "Look for them in the list of owners.",
        ("To the owners", "operator.owners.page"),
        [("Id", owner)] if owner else [],
    )


def _back(owner: str) -> str:
    return url_for("operator.owner.page", id=owner)


# --- what the operator may do -------------------------------------------------------------------------


@blueprint.get("/owner/refresh")
@operator_signed_in
def ask_refresh() -> str:
    """Asks before refreshing."""
    owner = _grant(_asked_for()).owner
    return ask(
        "Refresh now?",
        "One attempt is made at once, and the owner’s history says that the operator asked for it.",
        "Refresh now",
        back=_back(owner),
        about=owner,
    )


@blueprint.post("/owner/refresh")
@operator_signed_in
def refresh() -> Response:
    """Refreshes the generation that there is now."""
    parts = wiring().parts
    grant = _grant(_asked_for())
    with parts.database.write() as connection:
        events.record(
            connection,
            Kind.BY_OPERATOR,
            owner=grant.owner,
            detail="The operator asked for a refresh.",
            generation=grant.generation,
            correlation_id=g.correlation_id,
        )
    flash(_said(parts.refresher.refresh(grant.owner, stale=grant.generation, wait=PATIENCE)))
    return redirect(_back(grant.owner), 303)


def _said(outcome: Outcome) -> str:
    title = outcome.cause.title if outcome.cause else ""
    retry = f" Next try in {duration(outcome.retry_in)}." if outcome.retry_in is not None else ""
    match outcome.result:
        case Result.REFRESHED:
            return "Refreshed just now."
        case Result.FRESH:
            return "Another had just refreshed it."
        case Result.IN_FLIGHT:
            return "A refresh is under way and has not ended yet. Look again in a moment."
        case Result.WAITING:
            return f"Not refreshed: {title or 'Tesla is not answering'}.{retry}"
        case Result.NEEDS_CONSENT:
            return f"Not refreshed: {title or 'Tesla ended this grant'}. The owner must sign in again."
        case Result.OPERATOR_MUST_ACT:
            repair = f" {outcome.cause.repair}" if outcome.cause else ""
            return f"Not refreshed: {title or 'Tesla does not accept the app'}.{repair}"
        case Result.NOT_CONNECTED:
            return "The owner has disconnected; there is nothing to refresh."
        case Result.PAUSED:
            return "Not refreshed: it is paused. Resume it first."


@blueprint.get("/owner/pause")
@operator_signed_in
def ask_pause() -> str:
    """Asks before pausing."""
    owner = _grant(_asked_for()).owner
    return ask(
        "Pause this owner?",
        "Nobody refreshes the grant until you resume it, or the owner signs in again. The access token stays "
        "good until it runs out, and the owner’s page says that you paused it. A grant that stays paused for "
        "three months is lost.",
        "Pause",
        back=_back(owner),
        about=owner,
    )


@blueprint.post("/owner/pause")
@operator_signed_in
def pause() -> Response:
    """Pauses it."""
    owner = _asked_for()
    done = pausing.pause(wiring().parts.database, owner, correlation_id=g.correlation_id)
    flash("Paused." if done else "It is paused already, or not alive; nothing was changed.")
    return redirect(_back(owner), 303)


@blueprint.get("/owner/resume")
@operator_signed_in
def ask_resume() -> str:
    """Asks before resuming."""
    owner = _grant(_asked_for()).owner
    return ask(
        "Resume this owner?",
        "The grant is refreshed by itself again: at once if that would have been due by now.",
        "Resume",
        back=_back(owner),
        about=owner,
    )


@blueprint.post("/owner/resume")
@operator_signed_in
def resume() -> Response:
    """Resumes it."""
    parts, owner = wiring().parts, _asked_for()
    done = pausing.resume(
        parts.database,
        owner,
        due_after=parts.pacing.due_after,
        correlation_id=g.correlation_id,
        detail=BY_OPERATOR,
    )
    flash("Resumed." if done else "It was not paused; nothing was changed.")
    return redirect(_back(owner), 303)


@blueprint.get("/owner/disconnect")
@operator_signed_in
def ask_disconnect() -> str:
    """Asks before disconnecting."""
    owner = _grant(_asked_for()).owner
    return ask(
        "Disconnect this owner?",
        "Evergrant erases the tokens and stops refreshing, which can’t be undone: only the owner can "
        "reconnect, by signing in. The history stays.",
        "Disconnect",
        back=_back(owner),
        about=owner,
        danger=True,
    )


@blueprint.post("/owner/disconnect")
@operator_signed_in
def disconnect() -> Response:
    """Erases the tokens and keeps the history."""
    owner = _asked_for()
    done = consent.disconnect(
        wiring().parts.database, owner, correlation_id=g.correlation_id, detail=BY_OPERATOR
    )
    flash("Disconnected." if done else "It was disconnected already.")
    return redirect(_back(owner), 303)
