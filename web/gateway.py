"""The gateway: a Fleet API request passed on with the owner's token put in and the owner's region chosen.

``/gateway/{owner}/api/1/…`` answers what the Fleet API answers to ``/api/1/…``, streamed and as it came, with
these exceptions, each once a request:

* 401: the token was revoked behind our back, or ran out on the way. It is refreshed, once for all requests
  that met it, and the request is sent again.
* 421: the owner lives in another region. The body names it; where it is one that is configured, it is stored,
  and the request is sent there.

Because a request may have to be sent twice its body is kept, so it is bounded. Nothing but the configured
Fleet API hosts is ever called: the base URL comes from `fleet.regions`, and a path may not leave it. What
belongs to one connection, to a browser or to the key is passed on in neither direction.
"""

from __future__ import annotations

import errno
import logging
import re
import threading
import time
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from flask import Response, current_app, g, request
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import RequestEntityTooLarge

from fleet.deadline import Deadline
from fleet.errors import Actor, sort_fleet_answer
from fleet.regions import Regions
from fleet.transport import Answer, NotSent, OutcomeUnknown, TransportError, session, stream
from models import grants
from models.api_keys import Scope
from web.api.access import admit
from web.api.fresh import alive, fresh, not_now, read
from web.api.parts import api_parts
from web.api.problems import Refusal
from web.api.shapes import MIN_TTL
from web.api.tokens import opened
from web.wiring import wiring
from workers.refresh import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask

    from fleet.transport import Stream
    from models.grants import Grant
    from settings import Settings

log = logging.getLogger(__name__)

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

LARGEST_BODY = 1024 * 1024
"""Bytes of a request's body."""

ANSWER_SECONDS = 60.0
"""For the Fleet API's answer to begin: a car that has to be woken takes half of that."""

PIECE_SECONDS = 30.0
"""For each piece of the answer's body."""

_LARGEST_WORD = 8192
"""Bytes of a body in which a region is looked for."""

_HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
_NOT_UP = _HOP_BY_HOP | {
    *("authorization", "cookie", "host", "content-length", "expect", "forwarded", "via", "x-real-ip"),
    *("x-api-key", "origin", "referer"),
}
"""Of a request's headers, and all that begin with ``x-forwarded-``."""
_NOT_DOWN = _HOP_BY_HOP | {
    *(
        "set-cookie",
        "set-cookie2",
        "authorization",
        "clear-site-data",
        "strict-transport-security",
        "alt-svc",
    ),
    *("forwarded", "via", "server", "date", "x-correlation-id"),
}
"""Of an answer's headers: these speak for Tesla's host, not for ours."""


class Gateway:
    """The gateway on these settings. Connects to nothing yet."""

    def __init__(self, settings: Settings) -> None:
        self._regions = Regions(settings.fleet_urls)
        self._session = session(pool_size=32)
        self._useless = _Useless()

    def __call__(self, owner: str, rest: str) -> Response:
        """Answers a request for ``/gateway/{owner}/{rest}``."""
        call = admit(Scope.GATEWAY, owner)
        path, body = _target(rest), _body()
        with ExitStack() as held:
            seats = api_parts().seats
            seats.take()
            held.callback(seats.leave)
            answer = self._answer(owner, call.grant, path, body, held)
            headers = _down(answer)
            response = Response(_pieces(answer), answer.status, headers)
            if "content-type" not in {name.lower() for name, _ in headers}:
                del response.headers["Content-Type"]  # Flask's own
            response.call_on_close(held.pop_all().close)
        return response

    def _answer(self, owner: str, grant: Grant | None, path: str, body: bytes, held: ExitStack) -> Stream:
        """The answer to pass on. All that were got are `held` until they have been read."""
        grant = fresh(owner, grant, MIN_TTL, seated=True)
        refreshed = corrected = False
        while True:
            answer = self._send(grant, path, body)
            held.callback(answer.close)
            if answer.status == 401 and not refreshed and not self._useless.was(grant):
                grant, refreshed = self._refresh(grant), True
            elif answer.status == 421 and not corrected and (elsewhere := self._elsewhere(grant, answer)):
                grant, corrected = elsewhere, True
            else:
                if answer.status == 401:
                    self._useless.note(grant)
                return answer

    def _send(self, grant: Grant, path: str, body: bytes) -> Stream:
        headers = _up()
        headers["Authorization"] = f"Bearer {opened(grant)}"
        try:
            return stream(
                self._session,
                request.method,
                self._regions.url(grant.region if grant.region in self._regions else "NA"),
                path,
                deadline=Deadline(ANSWER_SECONDS),
                headers=headers,
                body=body,
            )
        except TransportError as error:
            current_app.logger.warning("gateway: %s correlation_id=%s", error, g.correlation_id)
            raise _no_answer(error) from None

    def _refresh(self, grant: Grant) -> Grant:
        """The grant with a token newer than the one that Tesla did not accept. Raises `Refusal`."""
        outcome = api_parts().together.refresh(grant.owner, grant.generation)
        newer = alive(grant.owner, outcome.grant or read(grant.owner))
        if outcome.result not in {Result.REFRESHED, Result.FRESH}:
            raise not_now(grant.owner, outcome)
        return newer

    def _elsewhere(self, grant: Grant, answer: Stream) -> Grant | None:
        """The grant in the region that this 421 names, which is stored; None where it names none that is
        configured, or the one that was asked."""
        try:
            said = Answer(answer.status, {}, answer.peek(_LARGEST_WORD, PIECE_SECONDS))
        except TransportError as error:
            raise _no_answer(error) from None
        region = self._regions.region_of_url(sort_fleet_answer(said).right_base_url or "")
        if region is None or region == grant.region:
            return None
        url = self._regions.url(region)
        lives = f"owner {grant.owner}: lives in {region}, not in {grant.region}"
        try:
            with wiring().parts.database.write() as connection:
                grants.correct_region(connection, grant, region=region, fleet_url=url)
        except SQLAlchemyError as away:  # the next 421 says it again
            current_app.logger.warning("%s; not stored (%s)", lives, type(away).__name__)
        else:
            current_app.logger.info("%s correlation_id=%s", lives, g.correlation_id)
        return replace(grant, region=region, fleet_url=url)


class _Useless:
    """The grants whose refresh has not helped against a 401, each for a minute: a call that Tesla never
    allows must not cost a refresh each time that it is made."""

    SECONDS = 60.0
    MOST = 10_000

    def __init__(self) -> None:
        self._until: OrderedDict[tuple[str, int], float] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, grant: Grant) -> None:
        with self._lock:
            self._until.setdefault((grant.owner, grant.generation), time.monotonic() + self.SECONDS)
            if len(self._until) > self.MOST:
                self._until.popitem(last=False)

    def was(self, grant: Grant) -> bool:
        with self._lock:
            until = self._until.get((grant.owner, grant.generation))
            if until is not None and until <= time.monotonic():
                del self._until[grant.owner, grant.generation]
                return False
            return until is not None


def install(app: Flask, settings: Settings) -> None:
    """Adds the gateway to an app."""
    app.add_url_rule(
        "/gateway/<owner>/<path:rest>",
        "gateway",
        Gateway(settings),
        methods=METHODS,
        provide_automatic_options=False,
        merge_slashes=False,
    )


# --- there --------------------------------------------------------------------------------------------

_SEGMENT = re.compile(r"[^/\\%\x00-\x20\x7f]+")


def _target(rest: str) -> str:
    """The path and query to ask for, spelled anew from what was understood. Raises `Refusal`."""
    segments = rest.split("/")
    if segments[:2] != ["api", "1"] or len(segments) < 3:
        raise Refusal(
            404,
            "not_found",
            "The gateway passes on /api/1/… only",
            "Its path goes on behind the owner’s id as a Fleet API path does.",
            "Use `/gateway/{owner}` as the base URL of a Fleet API client.",
        )
    if segments[-1] == "":
        segments = segments[:-1]
        slash = "/"
    else:
        slash = ""
    spelled = request.environ.get("RAW_URI", "").partition("?")[0].lower()
    odd = "%2f" in spelled or "%5c" in spelled
    if odd or not all(_SEGMENT.fullmatch(segment) and segment not in {".", ".."} for segment in segments):
        raise Refusal(
            400,
            "bad_path",
            "This path can’t be passed on",
            "It has empty parts, `.` or `..`, or an encoded slash, percent sign or blank.",
            "Correct the path.",
        )
    path = "/" + "/".join(quote(segment, safe="!$&'()*+,;=:@~") for segment in segments) + slash
    query = request.environ.get("QUERY_STRING", "")
    return path + ("?" + quote(query, safe="!$&'()*+,;=:@~/?%-._[]|{}^`\"<>\\") if query else "")


def _body() -> bytes:
    """The whole body. Raises `RequestEntityTooLarge` past its bound."""
    # One byte more: a body without a length is cut off at the bound, and nobody says so.
    request.max_content_length = LARGEST_BODY + 1
    body = request.get_data(cache=False)
    if len(body) > LARGEST_BODY:
        raise RequestEntityTooLarge
    return body


def _up() -> dict[str, str]:
    named = {name.strip().lower() for name in request.headers.get("Connection", "").split(",")}
    kept = {
        name: value
        for name, value in request.headers.items()
        if (low := name.lower()) not in _NOT_UP and low not in named and not low.startswith("x-forwarded-")
    }
    kept.setdefault("User-Agent", "evergrant")
    kept["Accept-Encoding"] = "identity"  # a 421 has to be read
    return kept


# --- and back -----------------------------------------------------------------------------------------


def _down(answer: Stream) -> list[tuple[str, str]]:
    named = {
        part.strip().lower()
        for name, value in answer.headers
        if name.lower() == "connection"
        for part in value.split(",")
    }
    return [
        (name, " ".join(value.split("\r\n")))  # some still fold long lines
        for name, value in answer.headers
        if (low := name.lower()) not in _NOT_DOWN and low not in named and not low.startswith("x-forwarded-")
    ]


def _pieces(answer: Stream) -> Iterator[bytes]:
    try:
        yield from answer.pieces(PIECE_SECONDS)
    except OutcomeUnknown as error:
        log.warning("gateway: %s", error)
        # The caller sees what we saw: a body that breaks off. The server knows a connection's end by this.
        raise ConnectionResetError(errno.ECONNRESET, "the answer broke off") from None


def _no_answer(error: TransportError) -> Refusal:
    if isinstance(error, NotSent):
        return Refusal(
            502,
            "unreachable",
            "The Fleet API can’t be reached",
            f"{error}. Nothing was sent.",
            "Try again in a moment.",
            turn=Actor.WAIT,
            retry_in=5,
        )
    return Refusal(
        504,
        "no_answer",
        "The Fleet API did not answer",
        f"{error}. The request was sent; whether it took effect is not known.",
        "Look before you send a command again.",
        turn=Actor.WAIT,
    )
