"""The start of a sign-in: the URL that the browser is sent to, and the secrets that bind the answer to it."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import secrets
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from fleet.errors import scrub
from fleet.transport import TransportError, call, session

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet.deadline import Deadline


CONSENT_PAGE = "https://accounts.tesla.com/account-settings/security?tab=tpty-apps"
"""Where an owner sees which apps may use the Tesla account, and takes that back: the tab "Third Party Apps"
of the Account Security page, to which Tesla's developer pages send for it ("Virtual Keys for Third-Party
Applications", how access is revoked)."""


@dataclass(frozen=True, repr=False)
class SignIn:
    """One sign-in under way. All four are secrets of this one browser until it ends."""

    state: str
    nonce: str
    code_verifier: str | None
    url: str

    def __repr__(self) -> str:
        return f"SignIn(pkce={self.code_verifier is not None})"


def begin(
    authorize_url: str,
    client_id: str,
    redirect_uri: str,
    scopes: str | Iterable[str],
    *,
    pkce: bool,
    prompt_missing_scopes: bool = False,
    login: bool = False,
) -> SignIn:
    """A new sign-in. `scopes` are separated by spaces, or one by one.

    `pkce` adds a S256 challenge (RFC 7636). `prompt_missing_scopes` has Tesla ask again for what the owner
    had unticked; `login` has it ask for the password even where the browser is signed in (Tesla's
    developer pages, "Third-Party Tokens").
    """
    state, nonce = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    query = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "scope": scopes if isinstance(scopes, str) else " ".join(scopes),
        "state": state,
        "nonce": nonce,
    }
    if login:
        query["prompt"] = "login"
    if prompt_missing_scopes:
        query["prompt_missing_scopes"] = "true"
    verifier = None
    if pkce:
        verifier = secrets.token_urlsafe(48)
        digest = hashlib.sha256(verifier.encode()).digest()
        query["code_challenge"] = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        query["code_challenge_method"] = "S256"
    parts = urlsplit(authorize_url)
    added = urlencode(query, quote_via=quote)
    url = urlunsplit(parts._replace(query=f"{parts.query}&{added}" if parts.query else added, fragment=""))
    return SignIn(state, nonce, verifier, url)


class Told(StrEnum):
    """What an authorize request is told before anybody signs in."""

    GO_ON = "go_on"
    """The sign-in page, or the way to it."""
    REDIRECT_MISMATCH = "redirect_mismatch"
    UNKNOWN_CLIENT = "invalid_client"
    UNCLEAR = "unclear"


_ABOUT_REDIRECT = re.compile(r"(?i)redirect[ _-]?ur[il]")
_REFUSED = re.compile(r"(?i)(don.t|not) recogni[sz]e|not registered for")
_ABOUT_CLIENT = re.compile(r"(?i)client[ _-]?id")


def told(url: str, deadline: Deadline) -> tuple[Told, str]:
    """What Tesla says to the authorize request `url` (see `begin`), and its own words or ours in a line.

    It asks as a browser would and stops at the first answer, so nothing comes of it at Tesla. A redirect
    URI that is not registered gets a 400, as JSON or as a page (seen: "We don't recognize this redirect
    URI/URL", "The 'redirect_uri' supplied is not registered for this 'client_id'").
    """
    try:
        answer = call(session(pool_size=1), "GET", url, deadline=deadline, headers={"Accept": "text/html"})
    except TransportError as error:
        return Told.UNCLEAR, str(error)
    text = _plain(answer.body)
    refused = answer.status in {400, 401} or (answer.status == 200 and _REFUSED.search(text))
    if not refused and answer.status in {200, 302, 303, 307}:
        return Told.GO_ON, f"HTTP {answer.status}"
    words = f"HTTP {answer.status}: {scrub(text, limit=500)}"
    if refused:
        if _ABOUT_REDIRECT.search(text):
            return Told.REDIRECT_MISMATCH, words
        if _ABOUT_CLIENT.search(text):
            return Told.UNKNOWN_CLIENT, words
    return Told.UNCLEAR, words


def _plain(body: bytes) -> str:
    """The words of a page or of JSON, in one line."""
    text = body[:65536].decode("utf-8", "replace")
    text = re.sub(r"(?is)<(head|script|style|footer)\b.*?</\1>", " ", text)
    return html.unescape(re.sub(r"<[^>]*>", " ", text))


class Discovery:
    """What the issuer says about itself in its discovery document."""

    GOOD_SECONDS = 3600.0
    FAILED_SECONDS = 60.0

    def __init__(self, issuers: tuple[str, ...]) -> None:
        self._issuers = issuers
        self._session = session(pool_size=1)
        self._lock = threading.Lock()
        self._known: bool | None = None
        self._until = 0.0

    def offers_pkce(self, deadline: Deadline) -> bool:
        """Whether the server lists S256. False where its document can't be read in time; then it is asked
        again a minute later, else an hour later."""
        with self._lock:
            if self._known is not None and time.monotonic() < self._until:
                return self._known
        answers = [self._ask(issuer, deadline) for issuer in self._issuers]
        read = [answer for answer in answers if answer is not None]
        with self._lock:
            self._known = any(read)
            self._until = time.monotonic() + (self.GOOD_SECONDS if read else self.FAILED_SECONDS)
            return self._known

    def _ask(self, issuer: str, deadline: Deadline) -> bool | None:
        url = issuer.rstrip("/") + "/.well-known/openid-configuration"
        try:
            answer = call(self._session, "GET", url, deadline=deadline)
            document = answer.json() if answer.status == 200 else None
        except (TransportError, ValueError):
            return None
        if not isinstance(document, dict):
            return None
        methods = document.get("code_challenge_methods_supported")
        return isinstance(methods, list) and "S256" in methods
