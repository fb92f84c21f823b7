"""The app's own standing at Tesla: its domain and public key, registered once in each region.

Tesla's developer pages, "Partner Endpoints". Each call needs a partner token of its region.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from fleet.api import ask
from fleet.errors import CAUSES, TeslaError
from fleet.transport import session

if TYPE_CHECKING:
    from fleet.deadline import Deadline
    from fleet.regions import Regions

KEY_PATH = "/.well-known/appspecific/com.tesla.3p.public-key.pem"
"""Where Tesla fetches an app's public key, on the domain that is registered."""


def domain_of(public_url: str) -> str:
    """The domain to register: of a URL's host, in lower case, without scheme and path.

    A port is kept, so that the sandbox finds a key on this machine; Tesla itself takes none.
    """
    parts = urlsplit(public_url)
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    host = (parts.hostname or "").lower()
    return host if parts.port in {None, usual} else f"{host}:{parts.port}"


def pairing_link(domain: str) -> str:
    """Where an owner adds the app's key to a car."""
    return f"https://tesla.com/_ak/{domain}"


class PartnerApi:
    """The partner endpoints at configured base URLs only. Each method raises `TeslaError`."""

    def __init__(self, regions: Regions) -> None:
        self._regions = regions
        self._session = session(pool_size=4)

    def register(self, region: str, domain: str, token: str, deadline: Deadline) -> dict[str, Any]:
        """Registers the domain, upon which Tesla fetches the key; doing it again renews it."""
        url = f"{self._regions.url(region)}/api/1/partner_accounts"
        return ask(self._session, "POST", url, token, deadline, {"domain": domain})

    def public_key(self, region: str, domain: str, token: str, deadline: Deadline) -> str:
        """The public key that Tesla holds for the domain: its uncompressed point in hexadecimal, lower case.

        Raises `not_registered` where it holds none.
        """
        url = f"{self._regions.url(region)}/api/1/partner_accounts/public_key?domain={quote(domain, safe='')}"
        try:
            content = ask(self._session, "GET", url, token, deadline)
        except TeslaError as error:
            if error.status == 404:  # it knows the app, and no key of this domain
                raise TeslaError(CAUSES["not_registered"], status=404, error=error.error) from None
            raise
        response = content.get("response")
        key = response.get("public_key") if isinstance(response, dict) else None
        if not isinstance(key, str) or not key:
            raise TeslaError(CAUSES["not_registered"], status=200, description="Tesla names no key")
        return key.lower()
