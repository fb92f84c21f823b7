"""The start page: what this is, what is asked for and why, and the one button."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from flask import Blueprint, make_response, render_template

from fleet.scopes import SCOPES
from models.events import Event, Kind
from web import signin
from web.session import owner_of_session
from web.timeline import Timeline, lay_out
from web.wiring import wiring

if TYPE_CHECKING:
    from flask import Response

blueprint = Blueprint("pages", __name__)


@blueprint.get("/")
def landing() -> Response:
    """The page; it needs no database."""
    settings = wiring().settings
    page = render_template(
        "landing.html",
        signed_in=owner_of_session() is not None,
        asked=settings.tesla_scopes.split(),
        scopes=SCOPES,
        sandbox=settings.uses_sandbox,
        example=_example(),
    )
    response = make_response(page)
    signin.give_browser_cookie(response)
    return response


_A_NIGHT_OUT = (
    (Kind.CONNECTED, 43.0),
    *((Kind.REFRESHED, ago) for ago in (37.1, 31.0, 24.9)),
    *((Kind.WAITING, ago) for ago in (18.9, 18.0)),
    *((Kind.REFRESHED, ago) for ago in (17.3, 11.4, 5.3)),
)
"""What happened how many hours ago. Tesla was away for a while, and nobody noticed."""


def _example() -> Timeline | None:
    now = datetime.now(UTC)
    happened: list[Event] = []
    for number, (kind, ago) in enumerate(_A_NIGHT_OUT):
        at = now - timedelta(hours=ago)
        until = None if kind == Kind.WAITING else at + timedelta(hours=8)
        happened.insert(0, Event(number, at, None, kind, None, None, None, None, None, until))
    return lay_out(happened, now + timedelta(hours=0.7), now)
