"""The one table of what can go wrong: Tesla's answer → who must act → words → repair.

A new cause belongs here and nowhere else. Tesla's spellings are those of its developer pages
("Authentication", "Errors", "Conventions") and of what programs in the field have met.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fleet.transport import Answer


class Actor(StrEnum):
    """Whose turn it is."""

    OWNER = "owner"
    OPERATOR = "operator"
    WAIT = "wait"


@dataclass(frozen=True)
class Cause:
    """Why something did not work, for the person who has to act. `repair` is a sentence in the imperative,
    or says that there is nothing to do."""

    code: str
    actor: Actor
    title: str
    explanation: str
    repair: str

    @property
    def entry(self) -> str:
        """Where the whole story is, for a line of the log; the web app has the same at `/troubleshooting`."""
        return f"docs/troubleshooting.md#{self.code}"


_WAITS = "Nothing to do: Evergrant tries again by itself."

CAUSES: dict[str, Cause] = {
    cause.code: cause
    for cause in (
        # --- the owner must act
        Cause(
            "login_required",
            Actor.OWNER,
            "Tesla ended this grant",
            "Tesla no longer accepts the refresh token: consent was withdrawn, the Tesla password was "
            "changed, the owner signed in to the same app elsewhere, or the grant was not used for three "
            "months.",
            "Sign in with Tesla again to reconnect.",
        ),
        Cause(
            "invalid_auth_code",
            Actor.OWNER,
            "This sign-in link is old",
            "Tesla's sign-in code works once and for a few minutes. This one was used before or is too old.",
            "Sign in again.",
        ),
        Cause(
            "access_denied",
            Actor.OWNER,
            "You said no at Tesla",
            "Tesla says that you did not give consent, so there is no grant.",
            "Sign in again if you want to give it.",
        ),
        Cause(
            "no_refresh_token",
            Actor.OWNER,
            "The grant can't be kept alive",
            "Tesla gave no refresh token. It gives one only where staying connected (`offline_access`) is "
            "allowed.",
            "Sign in again and leave staying connected ticked.",
        ),
        Cause(
            "consent_withdrawn",
            Actor.OWNER,
            "You withdrew consent at Tesla",
            "Tesla did not accept the token: it says that consent was withdrawn.",
            "Sign in with Tesla again to reconnect.",
        ),
        Cause(
            "superseded_token",
            Actor.OWNER,
            "A newer refresh token is in use elsewhere",
            "Tesla refuses the refresh token although consent stands: another program has used it since, the "
            "owner has signed in to the same app elsewhere, or the token table came back from a backup.",
            "Sign in with Tesla again. Before that, see that nothing but Evergrant refreshes this owner’s "
            "tokens.",
        ),
        Cause(
            "missing_scopes",
            Actor.OWNER,
            "A permission is missing",
            "Tesla refuses this because the owner has not granted the permission (scope) that it needs.",
            "Sign in again and tick the missing permission.",
        ),
        Cause(
            "unknown_user",
            Actor.OWNER,
            "Tesla does not know this account yet",
            "Tesla's Fleet API knows an account only after its first sign-in to the Tesla app.",
            "Sign in to the Tesla app on a phone once, then connect again.",
        ),
        Cause(
            "bad_id_token",
            Actor.OPERATOR,
            "The proof of who signed in does not hold",
            "Tesla's id token did not pass its checks.",
            "Sign in again. If it happens again, check `TESLA_ISSUER`, `TESLA_JWKS_URL`, `TESLA_CLIENT_ID` "
            "and this machine's clock.",
        ),
        # --- the operator must act
        Cause(
            "invalid_client",
            Actor.OPERATOR,
            "Tesla does not know this client id and secret",
            "They come from `TESLA_CLIENT_ID` and `TESLA_CLIENT_SECRET`. Owners keep their grants meanwhile.",
            "Compare `TESLA_CLIENT_ID` and `TESLA_CLIENT_SECRET` with the app at developer.tesla.com, set "
            "them right and restart.",
        ),
        Cause(
            "other_credentials",
            Actor.OPERATOR,
            "This grant belongs to another app",
            "Tesla’s tokens work only with the client id that they were given to, and this is another "
            "one than `TESLA_CLIENT_ID`: it was changed since, or it is that of another environment.",
            "Put back the `TESLA_CLIENT_ID` that the grant was made with and restart, or have the owner sign "
            "in again with this one.",
        ),
        Cause(
            "two_refreshes",
            Actor.OPERATOR,
            "The same refresh token was used twice at once",
            "Tesla refused the refresh token that it had just given, and accepted the one before: that one "
            "was used twice. The grant is alive; the next time may end it.",
            "See that nothing but Evergrant refreshes this owner’s tokens, and that no second Evergrant runs "
            "on a copy of the token table.",
        ),
        Cause(
            "redirect_mismatch",
            Actor.OPERATOR,
            "The redirect URI is not the registered one",
            "Tesla compares it to the letter: scheme, host, port, path, and the slash at the end. Ours is "
            "`PUBLIC_URL` + `/callback`.",
            "Register exactly that URI with the app at developer.tesla.com, or set `PUBLIC_URL` right and "
            "restart.",
        ),
        Cause(
            "client_refused",
            Actor.OPERATOR,
            "Tesla does not let this app do that",
            "Tesla knows the app (`TESLA_CLIENT_ID`) but refuses this kind of request from it. Owners keep "
            "their grants meanwhile.",
            "Check at developer.tesla.com that the app is approved and has the grant types and scopes used.",
        ),
        Cause(
            "invalid_request",
            Actor.OPERATOR,
            "Tesla does not accept our request",
            "Tesla calls the request itself wrong. Owners keep their grants meanwhile.",
            "Check `TESLA_TOKEN_URL`, `TESLA_SCOPES` and `TESLA_CLIENT_ID`, and see whether Evergrant has a "
            "newer version.",
        ),
        Cause(
            "not_registered",
            Actor.OPERATOR,
            "The app is not registered in this region",
            "Tesla wants an app registered once in each region whose owners it serves.",
            "Run `evergrant register`, which registers the app's domain in each region.",
        ),
        Cause(
            "key_not_fetched",
            Actor.OPERATOR,
            "Tesla could not use the app’s public key",
            "Tesla fetches it from the domain that is being registered, over https on the usual port, and "
            "wants an EC key on the curve prime256v1 there, without a redirect.",
            "Run `evergrant keypair` if there is no key yet, then `evergrant doctor`, which fetches the key "
            "as Tesla does.",
        ),
        # --- wait
        Cause(
            "tesla_failed",
            Actor.WAIT,
            "Tesla is not answering",
            "Tesla failed, or gave no whole answer in time.",
            _WAITS,
        ),
        Cause(
            "edge",
            Actor.WAIT,
            "Something in front of Tesla refused",
            "The answer is a web page of a firewall or proxy in front of Tesla, not Tesla's own.",
            _WAITS,
        ),
        Cause("rate_limited", Actor.WAIT, "Too fast for Tesla", "Tesla asks for fewer calls.", _WAITS),
        Cause(
            "unreachable",
            Actor.WAIT,
            "Tesla can't be reached",
            "No connection could be made to Tesla.",
            _WAITS,
        ),
        Cause(
            "odd_answer",
            Actor.WAIT,
            "Tesla's answer makes no sense",
            "Tesla answered something that Evergrant does not know.",
            _WAITS,
        ),
        Cause(
            "token_not_accepted",
            Actor.WAIT,
            "Tesla did not accept the token",
            "The access token has run out or was revoked. A refresh shows which.",
            "Nothing to do: Evergrant refreshes it by itself.",
        ),
        Cause(
            "wrong_region",
            Actor.WAIT,
            "The account lives in another region",
            "Tesla keeps each account in one region and answers only there.",
            "Nothing to do if the region is configured (`TESLA_FLEET_URL_NA`, `_EU`, `_CN`).",
        ),
        Cause(
            "vehicle_offline",
            Actor.WAIT,
            "The car is asleep or offline",
            "Tesla could not reach the car.",
            "Nothing to do: it answers again when it wakes up or has reception.",
        ),
    )
}
"""Code to cause; every code that the product shows is here."""


class TeslaError(Exception):
    """A call to Tesla that did not give what it was for.

    `cause` is the row of the table; `status` the HTTP status or None; `error` and `description` Tesla's own
    words, printable, bounded, and with whatever looks like a token taken out; `reference` Tesla's
    reference for its support; `retry_after` the seconds, 0 to 3600, that Tesla asks to wait; `sent` whether
    a request left this process; `outcome_unknown` whether it may have taken effect although there is no
    usable answer; `right_base_url` where a 421 points, unchecked; `salvaged` a refresh token found in an
    answer that is otherwise unusable, to be kept and never shown.
    """

    def __init__(
        self,
        cause: Cause,
        *,
        status: int | None = None,
        error: str = "",
        description: str = "",
        reference: str | None = None,
        retry_after: float | None = None,
        sent: bool = True,
        outcome_unknown: bool = False,
        right_base_url: str | None = None,
        salvaged: str | None = None,
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.status = status
        self.error = error
        self.description = description
        self.reference = reference
        self.retry_after = retry_after
        self.sent = sent
        self.outcome_unknown = outcome_unknown
        self.right_base_url = right_base_url
        self.salvaged = salvaged

    @property
    def actor(self) -> Actor:
        """Whose turn it is."""
        return self.cause.actor

    def __str__(self) -> str:
        parts = [self.cause.code]
        if self.status is not None:
            parts.append(f"HTTP {self.status}")
        if self.error:
            parts.append(self.error)
        if self.description:
            parts.append(self.description)
        if self.reference:
            parts.append(f"reference {self.reference}")
        if self.outcome_unknown:
            parts.append("outcome unknown")
        return f"{self.cause.title} ({'; '.join(parts)})"

    def __repr__(self) -> str:
        return f"<TeslaError {self}>"


# --- reading an answer --------------------------------------------------------------------------------

_TOKEN_LIKE = re.compile(
    r"(?i)eyJ[\w.=-]{8,}"  # JWTs
    r"|\b(?:NA|EU|CN)_[\w.=-]{8,}"  # Tesla's codes and refresh tokens
    r"|\b(?:bearer|token|secret|code)[\"']?\s*[:=]\s*[\"']?[^\s\"',;]{6,}"
    r"|(?<![\w/.-])(?=[\w+/=.-]*\d)(?=[\w+/=.-]*[a-z])[\w+/=.-]{32,}"  # anything long and random
)
_UUID = re.compile(r"(?i)(?<![\w+=.-])([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:-\d{1,20})?)(?![\w+=])")


def scrub(text: object, secrets: Iterable[str] = (), limit: int = 300) -> str:
    """One printable line of at most `limit` characters, without `secrets` and what looks like a token."""
    if not isinstance(text, str):
        return ""
    text = text[: 8 * limit + 4096]
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[removed]")
    text = "".join(char if char.isprintable() else " " for char in text)
    # Tesla's references are UUIDs, long and random too: they stay.
    text = "".join(
        part if place % 2 else _TOKEN_LIKE.sub("[removed]", part)
        for place, part in enumerate(_UUID.split(text))
    )
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


@dataclass(frozen=True)
class _Words:
    """What an error answer says, whatever shape it has."""

    json: bool
    error: str = ""
    description: str = ""
    reference: str | None = None


_ERROR_KEYS = ("error", "error_code", "code")
_DESCRIPTION_KEYS = ("error_description", "message", "description", "detail", "title")
_REFERENCE_KEYS = ("referenceid", "reference_id", "error_uri", "txid")


def _find(value: object, keys: tuple[str, ...], depth: int = 0) -> str:
    """First non-empty string under one of `keys`, outermost first: an `error` may be an object."""
    if depth > 3:
        return ""
    if isinstance(value, list):
        return next((found for item in value[:4] if (found := _find(item, keys, depth + 1))), "")
    if not isinstance(value, dict):
        return ""
    lowered = {key.lower(): inner for key, inner in value.items() if isinstance(key, str)}
    for key in keys:
        text = lowered.get(key)
        if isinstance(text, str) and text.strip():
            return text
    for key in ("error", "errors", "response"):
        if isinstance(inner := lowered.get(key), (dict, list)) and (found := _find(inner, keys, depth + 1)):
            return found
    return ""


def _words(answer: Answer, secrets: Iterable[str]) -> _Words:
    try:
        content = answer.json()
    except ValueError:
        return _Words(json=False)
    reference = scrub(_find(content, _REFERENCE_KEYS), secrets, 200) or None
    return _Words(
        json=True,
        error=scrub(_find(content, _ERROR_KEYS), secrets, 100),
        description=scrub(_find(content, _DESCRIPTION_KEYS), secrets),
        reference=reference,
    )


def _is_html(answer: Answer) -> bool:
    head = answer.body[:256].lstrip().lower()
    return (
        head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body"))
        or "text/html" in answer.headers.get("Content-Type", "").lower()
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds, 0 to 3600, that Tesla asks to wait, or None.

    From Retry-After (seconds or an HTTP date), else from RateLimit-Reset when RateLimit-Remaining is 0
    (Tesla's developer pages, "Billing and limits").
    """
    text = headers.get("Retry-After", "").strip()
    seconds = _seconds(text)
    if seconds is None and text:
        seconds = _until(text, headers.get("Date", ""))
    if seconds is None and _seconds(headers.get("RateLimit-Remaining", "")) == 0:
        seconds = _seconds(headers.get("RateLimit-Reset", ""))
        if seconds is not None and seconds > 1e9:  # a point in time instead of a span
            seconds -= time.time()
    return None if seconds is None else min(max(seconds, 0.0), 3600.0)


def _seconds(text: str) -> float | None:
    text = text.strip()
    return float(text) if re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", text) else None


def _until(date: str, now: str) -> float | None:
    """Seconds from the server's own `now` to `date`; this machine's clock where the server names none."""
    try:
        end = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    try:
        start = parsedate_to_datetime(now).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        start = time.time()
    return end - start


# --- the token endpoint -------------------------------------------------------------------------------

_BY_ERROR: dict[str, str] = {
    "login_required": "login_required",
    "invalid_grant": "login_required",
    "invalid_auth_code": "invalid_auth_code",
    "invalid_client": "invalid_client",
    "invalid_redirect_url": "redirect_mismatch",
    "invalid_redirect_uri": "redirect_mismatch",
    "redirect_uri_mismatch": "redirect_mismatch",
    "unauthorized_client": "client_refused",
    "invalid_request": "invalid_request",
    "unsupported_grant_type": "invalid_request",
    "invalid_scope": "invalid_request",
    "server_error": "tesla_failed",
    "temporarily_unavailable": "tesla_failed",
}
"""Tesla's error code, in lower case, to our cause: for statuses 400 and 401; the last two for any 4xx."""

_EVERYWHERE = {"server_error", "temporarily_unavailable"}
_CLIENT_TEXT = re.compile(r"(?i)recogni[sz]e this client_id and client_secret")
_OTHER_CLIENT = re.compile(
    # RFC 6749, 5.2, and what other OAuth servers make of it.
    r"(?i)issued to (another|a different) client|not issued to this client|clients? (don.t|do not) match"
)


def sort_token_answer(
    answer: Answer, *, grant: str = "refresh_token", secrets: Iterable[str] = ()
) -> TeslaError:
    """What an answer of the token endpoint that gave no tokens means. Never raises.

    `grant` is the grant type that was asked for: `invalid_grant` speaks of the code in an
    `authorization_code` exchange, and of the refresh token else. `secrets` are taken out of Tesla's words.
    Whatever is not known is `odd_answer`, which waits: no owner is declared dead because of a spelling that
    we have not met.
    """
    secrets = tuple(secrets)
    words = _words(answer, secrets)
    return TeslaError(
        CAUSES[_token_cause(answer, words, grant)],
        status=answer.status,
        error=words.error,
        description=words.description,
        reference=words.reference,
        retry_after=retry_after(answer.headers),
        outcome_unknown=200 <= answer.status < 300,
    )


def _token_cause(answer: Answer, words: _Words, grant: str) -> str:
    status = answer.status
    if status >= 500:
        return "tesla_failed"
    if not 400 <= status < 500:
        return "odd_answer"
    if status == 429:
        return "edge" if _is_html(answer) else "rate_limited"
    if not words.json:
        return "edge" if status == 403 or _is_html(answer) else "odd_answer"
    error = re.sub(r"[\s-]+", "_", words.error.strip().lower())
    if error in _EVERYWHERE or status in {408, 425}:
        return "tesla_failed"
    if status not in {400, 401}:
        return "odd_answer"
    if _CLIENT_TEXT.search(words.description) or _CLIENT_TEXT.search(words.error):
        return "invalid_client"
    if _OTHER_CLIENT.search(words.description):
        return "other_credentials"
    if error == "invalid_grant" and grant == "authorization_code":
        return "redirect_mismatch" if "redirect" in words.description.lower() else "invalid_auth_code"
    if error in {"invalid_grant", "login_required"} and grant == "client_credentials":
        return "client_refused"
    return _BY_ERROR.get(error, "odd_answer")


def sort_refusal(error: object, description: object = "") -> TeslaError:
    """What `error` on the callback means: the browser came back from Tesla without a code."""
    code = re.sub(r"[\s-]+", "_", scrub(error, limit=100).lower())
    known = {
        "access_denied": "access_denied",
        "login_cancelled": "access_denied",
        "login_canceled": "access_denied",
    }
    known |= {
        name: cause for name, cause in _BY_ERROR.items() if name not in {"invalid_grant", "login_required"}
    }
    known |= {
        "login_required": "access_denied",
        "consent_required": "access_denied",
        "interaction_required": "access_denied",
    }
    return TeslaError(
        CAUSES[known.get(code, "odd_answer")], error=scrub(error, limit=100), description=scrub(description)
    )


# --- the Fleet API ------------------------------------------------------------------------------------

_URL = re.compile(r"https?://[^\s\"'<>\\,]+")


def sort_fleet_answer(answer: Answer, *, secrets: Iterable[str] = ()) -> TeslaError:
    """What an answer of the Fleet API that is no success means. Never raises."""
    words = _words(answer, tuple(secrets))
    return TeslaError(
        CAUSES[_fleet_cause(answer, words)],
        status=answer.status,
        error=words.error,
        description=words.description,
        reference=words.reference,
        retry_after=retry_after(answer.headers),
        right_base_url=_base_url(answer) if answer.status == 421 else None,
    )


def _fleet_cause(answer: Answer, words: _Words) -> str:
    status = answer.status
    text = f"{words.error} {words.description}".lower().replace("_", " ")
    if status >= 500:
        return "tesla_failed"
    if not 400 <= status < 500:
        return "odd_answer"
    if status == 429:
        return "edge" if _is_html(answer) else "rate_limited"
    if status == 421:
        return "wrong_region"
    if status == 408:
        return "vehicle_offline"
    if not words.json and _is_html(answer):
        return "edge"
    if "public key" in text and status not in {401, 404}:
        return "key_not_fetched"  # 424 and 422 are seen: "Public key download failed", "… already taken"
    if status == 412:
        return "not_registered"
    if "unknown user" in text:
        return "unknown_user"
    if status == 401:
        return "consent_withdrawn" if "revoked consent" in text else "token_not_accepted"
    if status == 403:
        if "missing scope" in text or "invalid scope" in text:
            return "missing_scopes"
        if "register" in text:
            return "not_registered"
        return "odd_answer" if words.json else "edge"
    return "odd_answer"


def _base_url(answer: Answer) -> str | None:
    """The URL after the words "base URL" in a 421 body, else the first one in it."""
    text = answer.body[:8192].decode("utf-8", "replace").replace("\\/", "/")
    after = text[match.end() :] if (match := re.search(r"(?i)base[ _]url", text)) else text
    found = _URL.search(after) or _URL.search(text)
    return found[0].rstrip(".;:)]}/") if found else None


def odd(answer: Answer, why: str, **more: Any) -> TeslaError:
    """An answer that has the status of a success and is none; `why` must be ours, not Tesla's."""
    return TeslaError(CAUSES["odd_answer"], status=answer.status, description=why, **more)
