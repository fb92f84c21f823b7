"""Who is signed in, in a signed cookie: the owner's id and nothing that opens anything."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flask import session
from flask_wtf.csrf import generate_csrf

if TYPE_CHECKING:
    from settings import Settings

_OWNER = "owner"
_WAITS = "waits"

LIFE = timedelta(days=7)
"""Since the owner's page was last opened."""


def cookie_config(settings: Settings) -> dict[str, Any]:
    """Flask's settings for the session's cookie."""
    secure = settings.public_url.startswith("https://")
    return {
        "SECRET_KEY": settings.cookie_key,
        "SESSION_COOKIE_NAME": "__Host-evergrant" if secure else "evergrant",
        "SESSION_COOKIE_PATH": "/",
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "SESSION_COOKIE_SECURE": secure,
        "PERMANENT_SESSION_LIFETIME": LIFE,
        # Else the answer to what an open page asks by itself would bring a session back that another tab has
        # ended meanwhile.
        "SESSION_REFRESH_EACH_REQUEST": False,
    }


def owner_of_session() -> str | None:
    """The owner who is signed in here, or None."""
    owner = session.get(_OWNER)
    return owner if isinstance(owner, str) else None


def start_session(owner: str, *, waits: bool = False) -> None:
    """Signs this owner in, with nothing left of a session before. `waits`: what the sign-in brought is not in
    the table yet."""
    session.clear()
    session.permanent = True
    session[_OWNER] = owner
    if waits:
        session[_WAITS] = True
    # Made now and not by the first form: pages that two tabs open at once would each make another.
    generate_csrf()


def keep_session() -> None:
    """Its life begins anew."""
    session.modified = True


def signin_waits() -> bool:
    """Whether what this session's sign-in brought was not in the table when it was last looked for."""
    return _WAITS in session


def signin_is_stored() -> None:
    """It is in the table now."""
    session.pop(_WAITS, None)


def end_session() -> None:
    """Signs out."""
    session.clear()
