"""What the API is made of beside the pages' parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from flask import current_app

from models.api_keys import KeyLookup
from web.api.rates import Rates
from web.api.together import Seats, Together
from web.api.uses import LastUses

if TYPE_CHECKING:
    from workers.parts import Parts

_KEY = "evergrant.api"


@dataclass(frozen=True)
class ApiParts:
    """One API's parts."""

    keys: KeyLookup
    rates: Rates
    uses: LastUses
    together: Together
    seats: Seats


def wire_api(parts: Parts) -> ApiParts:
    """The API's parts on these. Connects to nothing yet."""
    return ApiParts(
        keys=KeyLookup(parts.database),
        rates=Rates(),
        uses=LastUses(parts.database),
        together=Together(parts.refresher),
        seats=Seats(),
    )


def attach_api(extensions: dict[str, object], parts: ApiParts) -> None:
    """Hands them to an app, through its `extensions`."""
    extensions[_KEY] = parts


def api_parts() -> ApiParts:
    """Those of the app that this request came to."""
    return cast("ApiParts", current_app.extensions[_KEY])
