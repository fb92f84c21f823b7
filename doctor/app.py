"""The app at Tesla: its credentials, its public key, and its registration in each region."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from doctor import keypair
from doctor.configuration import is_local
from doctor.findings import Check, Look
from doctor.table import NoTable, table
from fleet.errors import CAUSES, TeslaError
from fleet.partner import KEY_PATH, PartnerApi, domain_of, pairing_link
from fleet.regions import REGIONS, Regions
from fleet.tokens import TokenEndpoint
from fleet.transport import TransportError, call, session
from models import grants

if TYPE_CHECKING:
    from collections.abc import Iterator

    from doctor.findings import Finding
    from fleet.deadline import Deadline
    from settings import Settings

KEY_PAIR = Check(
    "key.pair",
    "There is a key pair",
    "Tesla registers an app only with a public key, and cars take signed commands only from its owner.",
)
KEY_SERVED = Check(
    "key.served",
    "The public key is served as Tesla fetches it",
    "Tesla fetches it when the app is registered, and again when an owner adds the app’s key to a car.",
)
GRANTS = Check(
    "app.grants",
    "All grants were made with this app",
    "Tesla’s tokens work only with the client id that they were given to.",
)


def credentials(region: str) -> Check:
    return Check(
        f"app.credentials.{region.lower()}",
        f"Tesla knows the client id and secret ({REGIONS[region].name})",
        "Each sign-in and each refresh carries them.",
    )


def registration(region: str) -> Check:
    return Check(
        f"app.registration.{region.lower()}",
        f"The app is registered ({REGIONS[region].name})",
        "Without it the Fleet API refuses every call for an owner who lives there (412).",
    )


def served_regions(settings: Settings) -> list[str]:
    """The regions that the token endpoint can give tokens for: China’s has its own, and only that."""

    def chinese(url: str) -> bool:
        return (urlsplit(url).hostname or "").endswith(".cn")

    here = chinese(settings.endpoint("tesla_token_url"))
    return [region for region, url in settings.fleet_urls.items() if chinese(url) == here]


def partner_token(settings: Settings, region: str, deadline: Deadline) -> str:
    """The app's own token for a region. Raises `TeslaError`."""
    endpoint = TokenEndpoint(
        url=settings.endpoint("tesla_token_url"),
        client_id=settings.client_id,
        client_secret=settings.client_secret,
        pool_size=1,
    )
    # All that owners are asked for, without what only an owner can grant.
    scopes = " ".join(scope for scope in settings.tesla_scopes.split() if scope != "offline_access")
    return endpoint.partner(settings.fleet_urls[region], scopes, deadline).access_token


# --- at Tesla -----------------------------------------------------------------------------------------


def at_tesla(settings: Settings, region: str) -> Look:
    """Credentials and registration in one region."""
    checks = credentials(region), registration(region)
    return Look(checks, lambda deadline: ask_tesla(settings, region, *checks, deadline))


def ask_tesla(
    settings: Settings, region: str, known: Check, registered: Check, deadline: Deadline
) -> Iterator[Finding]:
    """A partner token shows that the app is `known`, and with it Tesla tells whether it is `registered`."""
    if not settings.client_secret:
        yield known.cant_know(
            "`TESLA_CLIENT_SECRET` is empty. That is right for an open-source app, which has none.",
            "Sign in once: that proves the client id. For any other app set `TESLA_CLIENT_SECRET`.",
        )
        yield registered.cant_know("Tesla tells that only to an app that has a secret.")
        return
    try:
        token = partner_token(settings, region, deadline)
    except TeslaError as error:
        yield known.because(error, ("Asked", settings.endpoint("tesla_token_url")))
        yield registered.cant_know("Tesla gave no partner token to ask with.")
        return
    yield known.passes("Tesla gave a partner token.")
    yield _registered(registered, settings, region, token, deadline)


def _registered(check: Check, settings: Settings, region: str, token: str, deadline: Deadline) -> Finding:
    domain = domain_of(settings.public_url)
    try:
        theirs = PartnerApi(Regions(settings.fleet_urls)).public_key(region, domain, token, deadline)
    except TeslaError as error:
        return check.because(error, ("The domain", domain))
    details = (
        ("The domain", domain),
        ("The key that Tesla holds", theirs),
        ("Pairing link", pairing_link(domain)),
    )
    ours = _ours(settings)
    if ours is None:
        return check.passes("Tesla holds a key for the domain; there is none here to compare.", *details)
    if ours != theirs:
        return check.fails(
            "Tesla holds another public key for the domain than the one here.",
            "Run `evergrant register`, so that Tesla fetches the one here.",
            *details,
            ("The key here", ours),
        )
    return check.passes("Tesla holds the key that is here.", *details)


# --- here ---------------------------------------------------------------------------------------------


def here(settings: Settings) -> list[Look]:
    """The key pair, and whose the grants are."""
    return [
        Look((KEY_PAIR,), lambda _: [_pair(settings)]),
        Look((KEY_SERVED,), lambda deadline: [_served(settings, deadline)]),
        Look((GRANTS,), lambda _: [_grants(settings)]),
    ]


def _ours(settings: Settings) -> str | None:
    """The public key that is here; None where there is none that is any good: its own check says so."""
    try:
        return keypair.held(keypair.Place.of(settings))
    except (keypair.BadKey, OSError):
        return None


def _pair(settings: Settings) -> Finding:
    place = keypair.Place.of(settings)
    try:
        held = keypair.held(place)
    except keypair.BadKey as bad:
        return KEY_PAIR.fails(f"{bad}.", f"Move {place.private.parent} away, and run `evergrant keypair`.")
    except OSError as error:
        return KEY_PAIR.fails(f"It can’t be read ({error.strerror}).", "Make it readable for this user.")
    if held is None:
        return KEY_PAIR.fails("There is none.", "Run `evergrant keypair`.")
    where = f"in {place.private.parent}" if place.private.exists() else "the public half only"
    return KEY_PAIR.passes(f"An EC key on prime256v1, {where}.", ("The public key", held))


def _served(settings: Settings, deadline: Deadline) -> Finding:
    local = is_local(settings.public_url)
    domain = domain_of(settings.public_url)
    # Tesla knows the domain only: https, the usual port, and no path.
    scheme = urlsplit(settings.public_url).scheme if local else "https"
    url = f"{scheme}://{domain}{KEY_PATH}"
    asked = ("Asked", url)
    repair = (
        "Have the proxy pass exactly this path on to Evergrant, without a redirect and without a sign-in."
    )
    if not local and ":" in domain:
        return KEY_SERVED.fails(
            f"`PUBLIC_URL` has a port, and Tesla fetches the key from {domain.split(':')[0]} at port 443.",
            "Serve Evergrant at the usual port of its domain, or at least this path.",
            asked,
        )
    try:
        answer = call(session(pool_size=1), "GET", url, deadline=deadline, headers={"Accept": "*/*"})
    except TransportError as error:
        seen = f"There is no answer: {error}."
        if local or "certificate" in str(error):
            return KEY_SERVED.fails(seen, "See that it is served, with a certificate that all accept.", asked)
        return KEY_SERVED.cant_know(
            seen, f"Open {url} in a browser elsewhere: it has to show the key.", asked
        )
    if answer.status != 200:
        target = answer.headers.get("Location", "")
        return KEY_SERVED.fails(
            f"The answer is HTTP {answer.status}{f', a redirect to {target}' if target else ''}.",
            "Run `evergrant keypair`." if answer.status == 404 and _ours(settings) is None else repair,
            asked,
        )
    try:
        served = keypair.point(answer.body)
    except keypair.BadKey as bad:
        kind = answer.headers.get("Content-Type", "no type")
        return KEY_SERVED.fails(f"What is served is not the key: {bad} ({kind}).", repair, asked)
    if _ours(settings) not in {None, served}:
        return KEY_SERVED.fails(
            "Another key is served than the one here.",
            "Have all processes use the same EVERGRANT_HOME, and nothing else serve this path.",
            asked,
        )
    return KEY_SERVED.passes("It is fetched without a redirect, and reads well.", asked)


def _grants(settings: Settings) -> Finding:
    try:
        with table(settings) as database, database.read() as connection:
            other = grants.one_of_another_app(connection, settings.client_id)
    except NoTable as away:
        return GRANTS.cant_know(str(away), away.repair)
    if other is None:
        return GRANTS.passes("No grant is known to be of another app.")
    cause = CAUSES["other_credentials"]
    return GRANTS.fails(
        f"The grant of owner {other.owner}, and perhaps others, was made with another app.",
        cause.repair,
        ("Made with", str(other.client_id)),
        ("TESLA_CLIENT_ID", settings.client_id),
        cause=cause.code,
    )
