"""Who is signed in as the operator: a signed cookie of its own, beside the owner's session and apart from it.

It is good for `LIFE`, however much it is used, and only as long as the password is the one it was given for.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

from flask import redirect, request, url_for
from itsdangerous import BadSignature, URLSafeTimedSerializer

from web.wiring import wiring

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Response

    from settings import Settings

    View = Callable[..., str | Response | tuple[str, int]]

P = ParamSpec("P")

LIFE = timedelta(hours=12)
"""Since the sign-in: a working day."""


def is_operator() -> bool:
    """Whether this request comes from who has signed in as the operator."""
    settings = wiring().settings
    marker = request.cookies.get(cookie_name(settings), "")
    try:
        _signer(settings).loads(marker, max_age=int(LIFE.total_seconds()))
    except BadSignature:
        return False
    return True


def is_password(given: str) -> bool:
    """Whether this is OPERATOR_PASSWORD; it takes the same time however wrong it is."""
    right = wiring().settings.console_password
    return hmac.compare_digest(_digest(given), _digest(right))


def start_session(response: Response) -> None:
    """Signs this browser in."""
    settings = wiring().settings
    response.set_cookie(
        cookie_name(settings),
        _signer(settings).dumps(secrets.token_urlsafe(9)),
        max_age=LIFE,
        path="/",
        secure=_is_secure(settings),
        httponly=True,
        samesite="Lax",
    )


def end_session(response: Response) -> None:
    """Signs this browser out."""
    settings = wiring().settings
    response.delete_cookie(
        cookie_name(settings), path="/", secure=_is_secure(settings), httponly=True, samesite="Lax"
    )


def operator_signed_in(view: Callable[P, Any]) -> Callable[P, Any]:
    """Lets only the operator see a page or press its buttons; sends everybody else to the sign-in."""

    @wraps(view)
    def checked(*args: P.args, **kwargs: P.kwargs) -> Any:
        if is_operator():
            return view(*args, **kwargs)
        if "HX-Request" in request.headers:
            return "", {"HX-Refresh": "true"}  # an open page: it is asked for anew, and ends at the sign-in
        came_for = request.full_path.rstrip("?") if request.method == "GET" else None
        return redirect(url_for("operator.signin.page", next=came_for), 303)

    return checked


def cookie_name(settings: Settings) -> str:
    # With this prefix a browser takes the cookie from this host over TLS only, never from a neighbour.
    return "__Host-evergrant-operator" if _is_secure(settings) else "evergrant-operator"


def _is_secure(settings: Settings) -> bool:
    return settings.public_url.startswith("https://")


def _signer(settings: Settings) -> URLSafeTimedSerializer:
    # The password is part of the key: changing it ends every session.
    return URLSafeTimedSerializer(settings.cookie_key, salt=b"operator" + _digest(settings.console_password))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
