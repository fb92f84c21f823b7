"""How a request for the redirect URI arrives, told by the web app that it arrived at.

The doctor asks `PUBLIC_URL` from outside, as a browser would, with a signed question. The web app answers
what has come through, and so every proxy between them shows. Both know the key that signs cookies; nobody
else gets an answer.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from itsdangerous import BadSignature, Signer, TimestampSigner

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "evergrant-doctor"
"""Of the parameter that carries the question, and of the cookies that go there and back."""

_SECONDS = 60
_TEXT = "a b+c/d?e=f&g"
"""Comes through whole only where nobody changes the query."""

_FORWARDED = (
    "Forwarded",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Prefix",
    "X-Forwarded-For",
    "Via",
)


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A request as it came to the web app. `path` is the whole path, `route` what is left of it for the app;
    `forwarded` what proxies say about themselves."""

    scheme: str
    host: str
    path: str
    route: str
    cookie: bool
    query: bool
    forwarded: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """To be asked once. It travels in the query and in a cookie, so that it arrives where one is lost."""

    nonce: str
    parameters: dict[str, str]
    cookie: str


def question(key: str) -> Question:
    nonce = secrets.token_urlsafe(16)
    signed = TimestampSigner(key, salt="doctor asks").sign(nonce).decode()
    return Question(nonce, {NAME: signed, "text": _TEXT}, f"{NAME}={signed}")


def asked(key: str, environ: Mapping[str, Any]) -> str | None:
    """The nonce of a question that was asked with the same key, just now; else None."""
    query, cookie = environ.get("QUERY_STRING", ""), environ.get("HTTP_COOKIE", "")
    if NAME not in query and NAME not in cookie:
        return None
    for signed in (*parse_qs(query).get(NAME, []), *re.findall(rf"{NAME}=([^;\s]+)", cookie)):
        try:
            return TimestampSigner(key, salt="doctor asks").unsign(signed, max_age=_SECONDS).decode()
        except BadSignature:
            continue
    return None


def answer(key: str, nonce: str, environ: Mapping[str, Any], route: str) -> bytes:
    """What is answered to it."""
    headers = {name: environ.get(f"HTTP_{name.upper().replace('-', '_')}", "") for name in _FORWARDED}
    arrival = Arrival(
        scheme=environ.get("wsgi.url_scheme", ""),
        host=environ.get("HTTP_HOST", ""),
        path=environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""),
        route=route,
        cookie=f"{NAME}={nonce}." in environ.get("HTTP_COOKIE", ""),
        query=parse_qs(environ.get("QUERY_STRING", "")).get("text") == [_TEXT],
        forwarded={name: value for name, value in headers.items() if value},
    )
    return json.dumps({"proof": _proof(key, nonce), **asdict(arrival)}).encode()


def read(key: str, nonce: str, body: bytes) -> Arrival | None:
    """The answer to our question; None where it is not that of an Evergrant with our key."""
    try:
        content = json.loads(body)
        proof = content.pop("proof")
        arrival = Arrival(**content)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return arrival if secrets.compare_digest(str(proof), _proof(key, nonce)) else None


def _proof(key: str, nonce: str) -> str:
    return Signer(key, salt="doctor is answered").get_signature(nonce).decode()
