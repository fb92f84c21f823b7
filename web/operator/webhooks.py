"""Webhooks: where they go, whether they get there, and sending them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flask import Blueprint, flash, g, redirect, render_template, request, url_for

from fleet.errors import Actor
from models import events, surveys, webhooks
from models.crypto import Unopenable
from models.events import Kind
from models.webhooks import DELIVERED, FAILING, GIVEN_UP, GONE, TYPES
from web.operator.asking import ask
from web.operator.owners import Look
from web.operator.session import operator_signed_in
from web.problems import Problem
from web.wiring import wiring
from workers.webhooks import Deliverer, Places, host

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from werkzeug.wrappers import Response

    from models.webhooks import Delivery, Endpoint

blueprint = Blueprint("webhooks", __name__)

SHOWN = 10
"""Deliveries of each endpoint."""

OVERLAP = 24 * 3600.0
"""Seconds for which an old secret signs beside its successor."""


class Row(NamedTuple):
    """An endpoint, how it is, and the last that was for it."""

    endpoint: Endpoint
    look: Look
    waiting: int
    deliveries: list[tuple[Delivery, Look]]
    missed: bool


@blueprint.get("/webhooks")
@operator_signed_in
def page() -> str:
    """The page."""
    with wiring().parts.database.read() as connection:
        waiting = webhooks.waiting(connection)
        rows = []
        for one in webhooks.read_all(connection):
            last = webhooks.latest(connection, one.id, SHOWN)
            rows.append(
                Row(
                    one,
                    _state(one),
                    waiting.get(one.id, 0),
                    [(delivery, _fate(delivery)) for delivery in last],
                    one.off_because is not None or any(each.state == GIVEN_UP for each in last),
                )
            )
        now = surveys.clock(connection)
    return render_template("operator/webhooks.html", rows=rows, types=TYPES, shown=SHOWN, now=now)


def _state(endpoint: Endpoint) -> Look:
    if endpoint.off_because == GONE:
        return Look("Off: it answered that it is gone.", "cross", "ended")
    if endpoint.off_because == FAILING:
        return Look("Off: it took nothing for days. What it misses waits for it.", "cross", "ended")
    if endpoint.failing_since is not None:
        return Look("Failing. It is tried again by itself.", "triangle", "waiting")
    return Look("On.", "circle", "alive")


def _fate(delivery: Delivery) -> Look:
    if delivery.state == DELIVERED:
        return Look("Taken", "circle", "alive")
    if delivery.state == GIVEN_UP:
        return Look("Given up", "cross", "ended")
    return Look(
        "Waits", "triangle" if delivery.attempts else "box", "waiting" if delivery.attempts else "none"
    )


# --- adding one ---------------------------------------------------------------------------------------


@blueprint.post("/webhooks")
@operator_signed_in
def add() -> str | Response:
    """Adds an endpoint and shows its secret, this once."""
    parts = wiring().parts
    url = request.form.get("url", "").strip()
    types = [name for name in TYPES if name in request.form.getlist("type")]
    if (refusal := Places(parts.settings.webhook_networks).refusal(url)) is not None:
        flash(f"Not added. {refusal}")
        return redirect(url_for("operator.webhooks.page"), 303)
    with parts.database.write() as connection:
        endpoint, secret = webhooks.add(
            connection, parts.keyring, url, () if len(types) == len(TYPES) else types
        )
        _note(connection, f"Webhooks go to {host(url)} now ({endpoint}).")
    return _secret(endpoint, secret)


def _secret(endpoint: str, secret: str) -> str:
    return render_template("operator/webhook_secret.html", endpoint=endpoint, secret=secret)


# --- what the operator may do with one ----------------------------------------------------------------


@blueprint.post("/webhooks/<one>/test")
@operator_signed_in
def test(one: str) -> Response:
    """Sends a message that tells of nothing, and says what came back."""
    reply = Deliverer(wiring().parts).test(_endpoint(one))
    flash(f"It was taken: HTTP {reply.status}." if reply.good else f"It was not taken: {reply.error}.")
    return _back()


@blueprint.post("/webhooks/<one>/again/<message>")
@operator_signed_in
def again(one: str, message: str) -> Response:
    """Sends one message again."""
    _endpoint(one)
    with wiring().parts.database.write() as connection:
        count = webhooks.replay(connection, one, message=message)
        if count:
            _note(connection, f"The operator had a webhook sent to {one} again ({message}).")
    flash("It is sent again with the next sweep." if count else "That message is not kept any more.")
    return _back()


@blueprint.get("/webhooks/<one>/replay")
@operator_signed_in
def ask_replay(one: str) -> str:
    """Asks before sending what was missed."""
    found = _endpoint(one)
    return ask(
        "Send what it has not taken?",
        f"All that {host(found.url)} has not taken in the last 30 days is sent again, and it is turned on if "
        "it was off.",
        "Send it",
        back=url_for("operator.webhooks.page"),
        about=found.url,
    )


@blueprint.post("/webhooks/<one>/replay")
@operator_signed_in
def replay(one: str) -> Response:
    """Sends what was missed."""
    _endpoint(one)
    with wiring().parts.database.write() as connection:
        count = webhooks.replay(connection, one)
        _note(connection, f"The operator had {count} webhooks sent to {one} again.")
    flash(f"{count} {'message is' if count == 1 else 'messages are'} sent with the next sweep.")
    return _back()


@blueprint.get("/webhooks/<one>/rotate")
@operator_signed_in
def ask_rotate(one: str) -> str:
    """Asks before giving it a new secret."""
    return ask(
        "A new secret?",
        "The new secret is shown once and signs from now on. The old one signs as well for a day, so that "
        "the receiver can change over without missing anything.",
        "Make a new secret",
        back=url_for("operator.webhooks.page"),
        about=_endpoint(one).url,
    )


@blueprint.post("/webhooks/<one>/rotate")
@operator_signed_in
def rotate(one: str) -> str | Response:
    """Gives it a new secret."""
    parts = wiring().parts
    try:
        with parts.database.write() as connection:
            secret = webhooks.rotate(connection, parts.keyring, one, OVERLAP)
            if secret is not None:
                _note(connection, f"The webhooks' endpoint {one} has a new secret.")
    except Unopenable as error:
        flash(f"Its secret does not open: {error}. Put the missing key back into ENCRYPTION_KEYS.")
        return _back()
    if secret is None:
        raise _no_endpoint(one)
    return _secret(one, secret)


@blueprint.get("/webhooks/<one>/remove")
@operator_signed_in
def ask_remove(one: str) -> str:
    """Asks before removing."""
    return ask(
        "Remove this endpoint?",
        "Nothing is sent there any more, and what waits for it is forgotten.",
        "Remove it",
        back=url_for("operator.webhooks.page"),
        about=_endpoint(one).url,
        danger=True,
    )


@blueprint.post("/webhooks/<one>/remove")
@operator_signed_in
def remove(one: str) -> Response:
    """Removes it."""
    found = _endpoint(one)
    with wiring().parts.database.write() as connection:
        if webhooks.remove(connection, one):
            _note(connection, f"No webhooks go to {host(found.url)} any more ({one}).")
    flash("Removed.")
    return _back()


# --- in common ----------------------------------------------------------------------------------------


def _endpoint(endpoint: str) -> Endpoint:
    with wiring().parts.database.read() as connection:
        found = webhooks.read(connection, endpoint)
    if found is None:
        raise _no_endpoint(endpoint)
    return found


def _no_endpoint(endpoint: str) -> Problem:
    return Problem(
        "no_such_endpoint",
        404,
        Actor.OPERATOR,
        "There is no such endpoint",
        "It was removed, or never added.",
        "Look at those that there are.",
        ("To the webhooks", "operator.webhooks.page"),
        [("Id", endpoint)],
    )


def _note(connection: Connection, detail: str) -> None:
    events.record(connection, Kind.BY_OPERATOR, detail=detail, correlation_id=g.correlation_id)


def _back() -> Response:
    return redirect(url_for("operator.webhooks.page"), 303)
