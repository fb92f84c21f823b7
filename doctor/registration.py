"""Registers the app's domain in each region; with the key pair, what Evergrant can repair by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from doctor.app import partner_token, served_regions
from fleet.deadline import Deadline
from fleet.errors import TeslaError
from fleet.partner import PartnerApi, domain_of
from fleet.regions import Regions

if TYPE_CHECKING:
    from settings import Settings

SECONDS = 20.0
"""For a region: Tesla fetches the key while the call waits."""


@dataclass(frozen=True)
class Registered:
    """What came of it in one region: the public key that Tesla holds now, or why it refused."""

    region: str
    domain: str
    public_key: str | None = None
    error: TeslaError | None = None


def register(settings: Settings) -> list[Registered]:
    """Registers the domain of `PUBLIC_URL` in each region that is served; doing it again renews it."""
    domain = domain_of(settings.public_url)
    api = PartnerApi(Regions(settings.fleet_urls))
    done = []
    for region in served_regions(settings):
        deadline = Deadline(SECONDS)
        try:
            token = partner_token(settings, region, deadline)
            api.register(region, domain, token, deadline)
            done.append(Registered(region, domain, api.public_key(region, domain, token, deadline)))
        except TeslaError as error:
            done.append(Registered(region, domain, error=error))
    return done
