"""One owner's grant: which of the usual causes it is, told from the token table and from what the Fleet API
says to its access token. No refresh token is touched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from doctor.app import ask_tesla
from doctor.configuration import keyring
from doctor.findings import Check, Finding, Look, Verdict
from doctor.table import NoTable, table
from fleet.api import FleetApi
from fleet.claims import unverified_claims
from fleet.errors import CAUSES, Actor, TeslaError
from fleet.regions import REGIONS, Regions
from fleet.scopes import missing
from models import events, grants
from models.crypto import BadKeys, Unopenable
from models.events import Kind
from models.grants import State
from settings import SettingsError
from workers.refresh import KEY_MISSING
from workers.why import why_refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fleet.deadline import Deadline
    from fleet.errors import Cause
    from models.events import Event
    from models.grants import Grant
    from settings import Settings

GRANT = Check(
    "owner.grant", "The grant is alive", "Only then is it refreshed, and its tokens open something."
)
ATTEMPTS = Check("owner.attempts", "The last attempt went well", "Each failed one is tried again by itself.")
APP = Check(
    "owner.app",
    "It was made with this app",
    "Tesla’s tokens work only with the client id they were given to.",
)
NEWEST = Check(
    "owner.newest",
    "The newest refresh token is here",
    "Each is good for one use. If another program uses one, the ones here are worthless a day later.",
)
ALONE = Check(
    "owner.alone",
    "Nobody else refreshes it",
    "Two refreshes with the same token at once: the loser’s new token is worthless.",
)
TOKEN = Check("owner.token", "Tesla takes the access token", "Every call to the Fleet API carries it.")
REGION = Check(
    "owner.region",
    "The region is the right one",
    "Tesla answers for an account in its own region only (421).",
)
ACCOUNT = Check(
    "owner.account", "Tesla’s Fleet API knows the account", "It does after the first sign-in to Tesla’s app."
)
SCOPES = Check(
    "owner.scopes",
    "All permissions that are needed are granted",
    "Without one, Tesla refuses what needs it (403).",
)
KNOWN = Check("owner.credentials", "Tesla knows the client id and secret", "Each refresh carries them.")
REGISTERED = Check(
    "owner.registration",
    "The app is registered where the owner lives",
    "Without it the Fleet API refuses every call for an owner who lives there (412).",
)
CHECKS = (GRANT, ATTEMPTS, APP, NEWEST, ALONE, TOKEN, REGION, ACCOUNT, SCOPES)

HISTORY = 200
"""How many events to look back."""


def looks(settings: Settings, owner: str) -> list[Look]:
    return [
        Look(CHECKS, lambda deadline: _look(settings, owner, deadline)),
        Look((KNOWN, REGISTERED), lambda deadline: _at_tesla(settings, owner, deadline)),
    ]


def _at_tesla(settings: Settings, owner: str, deadline: Deadline) -> Iterator[Finding]:
    """The app's own standing where this owner lives."""
    try:
        with table(settings) as database, database.read() as connection:
            grant = grants.read(connection, owner)
    except NoTable:
        grant = None
    if grant is not None and grant.region in settings.fleet_urls:
        yield from ask_tesla(settings, grant.region, KNOWN, REGISTERED, deadline)
    else:
        for check in (KNOWN, REGISTERED):
            yield check.cant_know("Where the owner lives is not known.")


def _look(settings: Settings, owner: str, deadline: Deadline) -> Iterator[Finding]:
    try:
        with table(settings) as database, database.read() as connection:
            grant = grants.read(connection, owner)
            happened = events.latest(connection, owner, HISTORY)
    except NoTable as away:
        for check in CHECKS:
            yield check.cant_know(f"The token table can’t be read. {away}", away.repair)
        return
    if grant is None:
        repair = (
            "Look whether the id is right: it is the `sub` of Tesla’s tokens. Else have the owner sign in."
        )
        yield GRANT.fails(f"There is no grant of owner {owner}.", repair)
        for check in CHECKS[1:]:
            yield check.cant_know("There is no grant.")
        return
    yield _grant(grant, happened)
    yield _attempts(grant)
    yield _app(settings, grant)
    yield _alone(_since_sign_in(happened))
    fleet = _ask(settings, grant, deadline)
    yield _newest(grant, fleet)
    yield from _fleet_findings(settings, grant, fleet)
    yield _scopes(settings, grant, fleet)


def _since_sign_in(happened: Sequence[Event]) -> list[Event]:
    """The events of this consent, newest first."""
    found = []
    for event in happened:
        if event.kind == Kind.CONNECTED:
            break
        found.append(event)
    return found


# --- from the table -----------------------------------------------------------------------------------


def _grant(grant: Grant, happened: Sequence[Event]) -> Finding:
    details = [("Generation", str(grant.generation)), ("Last rotation", _rotation(happened))]
    if grant.paused_at is not None:
        return GRANT.fails("The operator has paused it.", "Resume it in the console.", *details)
    if grant.state == State.ALIVE:
        return GRANT.passes("It is.", *details)
    if grant.state == State.DISCONNECTED:
        return GRANT.fails(
            "It was disconnected here: its tokens are erased.", "Have the owner sign in again.", *details
        )
    cause = CAUSES.get(grant.reason or "", CAUSES["login_required"])
    return GRANT.fails(
        f"It has ended: {cause.title}. {cause.explanation}", cause.repair, *details, cause=cause.code
    )


def _rotation(happened: Sequence[Event]) -> str:
    """When the tokens last changed, and by whom."""
    by = {
        Kind.CONNECTED: "a sign-in",
        Kind.REFRESHED: "an attempt of Evergrant’s",
        Kind.SPARE_USED: "an attempt of Evergrant’s with a spare",
    }
    for event in happened:
        if event.kind in by:
            return f"{_utc(event)} by {by[Kind(event.kind)]}, correlation id {event.correlation_id}"
    return "not within what is remembered"


def _utc(event: Event) -> str:
    return f"{event.at:%Y-%m-%d %H:%M:%S} UTC"


def _attempts(grant: Grant) -> Finding:
    if not grant.failures:
        return ATTEMPTS.passes("It did, or is under way.")
    cause = KEY_MISSING if grant.last_error == KEY_MISSING.code else CAUSES.get(grant.last_error or "")
    if cause is None:
        return ATTEMPTS.cant_know(f"{grant.failures} failed.")
    words = f"{grant.failures} failed, the last with: {cause.title}."
    return ATTEMPTS.fails(words, cause.repair, cause=cause.code)


def _app(settings: Settings, grant: Grant) -> Finding:
    made_with = grant.client_id
    if made_with is None:
        return APP.cant_know("The table does not say with which app it was made.")
    if made_with == settings.client_id:
        return APP.passes("It was.")
    cause = CAUSES["other_credentials"]
    return APP.fails(
        "It was made with another client id than `TESLA_CLIENT_ID`: that was changed since, or is of "
        "another environment.",
        cause.repair,
        ("Made with", made_with),
        ("TESLA_CLIENT_ID", settings.client_id),
        cause=cause.code,
    )


def _alone(since: Sequence[Event]) -> Finding:
    cause = CAUSES["two_refreshes"]
    twice = [event for event in since if event.reason == cause.code]
    if twice:
        return ALONE.fails(
            f"{cause.title}, last found at {_utc(twice[0])} (correlation id {twice[0].correlation_id}).",
            cause.repair,
            cause=cause.code,
        )
    kept = sum(event.kind == Kind.SPARE_KEPT for event in since)
    if kept:
        return ALONE.passes(
            f"Since the sign-in {kept} late answer{'s' if kept > 1 else ''} of Tesla’s came beside a newer "
            "one: "
            "Evergrant’s own, and kept."
        )
    return ALONE.passes("Nothing since the sign-in shows anybody else.")


# --- from the Fleet API -------------------------------------------------------------------------------


@dataclass
class _Fleet:
    """What the Fleet API said to the access token: nothing at all where `why_not` says so."""

    why_not: str = ""
    token: str = ""
    region: str | None = None
    error: TeslaError | None = None
    refused: TeslaError | None = None  # of what needs a scope
    ended: Cause | None = None  # why the newest refresh token was refused, if it was

    @property
    def code(self) -> str | None:
        return self.error.cause.code if self.error else None


def _ask(settings: Settings, grant: Grant, deadline: Deadline) -> _Fleet:
    api = FleetApi(Regions(settings.fleet_urls))
    try:
        keys = keyring(settings)
        token = grant.access_token(keys) if keys else None
    except (Unopenable, BadKeys, SettingsError) as error:
        return _Fleet(why_not=f"The access token does not open: {error}")
    if keys is None or token is None:
        return _Fleet(why_not="There is no access token.")
    if grant.access_expires_at is not None and grant.access_expires_at <= grant.read_at:
        return _Fleet(why_not="The access token has run out.")
    fleet = _Fleet(token=token)
    try:
        fleet.region, _ = api.region(token, grant.region, deadline)
    except TeslaError as error:
        fleet.error = error
    except KeyError:
        fleet.why_not = f"The region {grant.region} is not configured."
        return fleet
    granted = grant.scopes.split()
    for scope, read in (("user_data", api.me), ("vehicle_device_data", api.vehicles)):
        if scope in granted and fleet.region is not None and fleet.refused is None:
            try:
                read(token, fleet.region, deadline)
            except TeslaError as error:
                fleet.refused = error
    if grant.state == State.NEEDS_CONSENT:
        fleet.ended = why_refused(api, keys, grant, deadline)
    return fleet


def _newest(grant: Grant, fleet: _Fleet) -> Finding:
    cause = CAUSES["superseded_token"]
    if fleet.code == "consent_withdrawn":
        return NEWEST.cant_know("Consent was withdrawn: that ends all of them.")
    if cause.code in {grant.reason, fleet.ended.code if fleet.ended else None}:
        return NEWEST.fails(
            "Tesla refused every refresh token here while it still took the access token: a superseded one "
            "was presented. The newest is elsewhere.",
            cause.repair,
            cause=cause.code,
        )
    if grant.state == State.NEEDS_CONSENT and fleet.error is None:
        return NEWEST.cant_know(
            "Tesla refused all that are here, and nothing tells whether another one exists."
        )
    if grant.state != State.ALIVE:
        return NEWEST.cant_know("There is none that is good.")
    return NEWEST.passes("Nothing says otherwise.")


def _fleet_findings(settings: Settings, grant: Grant, fleet: _Fleet) -> Iterator[Finding]:
    if fleet.why_not:
        for check in (TOKEN, REGION, ACCOUNT):
            yield check.cant_know(fleet.why_not)
        return
    error = fleet.error
    stopped = error is not None and (
        fleet.code == "consent_withdrawn"
        or (error.cause.actor is Actor.WAIT and fleet.code != "wrong_region")
    )
    yield TOKEN.because(error) if error and stopped else TOKEN.passes("It does.")
    yield _region(settings, grant, fleet)
    if error and fleet.code == "unknown_user":
        yield ACCOUNT.because(error)
    elif stopped:
        yield ACCOUNT.cant_know("Tesla did not say.")
    else:
        yield ACCOUNT.passes("It does.")


def _region(settings: Settings, grant: Grant, fleet: _Fleet) -> Finding:
    said = unverified_claims(fleet.token).get("ou_code")
    details = [
        ("In the table", grant.region),
        ("In the token", said if isinstance(said, str) else "not said"),
        ("Tesla’s users/region", fleet.region or "not said"),
    ]
    cause = CAUSES["wrong_region"]
    elsewhere = fleet.region
    if fleet.error is not None and fleet.error.right_base_url:
        elsewhere = Regions(settings.fleet_urls).region_of_url(fleet.error.right_base_url) or "elsewhere"
        details[2] = ("Tesla’s answer", str(fleet.error))
    if fleet.code == cause.code or (elsewhere is not None and elsewhere != grant.region):
        name = REGIONS[elsewhere].name if elsewhere in REGIONS else "another region"
        return REGION.fails(
            f"The table says {grant.region}; Tesla says that the account lives in {name}.",
            "Have the owner sign in again, which looks the region up; programs should take the base URL "
            "from Evergrant each time.",
            *details,
            cause=cause.code,
        )
    if fleet.error is not None:
        if fleet.code == "not_registered":
            return REGION.because(fleet.error, *details)
        return REGION.cant_know("Tesla did not say.", "", *details)
    return REGION.passes(f"The table and Tesla say {grant.region}.", *details)


def _scopes(settings: Settings, grant: Grant, fleet: _Fleet) -> Finding:
    claim = unverified_claims(fleet.token).get("scp")
    granted = (
        [scope for scope in claim if isinstance(scope, str)]
        if isinstance(claim, list)
        else grant.scopes.split()
    )
    needed = settings.tesla_scopes.split()
    details = (
        ("Asked at the sign-in", grant.requested_scopes),
        ("Granted", " ".join(granted)),
        ("Needed (TESLA_SCOPES)", " ".join(needed)),
    )
    cause = CAUSES["missing_scopes"]
    lacking = missing(needed, granted)
    if lacking:
        never_asked = missing(lacking, grant.requested_scopes.split())
        seen = f"Not granted: {', '.join(lacking)}."
        if never_asked:
            seen += f" Never asked for at the sign-in: {', '.join(never_asked)}."
        return SCOPES.fails(seen, cause.repair, *details, cause=cause.code)
    if fleet.refused is not None:
        return SCOPES.because(fleet.refused, *details)
    return SCOPES.passes("They are.", *details)


# --- in one sentence ----------------------------------------------------------------------------------

_ROOTS = (
    "other_credentials",
    "consent_withdrawn",
    "superseded_token",
    "two_refreshes",
    "unknown_user",
    "not_registered",
    "wrong_region",
    "missing_scopes",
    "invalid_client",
)
"""The causes that explain others, in the order in which they are to be repaired."""

_FOLLOW = {"login_required", "token_not_accepted", "key_not_fetched"}
"""Those that another explains, where there is one."""


def sentence(findings: Sequence[Finding]) -> str:
    """Which it is, and what to do."""
    codes = list(dict.fromkeys(found.cause for found in findings if found.cause))
    if "consent_withdrawn" in codes:  # Tesla may notice it at one end before the other
        codes = [code for code in codes if code != "superseded_token"]
    roots = [code for code in _ROOTS if code in codes]
    named = roots + [code for code in codes if code not in roots and not (roots and code in _FOLLOW)]
    if not named:
        failed = [found for found in findings if found.verdict is Verdict.FAIL]
        if failed:
            return f"{failed[0].seen} {failed[0].repair}"
        if any(found.verdict is Verdict.UNKNOWN for found in findings):
            return "Nothing is wrong as far as can be known from here."
        return "All is well with this grant."
    causes = [CAUSES.get(code, KEY_MISSING) for code in named]
    what = " and ".join(f"{cause.title} ({cause.code})" for cause in causes)
    return f"It is this: {what}. {' '.join(dict.fromkeys(cause.repair for cause in causes))}"
