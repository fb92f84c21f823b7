"""Everything that may go wrong at Tesla, by name, to be switched on and off over HTTP.

First in the table is what owners, operators and other programs do (``grant``, ``authorize``, ``fleet``); then
what Tesla and the way to it do. A fault strikes the token endpoint unless its table row says otherwise, every
kind of token call and every owner unless the rule says otherwise; one that is an answer of Tesla's can be
aimed at the Fleet API instead (``endpoint``: ``fleet``). ``where`` says whether Tesla fails *before* it
rotated (the refresh token presented stays good) or *after* (the new one is lost with the answer:
``answers_cut`` counts it).
The first rule that fits a call strikes it, alone. Rules live in memory: a restart is fair weather.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import threading
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from sandbox.tesla import sub_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

Endpoint = Literal["token", "fleet", "jwks", "authorize", "grant"]
"""What a fault strikes; ``grant`` is the consent itself, wherever it is used."""
Where = Literal["before", "after"]
Delivery = Literal["whole", "reset", "hang", "drip", "cut"]

WAF_PAGE = b"<!doctype html><title>Access denied</title><h1>Access denied</h1><p>Reference 18.5a2e4517"
DOWN_PAGE = b"<!doctype html><title>Be right back</title><h1>Service unavailable</h1>"
MEGABYTE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What goes over the wire, and how."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    delivery: Delivery = "whole"
    seconds: float = 0
    carries_tokens: bool = False
    """True when the body is the genuine one, so that a client who reads to the end loses nothing."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One row of the table. Exactly one of `instead` and `alter` is set, or neither (see `NOT_AN_ANSWER`)."""

    name: str
    description: str
    endpoint: Endpoint = "token"
    seconds: float = 0
    """The parameter's default."""
    parameter: str = ""
    """What ``seconds`` means for this fault; empty: nothing."""
    instead: Callable[[Rule, bytes | None], Answer] | None = None
    """Builds the answer that is given instead of the genuine one (which is None before Tesla rotated)."""
    alter: Callable[[Rule, dict[str, Any]], dict[str, Any]] | None = None
    """Changes the genuine answer; `where` does not matter."""


@dataclass(eq=False, kw_only=True)
class Rule:
    """A fault that is switched on."""

    id: int
    fault: Fault
    endpoint: Endpoint = "token"
    owner: str | None = None
    """A `sub`; None: everybody."""
    grant: str | None = None
    """A `grant_type`; None: every one."""
    where: Where = "before"
    left: int | None = None
    """How many more times it strikes; None: until it is cleared."""
    seconds: float = 0
    probability: float = 1
    struck: int = 0
    met: Counter[str] = field(default_factory=Counter)
    """How many calls of each owner it has looked at: what the dice depend on, whatever the threads do."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "fault": self.fault.name,
            "endpoint": self.endpoint,
            "owner": self.owner,
            "grant": self.grant,
            "where": self.where,
            "left": self.left,
            "seconds": self.seconds,
            "probability": self.probability,
            "struck": self.struck,
        }


class BadRule(Exception):
    """A rule that can't be switched on; the message says why."""


# --- the table ---------------------------------------------------------------------------------------


def _json(status: int, **body: Any) -> Answer:
    return Answer(status=status, body=json.dumps(body).encode())


def _refusal(status: int, error: str, description: str) -> Callable[[Rule, bytes | None], Answer]:
    return lambda _rule, _genuine: _json(status, error=error, error_description=description)


def _page(status: int, body: bytes) -> Callable[[Rule, bytes | None], Answer]:
    return lambda _rule, _genuine: Answer(status=status, body=body, content_type="text/html; charset=utf-8")


_LIKENESS = json.dumps(
    {
        "access_token": "eyJ" + "x" * 600,
        "refresh_token": "NA_" + "x" * 64,
        "expires_in": 60,
        "token_type": "Bearer",
    }
).encode()
"""Shaped like an answer, for what is cut off before Tesla has issued anything."""


def _truncated(_rule: Rule, genuine: bytes | None) -> Answer:
    body = genuine or _LIKENESS
    return Answer(body=body[: len(body) // 2])


def _cut(_rule: Rule, genuine: bytes | None) -> Answer:
    return Answer(body=genuine or _LIKENESS, delivery="cut")


def _huge(rule: Rule, genuine: bytes | None) -> Answer:
    padding = b" " * int(rule.seconds * MEGABYTE)
    return Answer(body=padding + (genuine or b"{}"))


def _drip(rule: Rule, genuine: bytes | None) -> Answer:
    if genuine is None:
        return Answer(status=503, body=b'{"error":"upstream"}', delivery="drip", seconds=rule.seconds)
    return Answer(body=genuine, delivery="drip", seconds=rule.seconds, carries_tokens=True)


def _rate_limit(rule: Rule, _genuine: bytes | None) -> Answer:
    wait = str(math.ceil(rule.seconds))
    return Answer(
        status=429,
        body=b'{"error":"rate_limited","error_description":"Too many requests."}',
        headers=(
            ("Retry-After", wait),
            ("RateLimit-Limit", "10"),
            ("RateLimit-Remaining", "0"),
            ("RateLimit-Reset", wait),
        ),
    )


def _server_error(_rule: Rule, _genuine: bytes | None) -> Answer:
    reference = str(uuid.uuid4())
    return _json(
        400,
        error="server_error",
        error_description="The authorization server met an unexpected condition.",
        error_uri=f"https://auth.example/error?reference={reference}",
        referenceID=reference,
    )


def _absurd(rule: Rule, answer: dict[str, Any]) -> dict[str, Any]:
    absurd = (-1, 0, 10**15, "soon", None, 1e308)
    return {**answer, "expires_in": rule.seconds or absurd[rule.struck % len(absurd)]}


def _without(key: str) -> Callable[[Rule, dict[str, Any]], dict[str, Any]]:
    return lambda _rule, answer: {name: value for name, value in answer.items() if name != key}


def _extra(_rule: Rule, answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "scope": "surprise", "meta": {"deep": [[[1, None]], {"": "ü"}]}, "expires_at": "later"}


_TABLE = (
    Fault(
        name="superseded",
        description="Before each refresh another program uses the refresh token, and the one it got: "
        "the app's is superseded.",
        endpoint="grant",
    ),
    Fault(
        name="two_at_once",
        description="Another program refreshes with the same token at the same moment. Tesla answers both "
        "and keeps the other's.",
        endpoint="grant",
    ),
    Fault(
        name="other_credentials",
        description="400 invalid_grant: the token was issued to another app, as when it comes from another "
        "environment.",
        endpoint="grant",
        instead=_refusal(400, "invalid_grant", "The token was issued to another client."),
    ),
    Fault(
        name="missing_scopes",
        description="Tokens carry openid and offline_access only, as if the owner had unticked all else.",
        endpoint="grant",
    ),
    Fault(
        name="consent_withdrawn",
        description="The owner withdraws consent right before the app's next call. It stays withdrawn.",
        endpoint="grant",
    ),
    Fault(
        name="redirect_mismatch",
        description="The registered redirect URI is said to have a slash more at its end.",
        endpoint="authorize",
    ),
    Fault(
        name="wrong_region",
        description="Fleet API: 421, the owner is said to be in the other region.",
        endpoint="fleet",
    ),
    Fault(
        name="unknown_user",
        description="Fleet API: 401 unknown user, an owner who has never signed in to Tesla's app.",
        endpoint="fleet",
    ),
    Fault(
        name="not_registered",
        description="Fleet API: 412, the app is not registered in the region; asking for its key too.",
        endpoint="fleet",
    ),
    Fault(
        name="down_503",
        description="503 with a short JSON body.",
        instead=lambda _rule, _genuine: _json(503, error="temporarily_unavailable"),
    ),
    Fault(name="html_503", description="503 with an HTML page.", instead=_page(503, DOWN_PAGE)),
    Fault(name="html_200", description="An HTML page with status 200.", instead=_page(200, DOWN_PAGE)),
    Fault(
        name="empty",
        description="Status 200 and nothing in it.",
        instead=lambda _rule, _genuine: Answer(body=b""),
    ),
    Fault(
        name="truncated_json", description="Half of the JSON, as a complete HTTP answer.", instead=_truncated
    ),
    Fault(
        name="cut_body", description="The connection closes in the middle of the promised body.", instead=_cut
    ),
    Fault(
        name="reset",
        description="The connection is reset (TCP RST), without an answer.",
        instead=lambda _rule, _genuine: Answer(delivery="reset"),
    ),
    Fault(
        name="hang",
        description="No answer for some seconds, then the connection closes.",
        seconds=30,
        parameter="seconds until it closes",
        instead=lambda rule, _genuine: Answer(delivery="hang", seconds=rule.seconds),
    ),
    Fault(
        name="drip",
        description="The answer, headers too, comes a byte at a time. Before: it is a 503.",
        seconds=30,
        parameter="seconds that the whole answer takes",
        instead=_drip,
    ),
    Fault(
        name="huge",
        description="An answer of many megabytes; after: the genuine one comes at their end.",
        seconds=8,
        parameter="megabytes",
        instead=_huge,
    ),
    Fault(
        name="rate_limit",
        description="429 with Retry-After and RateLimit headers.",
        seconds=5,
        parameter="seconds to wait, in Retry-After",
        instead=_rate_limit,
    ),
    Fault(name="waf_403", description="403 with a firewall's HTML page.", instead=_page(403, WAF_PAGE)),
    Fault(
        name="server_error_400",
        description="400 server_error with error_uri and referenceID: Tesla's failure in a 4xx coat.",
        instead=_server_error,
    ),
    Fault(
        name="invalid_client",
        description="401 invalid_client: the app's credentials are not recognized.",
        instead=_refusal(
            401, "invalid_client", "We don't recognize this client_id and client_secret combination."
        ),
    ),
    Fault(
        name="unauthorized_client",
        description="401 unauthorized_client.",
        instead=_refusal(401, "unauthorized_client", "The client may not use this grant."),
    ),
    Fault(
        name="invalid_request",
        description="400 invalid_request.",
        instead=_refusal(400, "invalid_request", "The request is malformed."),
    ),
    Fault(
        name="invalid_redirect_url",
        description="400 invalid_redirect_url.",
        instead=_refusal(400, "invalid_redirect_url", "The redirect URI is not the one of the code."),
    ),
    Fault(
        name="invalid_auth_code",
        description="400 invalid_auth_code.",
        instead=_refusal(400, "invalid_auth_code", "The authorization code is expired or used."),
    ),
    Fault(
        name="login_required",
        description="401 login_required: the refresh token is said to be spent.",
        instead=_refusal(401, "login_required", "Login required."),
    ),
    Fault(
        name="invalid_grant",
        description="400 invalid_grant: the same in the standard's words.",
        instead=_refusal(400, "invalid_grant", "The refresh token is invalid."),
    ),
    Fault(
        name="no_refresh_token",
        description="An answer without a refresh token. Before: the presented one stays good.",
        alter=_without("refresh_token"),
    ),
    Fault(
        name="same_refresh_token",
        description="The answer carries the refresh token that was presented, and it stays good.",
        alter=lambda _rule, answer: answer,
    ),
    Fault(name="no_expires_in", description="An answer without expires_in.", alter=_without("expires_in")),
    Fault(
        name="absurd_expires_in",
        description="expires_in is negative, zero, huge, a word or null, in turn.",
        parameter="the value, if always the same",
        alter=_absurd,
    ),
    Fault(
        name="odd_token_type",
        description="token_type is not Bearer.",
        alter=lambda _rule, answer: {**answer, "token_type": "N_A"},
    ),
    Fault(name="extra_fields", description="Fields that nobody asked for.", alter=_extra),
    Fault(
        name="slow",
        description="A wait, then a normal answer. Before and after: of the rotation.",
        seconds=3,
        parameter="seconds",
    ),
    Fault(
        name="access_revoked",
        description="Fleet API: 401 for the current access token, now and later; a refreshed one works.",
        endpoint="fleet",
    ),
    Fault(name="jwks_down", description="The keys answer 503.", endpoint="jwks"),
)

FAULTS: dict[str, Fault] = {fault.name: fault for fault in _TABLE}
"""Every fault by its name."""

AT_FLEET = frozenset(fault.name for fault in _TABLE if fault.endpoint == "token" and fault.instead)
"""Those that can be aimed at the Fleet API."""

_PARAMETERS = {"fault", "owner", "grant", "endpoint", "where", "count", "seconds", "probability"}


class Weather:
    """The rules in force. Safe for threads."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._rules: list[Rule] = []
        self._struck: Counter[str] = Counter()

    def add(self, request: Mapping[str, Any]) -> Rule:
        """Switches a fault on. `request` has ``fault`` and perhaps ``owner`` (a sub or a name), ``grant`` (a
        grant_type), ``endpoint``, ``where``, ``count``, ``seconds``, ``probability``; empty is the same as
        absent.

        Raises `BadRule`."""
        given = {name: value for name, value in request.items() if value is not None and value != ""}
        unknown = set(given) - _PARAMETERS
        if unknown:
            raise BadRule(f"Unknown: {', '.join(sorted(unknown))}.")
        fault = FAULTS.get(str(given.get("fault", "")))
        if fault is None:
            raise BadRule(f"fault must be one of {', '.join(FAULTS)}.")
        where = given.get("where", "before")
        if where not in get_args(Where):
            raise BadRule("where must be before or after.")
        endpoint = given.get("endpoint", fault.endpoint)
        if endpoint != fault.endpoint and not (endpoint == "fleet" and fault.name in AT_FLEET):
            raise BadRule(f"{fault.name} strikes at {fault.endpoint} only.")
        owner = given.get("owner")
        rule = Rule(
            id=next(self._ids),
            fault=fault,
            endpoint=endpoint,
            owner=None if owner is None else _sub(str(owner)),
            grant=None if "grant" not in given else str(given["grant"]),
            where=where,
            left=None if "count" not in given else int(_number(given, "count", 1, 10**9)),
            seconds=_number(given, "seconds", -(10**9), 10**9) if "seconds" in given else fault.seconds,
            probability=_number(given, "probability", 0, 1) if "probability" in given else 1.0,
        )
        if rule.seconds < 0 and fault.name != "absurd_expires_in":
            raise BadRule("seconds must not be negative.")
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self, name: str | None = None, *, rule_id: int | None = None) -> int:
        """Switches off all rules, those of one fault, or one; returns how many."""
        with self._lock:
            kept = [
                rule
                for rule in self._rules
                if (name is not None and rule.fault.name != name)
                or (rule_id is not None and rule.id != rule_id)
            ]
            cleared = len(self._rules) - len(kept)
            self._rules = kept
        return cleared

    def strike(
        self,
        endpoint: Endpoint,
        sub: str | None,
        grant: str | None = None,
        *,
        only: Collection[str] | None = None,
    ) -> Rule | None:
        """The rule that strikes this call, if any; it has been counted and, when used up, is gone. `only`
        these faults are looked at."""
        with self._lock:
            for rule in self._rules:
                if (
                    rule.endpoint != endpoint
                    or (only is not None and rule.fault.name not in only)
                    or (rule.owner is not None and rule.owner != sub)
                    or (rule.grant is not None and rule.grant != grant)
                ):
                    continue
                key = sub or ""
                rule.met[key] += 1
                # Not random in secret: the seed, the rule and how many calls of this owner it has met
                # decide, so threads that come in another order throw the same dice.
                dice = random.Random(f"{self._seed}/{rule.fault.name}/{rule.id}/{key}/{rule.met[key]}")  # noqa: S311
                if dice.random() >= rule.probability:
                    continue
                rule.struck += 1
                self._struck[rule.fault.name] += 1
                if rule.left is not None:
                    rule.left -= 1
                    if rule.left == 0:
                        self._rules = [other for other in self._rules if other is not rule]
                return rule
        return None

    def rules(self) -> list[dict[str, Any]]:
        """The rules in force, oldest first."""
        with self._lock:
            return [rule.as_dict() for rule in self._rules]

    def struck(self) -> dict[str, int]:
        """How often each fault has struck since the sandbox started, whether or not a rule is left."""
        with self._lock:
            return {name: self._struck[name] for name in FAULTS}


def _sub(owner: str) -> str:
    try:
        return str(uuid.UUID(owner))
    except ValueError:
        return sub_of(owner)


def _number(given: Mapping[str, Any], name: str, least: float, most: float) -> float:
    try:
        value = float(given[name])
    except (TypeError, ValueError):
        raise BadRule(f"{name} must be a number.") from None
    if not least <= value <= most:
        raise BadRule(f"{name} must be from {least} to {most}.")
    return value
