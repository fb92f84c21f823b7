"""What programs are told when something does not work: problem details (RFC 9457), and nothing else.

Beside the standard's members each has `code`, for programs to compare; `turn`, whose turn it is; and
`repair`, what to do. Where Tesla's answer is behind it, `entry` is where the whole story is.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from flask import Response, current_app, g, json, request
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException

from fleet.errors import Actor, Cause
from web.troubleshooting import address_of
from web.wiring import wiring

if TYPE_CHECKING:
    from flask import Flask

PROGRAM = "program"
"""Whose turn it is when the request itself has to change."""

HOW_TO_RECONNECT = "Let the owner sign in again, at `reconnect_url` or with a sign-in link."


class Refusal(Exception):
    """Why there is no answer.

    `turn` is an `Actor` or `PROGRAM`; `retry_in` is in seconds; `members` are added to the problem.
    """

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str = "",
        repair: str = "",
        *,
        turn: str = PROGRAM,
        retry_in: float | None = None,
        headers: dict[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(f"{code} ({status})")
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.repair = repair
        self.turn = turn
        self.retry_in = retry_in
        self.headers = headers or {}
        self.members = members


def owner_not_allowed() -> Refusal:
    """The key was made for others."""
    return Refusal(
        403,
        "owner_not_allowed",
        "The key is not for this owner",
        "It was made for some owners only, and this is none of them.",
        "Ask the operator for a key that is good for this owner.",
    )


def waiting(cause: Cause | None, retry_in: float | None) -> Refusal:
    """Nothing came of a refresh for now, and there is no token that still lives."""
    seconds = max(retry_in or 0, 1.0)
    if cause is None:
        return Refusal(
            503,
            "in_flight",
            "A refresh is under way",
            "It has not ended within the time that a call waits.",
            "Ask again in a moment.",
            turn=Actor.WAIT,
            retry_in=seconds,
        )
    return Refusal(
        503, cause.code, cause.title, cause.explanation, cause.repair, turn=cause.actor, retry_in=seconds
    )


def needs_consent(owner: str, cause: Cause | None) -> Refusal:
    """Only the owner can go on."""
    return Refusal(
        409,
        "needs_consent",
        cause.title if cause else "Tesla ended this grant",
        cause.explanation if cause else "Tesla no longer accepts a refresh token of this owner's.",
        HOW_TO_RECONNECT,
        turn=Actor.OWNER,
        owner=owner,
        reason=cause.code if cause else None,
        reconnect_url=reconnect_url(),
    )


def disconnected(owner: str) -> Refusal:
    """The owner's word."""
    return Refusal(
        409,
        "disconnected",
        "The grant was disconnected",
        "The owner, or somebody for the owner, ended it here. The tokens are erased.",
        HOW_TO_RECONNECT,
        turn=Actor.OWNER,
        owner=owner,
        reconnect_url=reconnect_url(),
    )


def paused(owner: str) -> Refusal:
    """The operator's word."""
    return Refusal(
        409,
        "paused",
        "The grant is paused by the operator",
        "Nothing is refreshed, and the access token has run out.",
        "The operator resumes it in the console; a new sign-in of the owner’s resumes it, too.",
        turn=Actor.OPERATOR,
        owner=owner,
    )


def no_grant(owner: str) -> Refusal:
    """Nobody of that id."""
    return Refusal(
        404,
        "no_grant",
        "There is no grant of this owner’s",
        "An owner’s id is the `sub` of Tesla’s tokens; this one has never signed in here, or was erased.",
        "Check the id, or let the owner sign in.",
        owner=owner,
        reconnect_url=reconnect_url(),
    )


def reconnect_url() -> str:
    """Where an owner signs in."""
    return f"{wiring().settings.public_url}/signin/missing"


# --- everything else that can go wrong ----------------------------------------------------------------

_HTTP = {
    400: ("bad_request", "The request can’t be read", "Correct the request."),
    404: ("not_found", "There is no such call", "Check the path; the document lists all calls."),
    405: ("method_not_allowed", "The call does not know this method", "Use a method that `Allow` names."),
    413: ("too_large", "The request is too large", "Send less at once."),
    415: ("not_json", "The body is not JSON", "Send JSON with `Content-Type: application/json`."),
}


def install(app: Flask) -> None:
    """Registers the handlers: after this, no failure ends in anything but a problem."""
    app.register_error_handler(Refusal, show)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(SQLAlchemyError, _sql_down)
    app.register_error_handler(RedisError, _redis_down)


def show(refusal: Refusal) -> Response:
    """The problem, with its status; logged in one line, without anything that came with the request."""
    current_app.logger.log(
        logging.WARNING if refusal.status >= 500 else logging.INFO,
        "%s %r: cause=%s status=%d correlation_id=%s",
        request.method,
        request.path,
        refusal.code,
        refusal.status,
        g.correlation_id,
    )
    problem = {
        "type": f"{wiring().settings.public_url}/api/v1/docs#{refusal.code}",
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.detail or None,
        "code": refusal.code,
        "turn": str(refusal.turn),
        "repair": refusal.repair or None,
        "entry": address_of(refusal.members.get("reason") or refusal.code),
        "correlation_id": g.correlation_id,
        **refusal.members,
    }
    body = json.dumps({name: value for name, value in problem.items() if value is not None})
    response = Response(body, refusal.status, refusal.headers, mimetype="application/problem+json")
    if refusal.retry_in is not None:
        response.headers["Retry-After"] = str(max(int(refusal.retry_in + 0.999), 1))
    return response


def _http(error: HTTPException) -> Response:
    status = error.code or 500
    if status >= 500:
        return show(
            Refusal(
                status,
                "internal",
                "Evergrant failed at this call",
                "It is a fault of Evergrant’s own, and it has been logged under the correlation id.",
                "Try again; if it stays, give the operator the correlation id.",
                turn=Actor.OPERATOR,
            )
        )
    code, title, repair = _HTTP.get(status, ("bad_request", error.name, "Correct the request."))
    headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    return show(Refusal(status, code, title, error.description or "", repair, headers=headers))


def _sql_down(error: SQLAlchemyError) -> Response:
    inner = getattr(error, "orig", None) or error
    current_app.logger.error("SQL failed: %s correlation_id=%s", type(inner).__name__, g.correlation_id)
    return show(
        Refusal(
            503,
            "sql_down",
            "The token table does not answer",
            "Evergrant can’t reach its database. Grants are kept and go on when it is back.",
            "Try again in a moment. The operator should look at the database (`DATABASE_URL`).",
            turn=Actor.OPERATOR,
            retry_in=5,
        )
    )


def _redis_down(error: RedisError) -> Response:
    current_app.logger.error("Redis failed: %s correlation_id=%s", type(error).__name__, g.correlation_id)
    return show(
        Refusal(
            503,
            "redis_down",
            "The queue does not answer",
            "Evergrant can’t reach Redis. Grants are kept.",
            "Try again in a moment. The operator should look at Redis (`REDIS_URL`).",
            turn=Actor.OPERATOR,
            retry_in=5,
        )
    )
