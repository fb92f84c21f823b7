"""From the developer portal to the first real sign-in: the steps, and how far this installation has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from doctor.findings import Check, Finding, Look, Verdict, worst
from doctor.table import NoTable, table
from models import grants

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from settings import Settings

PORTAL = Check("first.app", "The app’s credentials are here", "They say to Tesla who asks.")
SIGNED_IN = Check("first.signin", "Somebody has signed in", "It proves everything at once.")

STEPS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("address", "Give Evergrant its address", ("settings.public_url", "redirect.route")),
    ("portal", "Make an app in Tesla’s developer portal", ("first.app",)),
    ("credentials", "Have Tesla know the app", ("first.app", "settings.app", "app.credentials")),
    ("key", "Make the app’s key", ("key.",)),
    ("registration", "Register the app", ("app.registration",)),
    ("redirect", "Have Tesla take the redirect URI", ("redirect.tesla",)),
    ("signin", "Sign in for the first time", ("first.signin",)),
)
"""Name, title, and what the checks that prove it begin with."""


@dataclass(frozen=True)
class Step:
    name: str
    title: str
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        return worst(self.findings)


def looks(settings: Settings) -> list[Look]:
    return [
        Look((PORTAL,), lambda _: [_portal(settings)]),
        Look((SIGNED_IN,), lambda _: [_signed_in(settings)]),
    ]


def steps(findings: Sequence[Finding]) -> list[Step]:
    """The steps, each with what was found about it."""
    return [
        Step(name, title, tuple(found for found in findings if found.check.startswith(checks)))
        for name, title, checks in STEPS
    ]


def is_unproven(settings: Settings, connection: Connection) -> bool:
    """Whether the guide is wanted: nobody has signed in with a real app yet."""
    return settings.uses_sandbox or not grants.is_any_of_app(connection, settings.client_id)


def _portal(settings: Settings) -> Finding:
    if settings.tesla_client_id:
        return PORTAL.passes("`TESLA_CLIENT_ID` is set.")
    return PORTAL.fails(
        "The sandbox plays Tesla." if settings.uses_sandbox else "`TESLA_CLIENT_ID` is not set.",
        "Make an app, put its client id and secret into `.env`, and restart.",
    )


def _signed_in(settings: Settings) -> Finding:
    try:
        with table(settings) as database, database.read() as connection:
            unproven = is_unproven(settings, connection)
    except NoTable as away:
        return SIGNED_IN.cant_know(str(away), away.repair)
    if unproven:
        where = " with a real app" if settings.uses_sandbox else ""
        return SIGNED_IN.fails(f"Nobody has{where}, yet.", "Sign in, with a Tesla account that has a car.")
    return SIGNED_IN.passes("Somebody has: everything works.")
