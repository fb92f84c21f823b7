"""The operator's sign-in, with OPERATOR_PASSWORD, and the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, current_app, flash, g, redirect, render_template, request, url_for
from limits import parse

from web.limits import network_of
from web.operator.session import end_session, is_operator, is_password, operator_signed_in, start_session
from web.wiring import wiring
from web.words import duration

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

blueprint = Blueprint("signin", __name__)

TRIES = parse("10 per 10 minutes")
"""Wrong passwords from one network address; who knows it starts anew."""

CONSOLE = "/operator"


@blueprint.get("/signin")
def page() -> str | Response:
    """Asks for the password."""
    if is_operator():
        return redirect(_came_for(), 303)
    return _form()


@blueprint.post("/signin")
def signin() -> Response | tuple[str, int] | tuple[str, int, dict[str, str]]:
    """Signs in who knows the password, and goes on to the page that was asked for."""
    wired = wiring()
    network = network_of(request.remote_addr)
    wait = wired.limits.take(TRIES, "operator", network)
    if wait is not None:
        current_app.logger.warning(
            "too many wrong passwords from %s: correlation_id=%s", network, g.correlation_id
        )
        wrong = f"Too many wrong passwords from your address. Try again in {duration(wait + 1)}."
        return _form(wrong), 429, {"Retry-After": str(int(wait) + 1)}
    if not is_password(request.form.get("password", "")):
        current_app.logger.warning("a wrong password from %s: correlation_id=%s", network, g.correlation_id)
        return _form("That is not the operator’s password."), 403
    wired.limits.forget(TRIES, "operator", network)
    response = redirect(_came_for(), 303)
    start_session(response)
    return response


@blueprint.post("/signout")
@operator_signed_in
def signout() -> Response:
    """Signs out in this browser."""
    flash("Signed out.")
    response = redirect(url_for("operator.signin.page"), 303)
    end_session(response)
    return response


def _form(wrong: str = "") -> str:
    return render_template("operator/signin.html", wrong=wrong, next=request.values.get("next", ""))


def _came_for() -> str:
    """The page of the console that was asked for before the sign-in; none outside it."""
    path = request.values.get("next", "")
    inside = path == CONSOLE or path.startswith((f"{CONSOLE}/", f"{CONSOLE}?"))
    return request.script_root + (path if inside and path.isprintable() and "\\" not in path else CONSOLE)
