"""A page for each thing that can go wrong: what happened, whose turn it is, what to do."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flask import current_app, g, make_response, render_template, request
from flask_wtf.csrf import CSRFError
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException, InternalServerError

from fleet.errors import CAUSES, Actor, TeslaError
from fleet.uris import other_uri, parting

if TYPE_CHECKING:
    from flask import Flask, Response

TURNS = {Actor.OWNER: "Your turn", Actor.OPERATOR: "The operator’s turn", Actor.WAIT: "Nobody’s turn: wait"}

SIGN_IN_AGAIN = ("Sign in again", "signin.signin")
SIGN_IN_AGAIN_ASKING = ("Sign in again", "signin.signin_asking")
TO_YOUR_PAGE = ("To your page", "owner.page")
HOME = ("To the start page", "pages.landing")


@dataclass(eq=False)
class Problem(Exception):
    """What the reader of the page has to know.

    `details` are pairs of a label and a text, shown word for word; `action` is a button's label and its
    endpoint; `retry_after` is in seconds.
    """

    code: str
    status: int
    actor: Actor
    title: str
    explanation: str
    repair: str
    action: tuple[str, str] | None = HOME
    details: list[tuple[str, str]] = field(default_factory=list)
    retry_after: float | None = None

    def __str__(self) -> str:
        return f"{self.code} ({self.status})"


_STATUS = {
    "invalid_auth_code": 400,
    "bad_id_token": 502,
    "edge": 502,
    "odd_answer": 502,
}
_STATUS_BY_ACTOR = {Actor.OWNER: 403, Actor.OPERATOR: 500, Actor.WAIT: 503}


def of_signin(error: TeslaError, redirect_uri: str) -> Problem:
    """The page for a sign-in that Tesla did not complete. `redirect_uri` is the one that was sent."""
    cause = error.cause
    details = []
    if cause.code == "redirect_mismatch":
        details.append(("Evergrant sent, letter by letter", redirect_uri))
        if other := other_uri(error.description, redirect_uri):
            details += [("Tesla names", other), ("They part at", parting(redirect_uri, other))]
    if said := ": ".join(filter(None, (error.error, error.description))):
        details.append(("In detail" if cause.actor is Actor.WAIT else "Tesla’s answer", said))
    if error.status is not None:
        details.append(("HTTP status", str(error.status)))
    if error.reference:
        details.append(("Tesla’s reference", error.reference))
    repair, action = cause.repair, SIGN_IN_AGAIN
    if cause.actor is Actor.WAIT:
        # The table's words are about refreshes, which go on by themselves; a sign-in does not.
        repair = "Nothing was changed. Wait a moment, then sign in again."
    if cause.code == "no_refresh_token":
        action = SIGN_IN_AGAIN_ASKING
    return Problem(
        code=cause.code,
        status=_STATUS.get(cause.code, _STATUS_BY_ACTOR[cause.actor]),
        actor=cause.actor,
        title=cause.title,
        explanation=cause.explanation,
        repair=repair,
        action=action,
        details=details,
        retry_after=error.retry_after,
    )


# --- everything else that can go wrong ----------------------------------------------------------------

_HTTP = {
    400: (
        "This request can’t be read",
        "Something in the address or the form is malformed.",
        "Go back and try again.",
    ),
    404: ("There is no such page", "The address is wrong, or the page is gone.", "Check the address."),
    405: (
        "This page can’t be used that way",
        "It was asked for in a way that it does not offer.",
        "Go back and use the page’s buttons.",
    ),
    413: (
        "That is too much",
        "The request is larger than anything this page needs.",
        "Go back and try again.",
    ),
    429: (
        "That was too often",
        "It was asked for more often than it may be. Nothing was done.",
        "Try again in a minute.",
    ),
}


def install(app: Flask) -> None:
    """Registers the handlers: after this, no failure ends in anything but a page of this kind."""
    app.register_error_handler(Problem, show)
    app.register_error_handler(CSRFError, lambda _: show(_old_form()))
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(SQLAlchemyError, _sql_down)
    app.register_error_handler(RedisError, _redis_down)


def note(problem: Problem) -> None:
    """Logs it in one line, without anything that came with the request."""
    current_app.logger.log(
        logging.INFO if problem.status in {404, 405} else logging.WARNING,
        "%s %r: cause=%s status=%d correlation_id=%s%s",
        request.method,
        request.path,
        problem.code,
        problem.status,
        g.correlation_id,
        f" ({CAUSES[problem.code].entry})" if problem.code in CAUSES else "",
    )


def show(problem: Problem) -> Response:
    """The page, with its status."""
    note(problem)
    page = render_template("problem.html", problem=problem, turn=TURNS[problem.actor])
    response = make_response(page, problem.status)
    if problem.retry_after is not None:
        response.headers["Retry-After"] = str(max(int(problem.retry_after), 1))
    return response


def _old_form() -> Problem:
    return Problem(
        "old_form",
        400,
        Actor.OWNER,
        "This page is too old",
        "The form was made before you signed in or out, or it came from somewhere else. Nothing was done.",
        "Open the page anew and try again.",
    )


def _http(error: HTTPException) -> Response | HTTPException:
    status = error.code or 500
    if isinstance(error, InternalServerError):
        return show(
            Problem(
                "internal",
                500,
                Actor.OPERATOR,
                "Evergrant failed at this page",
                "It is a fault of Evergrant’s own, and it has been logged under the correlation id below.",
                "Try again; if it stays, give the operator the correlation id.",
            )
        )
    if status < 400:
        return error
    title, explanation, repair = _HTTP.get(
        status, (error.name, "The web server could not do this.", "Go back and try again.")
    )
    actor = Actor.WAIT if status == 429 else Actor.OWNER
    response = show(Problem(f"http_{status}", status, actor, title, explanation, repair))
    if error.response is None:
        for name, value in error.get_headers():
            if name in {"Allow", "Retry-After"}:
                response.headers[name] = value
    return response


def _sql_down(error: SQLAlchemyError) -> Response:
    current_app.logger.error("SQL failed: %s correlation_id=%s", _why(error), g.correlation_id)
    return show(
        Problem(
            "sql_down",
            503,
            Actor.OPERATOR,
            "The token table does not answer",
            "Evergrant can’t reach its database, so nothing was changed. "
            "Grants are kept and go on when it is back.",
            "Try again in a minute. The operator should look at the database (`DATABASE_URL`).",
            retry_after=30,
        )
    )


def _redis_down(error: RedisError) -> Response:
    current_app.logger.error("Redis failed: %s correlation_id=%s", type(error).__name__, g.correlation_id)
    return show(
        Problem(
            "redis_down",
            503,
            Actor.OPERATOR,
            "The queue does not answer",
            "Evergrant can’t reach Redis. Grants are kept.",
            "Try again in a minute. The operator should look at Redis (`REDIS_URL`).",
            retry_after=30,
        )
    )


def _why(error: SQLAlchemyError) -> str:
    """The driver's first line; parameters are never in it (`models.session` hides them)."""
    inner = getattr(error, "orig", None) or error
    return f"{type(inner).__name__}: {str(inner).splitlines()[0] if str(inner) else ''}"
