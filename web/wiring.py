"""What the pages are made of: the parts of `workers.parts`, and those that only a sign-in needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from flask import current_app

from fleet.authorize import Discovery
from fleet.identity import IdTokenVerifier
from web.limits import Limits

if TYPE_CHECKING:
    from fleet.api import FleetApi
    from settings import Settings
    from workers.parts import Parts

_KEY = "evergrant"


@dataclass(frozen=True)
class Wiring:
    """One app's parts. Made by the app's factory."""

    parts: Parts
    discovery: Discovery
    verifier: IdTokenVerifier
    api: FleetApi
    limits: Limits

    @property
    def settings(self) -> Settings:
        return self.parts.settings


def wire(parts: Parts) -> Wiring:
    """The wiring for these parts. Connects to nothing yet."""
    settings = parts.settings
    issuers = tuple(
        issuer.strip() for issuer in settings.endpoint("tesla_issuer").split(",") if issuer.strip()
    )
    return Wiring(
        parts=parts,
        discovery=Discovery(issuers),
        verifier=IdTokenVerifier(settings.endpoint("tesla_jwks_url"), issuers, settings.client_id),
        api=parts.api,
        limits=Limits(parts.redis),
    )


def attach(extensions: dict[str, object], wiring: Wiring) -> None:
    """Hands the wiring to an app, through its `extensions`."""
    extensions[_KEY] = wiring


def wiring() -> Wiring:
    """The wiring of the app that this request came to."""
    return cast("Wiring", current_app.extensions[_KEY])
