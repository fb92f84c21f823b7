"""The redirect URI, which has to be the same to the letter in three places: in Tesla's developer portal, in
what Evergrant sends, and where its web app answers."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode, urljoin, urlsplit, urlunsplit

from doctor import arrival
from doctor.configuration import cookie_key, is_local
from doctor.findings import Check, Look
from fleet.authorize import Told, begin, told
from fleet.errors import CAUSES
from fleet.transport import NotSent, TransportError, call, session
from fleet.uris import other_uri, parting
from settings import sandbox_endpoints

if TYPE_CHECKING:
    from collections.abc import Iterator

    from doctor.arrival import Arrival
    from doctor.findings import Finding
    from fleet.deadline import Deadline
    from fleet.transport import Answer
    from settings import Settings

ROUTE = Check(
    "redirect.route",
    "The redirect URI is answered, exactly there",
    "Tesla sends every owner’s browser to exactly this address. A redirect, another path or a lost cookie "
    "on the way, and no sign-in ends well.",
)
TESLA = Check(
    "redirect.tesla",
    "Tesla takes the redirect URI",
    "It must equal one that is registered with the app, to the letter: scheme, host, port, path, and the "
    "slash at the end.",
)

PASTE = "The redirect URI to paste into the developer portal"


def looks(settings: Settings) -> list[Look]:
    def route(deadline: Deadline) -> Iterator[Finding]:
        yield _route(settings, deadline)

    def tesla(deadline: Deadline) -> Iterator[Finding]:
        yield _tesla(settings, deadline)

    return [Look((ROUTE,), route), Look((TESLA,), tesla)]


# --- from outside in ----------------------------------------------------------------------------------


def _route(settings: Settings, deadline: Deadline) -> Finding:
    uri, key = settings.redirect_uri, cookie_key(settings)
    if key is None:
        return ROUTE.cant_know("Evergrant was never started with this EVERGRANT_HOME.", "Run `make up`.")
    question = arrival.question(key)
    headers = {"Cookie": question.cookie, "Accept": "text/html"}
    try:
        url = f"{uri}?{urlencode(question.parameters)}"
        answer = call(session(pool_size=1), "GET", url, deadline=deadline, headers=headers)
    except TransportError as error:
        return _unreached(uri, error)
    here = ("Asked", uri)
    if 300 <= answer.status < 400:
        return _redirected(uri, answer)
    came = arrival.read(key, question.nonce, answer.body)
    if came is None:
        return _somebody_else(answer, here)
    return _came(settings, came, answer, here)


def _unreached(uri: str, error: TransportError) -> Finding:
    seen = f"{uri} can’t be reached from here: {error}."
    if "certificate" in str(error):
        return ROUTE.fails(
            seen, "Give the proxy a certificate for this host that browsers accept, with its whole chain."
        )
    if is_local(uri):
        return ROUTE.fails(
            seen, "Start Evergrant, or set `PUBLIC_URL` to the port where its web app listens, and restart."
        )
    how = "no connection" if isinstance(error, NotSent) else "no whole answer"
    return ROUTE.cant_know(
        seen,
        f"There was {how}. Open {uri} in a browser: Evergrant’s page about an old sign-in link means that "
        "it is reached from there. Else see that DNS, firewall and proxy lead to Evergrant.",
    )


def _redirected(uri: str, answer: Answer) -> Finding:
    target = urljoin(uri, answer.headers.get("Location", ""))
    bare = urlunsplit(urlsplit(target)._replace(query="", fragment=""))
    details = [("Evergrant sends Tesla", uri), ("It answers with a redirect to", bare)]
    if bare != uri:
        details.append(("They part at", parting(uri, bare, whose="the redirect")))
    return ROUTE.fails(
        f"It answers HTTP {answer.status}, a redirect to {bare}.",
        f"Set `PUBLIC_URL` to the address that answers by itself "
        f"({bare.removesuffix('/').removesuffix('/callback')}), "
        "register that redirect URI and restart; or have the proxy stop redirecting.",
        *details,
        differ=(uri, bare) if bare != uri else None,
    )


def _somebody_else(answer: Answer, asked: tuple[str, str]) -> Finding:
    server = answer.headers.get("Server", "").split("/")[0]
    details = (asked, ("It answers", f"HTTP {answer.status} {server}".strip()))
    if answer.headers.get("X-Correlation-Id"):
        return ROUTE.fails(
            "An Evergrant answers there, and it is not this one: its `SECRET_KEY` is another.",
            "Give all processes of this installation the same `SECRET_KEY` and EVERGRANT_HOME, or set "
            "`PUBLIC_URL` to this installation’s own address; then restart.",
            *details,
        )
    if answer.status in {502, 503, 504}:
        return ROUTE.fails(
            f"A proxy answers there (HTTP {answer.status}), and does not reach Evergrant.",
            "See that the web app runs, and that the proxy passes requests on to its address and `WEB_PORT`.",
            *details,
        )
    return ROUTE.fails(
        f"Something else answers there (HTTP {answer.status}{f', {server}' if server else ''}).",
        "Have the proxy pass this address on to Evergrant, or set `PUBLIC_URL` to Evergrant’s own address "
        "and restart.",
        *details,
    )


def _came(settings: Settings, came: Arrival, answer: Answer, asked: tuple[str, str]) -> Finding:
    wrong: list[tuple[str, str]] = []
    path = urlsplit(settings.redirect_uri).path
    if came.route != "/callback":
        wrong.append(_path(came, path))
    if not came.query:
        wrong.append(
            (
                "A proxy changes or drops the query on the way.",
                "Have it pass the query on as it comes: sign-in codes are in it.",
            )
        )
    if not came.cookie:
        wrong.append(
            (
                "A proxy drops the `Cookie` header of requests.",
                "Have it pass `Cookie` on: a sign-in is bound to its browser by a cookie.",
            )
        )
    if arrival.NAME not in answer.headers.get("Set-Cookie", ""):
        wrong.append(
            (
                "A proxy drops the `Set-Cookie` header of answers.",
                "Have it pass `Set-Cookie` on: a sign-in is bound to its browser by a cookie.",
            )
        )
    details = (asked, *_notes(settings, came))
    if wrong:
        return ROUTE.fails(
            " ".join(seen for seen, _ in wrong), " ".join(repair for _, repair in wrong), *details
        )
    return ROUTE.passes("Evergrant answers at exactly this URL, without a redirect.", *details)


def _path(came: Arrival, path: str) -> tuple[str, str]:
    if came.path.endswith(path):
        added = came.path.removesuffix(path)
        return (
            f"A proxy adds the prefix {added} on the way: it arrives as {came.path}.",
            "Have the proxy pass the path on as it comes (nginx: `proxy_pass` without a path).",
        )
    if came.route == "/callback/":
        return (
            "A proxy adds a slash at the end: it arrives as /callback/.",
            "Have the proxy pass the path on as it comes.",
        )
    return (
        f"A proxy changes the path on the way: {path} arrives as {came.path}.",
        "Have the proxy pass the path on as it comes, or take off just the path of `PUBLIC_URL`.",
    )


def _notes(settings: Settings, came: Arrival) -> list[tuple[str, str]]:
    """What proxies on the way do that does no harm: Evergrant goes by `PUBLIC_URL`, not by their headers."""
    ours = urlsplit(settings.public_url)
    notes = []
    proto = came.forwarded.get("X-Forwarded-Proto")
    if ours.scheme == "https" and (came.scheme != "https" or proto):
        notes.append(("TLS", "ends at a proxy before Evergrant, which is fine"))
    if came.forwarded and "X-Forwarded-Proto" not in came.forwarded:
        notes.append(
            ("X-Forwarded-Proto", "is not passed on; Evergrant goes by `PUBLIC_URL`, so that is fine")
        )
    if proto and proto.split(",")[0].strip() != ours.scheme:
        notes.append(
            ("X-Forwarded-Proto", f"says {proto}, `PUBLIC_URL` says {ours.scheme}; the latter counts")
        )
    if came.host != ours.netloc:
        notes.append(("Host", f"arrives as {came.host}; Evergrant goes by `PUBLIC_URL`, so that is fine"))
    if ours.path and not came.path.startswith(ours.path):
        notes.append(("Path", f"a proxy takes off {ours.path}, which is fine"))
    notes += [(name, value) for name, value in came.forwarded.items() if name != "X-Forwarded-Proto"]
    return notes


# --- what Tesla says ----------------------------------------------------------------------------------


def _tesla(settings: Settings, deadline: Deadline) -> Finding:
    uri = settings.redirect_uri
    begun = begin(authorize_url(settings), settings.client_id, uri, settings.tesla_scopes, pkce=False)
    answer, words = told(begun.url, deadline)
    paste = (PASTE, uri)
    match answer:
        case Told.GO_ON:
            return TESLA.passes("An authorize request with it is let through to the sign-in.", paste)
        case Told.REDIRECT_MISMATCH:
            details = [paste, ("Tesla’s answer", words)]
            other = other_uri(words, uri)
            if other is not None:
                details += [("Tesla names", other), ("They part at", parting(uri, other))]
            cause = CAUSES["redirect_mismatch"]
            return TESLA.fails(
                "Tesla does not know this redirect URI for this app.",
                cause.repair,
                *details,
                cause=cause.code,
                differ=(uri, other) if other else None,
            )
        case Told.UNKNOWN_CLIENT:
            cause = CAUSES["invalid_client"]
            return TESLA.fails(
                "Tesla does not know the app of `TESLA_CLIENT_ID`.",
                cause.repair,
                paste,
                ("Tesla’s answer", words),
                cause=cause.code,
            )
        case Told.UNCLEAR:
            return TESLA.cant_know(
                "Tesla’s answer to an authorize request does not tell.",
                "Compare it with the app’s redirect URIs at developer.tesla.com, character by character.",
                paste,
                ("The answer", words),
            )


def authorize_url(settings: Settings) -> str:
    """Where browsers are sent, as this process reaches it: the sandbox may have another name for it."""
    if settings.uses_sandbox and settings.sandbox_url and not settings.tesla_authorize_url:
        return sandbox_endpoints(settings.sandbox_url.rstrip("/"))["tesla_authorize_url"]
    return settings.endpoint("tesla_authorize_url")
