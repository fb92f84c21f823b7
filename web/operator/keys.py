"""API keys: which programs have one, what each is good for, and ending it at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flask import Blueprint, flash, redirect, render_template, request, url_for

from fleet.errors import Actor
from models import api_keys
from models.api_keys import LONGEST_NAME, Scope
from web.operator.asking import ask
from web.operator.owners import Look
from web.operator.session import operator_signed_in
from web.problems import Problem
from web.wiring import wiring

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from models.api_keys import ApiKey

blueprint = Blueprint("keys", __name__)

SCOPES = {
    Scope.TOKENS_READ: "Read owners’ access tokens.",
    Scope.OWNERS_READ: "See owners, how their grants are, and what happened.",
    Scope.OWNERS_WRITE: "Refresh and disconnect owners, and make sign-in links.",
    Scope.GATEWAY: "Call the Fleet API in an owner’s name.",
}

SHOWN = 5
"""Owners of a restricted key."""


class Row(NamedTuple):
    """A key and how it is; `owners` are the first of those it is good for, None: all."""

    key: ApiKey
    look: Look
    owners: list[str] | None


@blueprint.get("/keys")
@operator_signed_in
def page() -> str:
    """The page."""
    with wiring().parts.database.read() as connection:
        rows = [
            Row(
                key, _look(key), api_keys.owners_of(connection, key.id, SHOWN + 1) if key.restricted else None
            )
            for key in api_keys.latest(connection)
        ]
    return render_template("operator/keys.html", rows=rows, scopes=SCOPES, shown=SHOWN, longest=LONGEST_NAME)


def _look(key: ApiKey) -> Look:
    if key.revoked_at is not None:
        return Look("Revoked", "cross", "none")
    if key.has_ended:
        return Look("Ended", "cross", "none")
    return Look("Good", "circle", "alive")


# --- making one ---------------------------------------------------------------------------------------


@blueprint.post("/keys")
@operator_signed_in
def make() -> str | Response:
    """Makes a key and shows it, this once."""
    name = request.form.get("name", "").strip()
    scopes = [scope for scope in Scope if scope in request.form.getlist("scope")]
    owners = request.form.get("owners", "").split()
    days = request.form.get("days", "").strip()
    if not api_keys.is_name(name):
        return _not_made(f"Give it a name of at most {LONGEST_NAME} characters.")
    if not scopes:
        return _not_made("Choose what it is good for.")
    if days and not (days.isdecimal() and 0 < int(days) <= 36500):
        return _not_made("The days must be a whole number, or nothing.")
    with wiring().parts.database.write() as connection:
        _, text = api_keys.create(
            connection,
            name=name,
            scopes=scopes,
            owners=owners or None,
            lives=int(days) * 24 * 3600 if days else None,
        )
    return render_template("operator/key_made.html", name=name, key=text)


def _not_made(why: str) -> Response:
    flash(f"Not made. {why}")
    return redirect(url_for("operator.keys.page"), 303)


# --- ending one ---------------------------------------------------------------------------------------


@blueprint.get("/keys/<key>/revoke")
@operator_signed_in
def ask_revoke(key: str) -> str:
    """Asks before revoking."""
    found = _key(key)
    return ask(
        "Revoke this key?",
        "The program that uses it can do nothing with it from its next call on, and it can’t be undone.",
        "Revoke it",
        back=url_for("operator.keys.page"),
        about=f"{found.name} ({found.id})",
        danger=True,
    )


@blueprint.post("/keys/<key>/revoke")
@operator_signed_in
def revoke(key: str) -> Response:
    """Revokes it."""
    _key(key)
    with wiring().parts.database.write() as connection:
        done = api_keys.revoke(connection, key)
    flash("Revoked: it opens nothing any more." if done else "It was revoked already.")
    return redirect(url_for("operator.keys.page"), 303)


def _key(key: str) -> ApiKey:
    with wiring().parts.database.read() as connection:
        found = api_keys.read(connection, key) if key.isalnum() else None
    if found is None:
        raise Problem(
            "no_such_key",
            404,
            Actor.OPERATOR,
            "There is no such key",
            "There never was one with this id.",
            "Look at those that there are.",
            ("To the keys", "operator.keys.page"),
            [("Id", key)],
        )
    return found
