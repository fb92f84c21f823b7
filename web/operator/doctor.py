"""The doctor's page, with the same checks as the command line; and the guide to the first real sign-in."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import Blueprint, flash, g, redirect, render_template, request, url_for

from doctor import keypair, registration
from doctor.findings import Verdict, summary
from doctor.installation import examine, examine_owner, guide
from fleet.partner import domain_of, pairing_link
from fleet.regions import REGIONS
from fleet.scopes import SCOPES
from fleet.uris import same_head
from models import events
from models.events import Kind
from web.operator.asking import ask
from web.operator.session import operator_signed_in
from web.wiring import wiring

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

blueprint = Blueprint("doctor", __name__)

GROUPS = (
    (Verdict.FAIL, "Does not hold"),
    (Verdict.UNKNOWN, "Can’t be known from here"),
    (Verdict.PASS, "Holds"),
)

GLYPHS = {
    Verdict.PASS: ("circle", "alive"),
    Verdict.FAIL: ("square", "ended"),
    Verdict.UNKNOWN: ("triangle", "waiting"),
}
"""Shape and tone beside each verdict."""


@blueprint.get("/doctor")
@operator_signed_in
def page() -> str:
    """Everything, or with `owner` that grant. It looks each time that it is asked, and changes nothing."""
    owner = request.args.get("owner", "").strip()
    settings = wiring().settings
    if owner:
        findings, sentence = examine_owner(settings, owner)
    else:
        findings = examine(settings, [])
        sentence = summary(findings)
    return render_template(
        "operator/doctor.html",
        owner=owner,
        sentence=sentence,
        groups=[
            (title, [found for found in findings if found.verdict is verdict]) for verdict, title in GROUPS
        ],
        redirect_uri=settings.redirect_uri,
        glyphs=GLYPHS,
        same_head=same_head,
    )


# --- the first run ------------------------------------------------------------------------------------


@blueprint.get("/doctor/first-run")
@operator_signed_in
def first_run() -> str:
    """From the developer portal to the first real sign-in, each step checked now."""
    settings = wiring().settings
    steps = guide(settings)
    origin = urlsplit(settings.public_url)
    return render_template(
        "operator/first_run.html",
        steps=steps,
        # The one to take next: the first that is not done.
        next=next((step.name for step in steps if step.verdict is not Verdict.PASS), ""),
        glyphs=GLYPHS,
        same_head=same_head,
        settings=settings,
        origin=f"{origin.scheme}://{origin.netloc}",
        scopes=[(name, SCOPES[name].title) for name in settings.tesla_scopes.split() if name in SCOPES],
        pairing=pairing_link(domain_of(settings.public_url)),
    )


def _back() -> str:
    return url_for("operator.doctor.first_run")


def _note(detail: str) -> None:
    with wiring().parts.database.write() as connection:
        events.record(connection, Kind.BY_OPERATOR, detail=detail, correlation_id=g.correlation_id)


@blueprint.get("/doctor/keypair")
@operator_signed_in
def ask_keypair() -> str:
    """Asks before making a key."""
    return ask(
        "Make the app’s key?",
        "A key pair is made and kept in EVERGRANT_HOME; its public half is served where Tesla fetches it. An "
        "existing pair is left alone.",
        "Make the key",
        back=_back(),
    )


@blueprint.post("/doctor/keypair")
@operator_signed_in
def make_keypair() -> Response:
    """Makes the key pair."""
    place = keypair.Place.of(wiring().settings)
    try:
        made = keypair.make(place)
    except (keypair.BadKey, OSError) as error:
        flash(f"No key was made: {getattr(error, 'strerror', None) or error}.")
    else:
        if made:
            _note("The app’s key pair was made.")
            flash(f"Made {place.private}. Keep a copy of it.")
        else:
            flash("There is a key already; it was left alone.")
    return redirect(_back(), 303)


@blueprint.get("/doctor/register")
@operator_signed_in
def ask_register() -> str:
    """Asks before registering."""
    domain = domain_of(wiring().settings.public_url)
    return ask(
        "Register the app?",
        f"Tesla is asked, in each region, to register {domain}, and fetches the app’s public key from "
        "there. Doing "
        "it again does no harm.",
        "Register",
        back=_back(),
    )


@blueprint.post("/doctor/register")
@operator_signed_in
def register() -> Response:
    """Registers the domain in each region."""
    for each in registration.register(wiring().settings):
        name = REGIONS[each.region].name
        if each.error is None:
            _note(f"{each.domain} was registered in {name}.")
            flash(f"{name}: registered, and Tesla holds the key.")
        else:
            flash(f"{name}: not registered. {each.error}. {each.error.cause.repair}")
    return redirect(_back(), 303)
