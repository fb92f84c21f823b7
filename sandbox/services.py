"""The parts that every page of one sandbox shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from flask import current_app, request

if TYPE_CHECKING:
    from sandbox.config import Config
    from sandbox.faults import Weather
    from sandbox.record import Record
    from sandbox.signing import Signer
    from sandbox.store import Store
    from sandbox.tesla import Tesla


@dataclass(frozen=True, kw_only=True)
class Services:
    config: Config
    store: Store
    tesla: Tesla
    record: Record
    weather: Weather
    signer: Signer


def services() -> Services:
    """Those of the app that handles this request."""
    return cast("Services", current_app.extensions["sandbox"])


def here() -> str:
    """This sandbox's origin as the client of this request spells it: in containers, browsers and workers
    reach it under different names."""
    return request.host_url.rstrip("/")


def fleet_url(region: str) -> str:
    """The Fleet API base URL of a region, as the client of this request reaches it."""
    return f"{here()}/{region.lower()}"
