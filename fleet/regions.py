"""Tesla's regions: each has its own Fleet API, and an owner lives in one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Region(NamedTuple):
    name: str
    covers: str


REGIONS: dict[str, Region] = {
    "NA": Region("North America", "North America and Asia-Pacific, without China"),
    "EU": Region("Europe", "Europe, the Middle East and Africa"),
    "CN": Region("China", "Mainland China"),
}
"""Region code to words (Tesla's developer pages, "Regions and countries")."""


def region_of_hint(code_or_token: str) -> str | None:
    """The region that a code or refresh token begins with (``NA_…``), or None.

    Seen in the wild, documented nowhere: a first guess, never the truth.
    """
    head = code_or_token[:3].upper()
    return head[:2] if head.endswith("_") and head[:2] in REGIONS else None


_PORTS = {"http": 80, "https": 443}


def _place(url: str) -> tuple[str, str, int | None, str] | None:
    try:
        parts = urlsplit(url.strip())
        if (
            parts.scheme not in _PORTS
            or not parts.hostname
            or parts.username
            or parts.query
            or parts.fragment
        ):
            return None
        port = parts.port or _PORTS[parts.scheme]
    except ValueError:
        return None
    return parts.scheme, parts.hostname, port, parts.path.rstrip("/")


class Regions:
    """The Fleet API base URLs that are configured, by region code. Tokens go to these and nowhere else."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._urls = {region.upper(): url.rstrip("/") for region, url in urls.items()}
        self._places = {_place(url): region for region, url in self._urls.items()}
        self._places.pop(None, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._urls)

    def url(self, region: str) -> str:
        """The base URL, without a slash at its end. Raises KeyError for a region that is not configured."""
        return self._urls[region.upper()]

    def region_of_url(self, url: str) -> str | None:
        """The region whose base URL this is, or None: then nothing may be sent there."""
        place = _place(url)
        return None if place is None else self._places.get(place)
