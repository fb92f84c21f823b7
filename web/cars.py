"""The owner's cars, by name: the proof that the access token works.

Tesla is asked when the owner looks, never on the way to a page that matters more: the owner's page is there
before, and fetches this as a part of it. Without scripts it is a page of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from flask import Blueprint, current_app, g, render_template, request
from limits import parse

from fleet.deadline import Deadline
from fleet.errors import CAUSES, TeslaError, scrub
from fleet.scopes import SCOPES
from models import grants
from models.crypto import Unopenable
from web.owner import signed_in
from web.wiring import wiring
from workers.refresh import KEY_MISSING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.errors import Cause
    from models.grants import Grant

blueprint = Blueprint("cars", __name__)

SECONDS = 4.0
"""How long Tesla may take; the owner is told when it takes longer."""

OFTEN = parse("30 per minute")
"""How often one owner may have Tesla asked: its calls count, and may cost."""

NEEDED = "vehicle_device_data"
"""The scope that Tesla lists cars for (its developer pages, "Vehicle Endpoints")."""

MOST = 12
"""How many cars are named; of the rest it is said how many."""


STATES = {"online": "awake", "asleep": "asleep", "offline": "offline"}


class Car(NamedTuple):
    """Of the `vin` only its last four letters leave this module."""

    name: str
    vin: str
    state: str


@dataclass(frozen=True)
class Look:
    """What a look at Tesla showed: the cars, and how many `more`; or why there was none."""

    at: datetime
    cars: Sequence[Car] = ()
    more: int = 0
    why: Cause | str | None = None


@blueprint.get("/owner/cars")
@signed_in
def page(owner: str) -> str:
    """Asks Tesla, and shows what it says: a part of the owner's page, or a page."""
    part = "HX-Request" in request.headers
    return render_template("cars_part.html" if part else "cars.html", look=look(owner))


def look(owner: str) -> Look:
    """Asks Tesla for the owner's cars, with the access token that is held now."""
    wired = wiring()
    with wired.parts.database.read() as connection:
        grant = grants.read(connection, owner)
    now = datetime.now(UTC) if grant is None else grant.read_at
    token, why = _token(grant)
    if grant is None or token is None:
        return Look(now, why=why)
    if wired.limits.take(OFTEN, "cars", owner) is not None:
        return Look(now, why="Tesla was asked often enough just now. Look again in a minute.")
    region = grant.region if grant.region in wired.settings.fleet_urls else "NA"
    try:
        answer = wired.api.vehicles(token, region, Deadline(SECONDS))
    except TeslaError as error:
        current_app.logger.info("cars: %s correlation_id=%s (%s)", error, g.correlation_id, error.cause.entry)
        return Look(now, why=error.cause)
    return _read(answer, token, now)


def _token(grant: Grant | None) -> tuple[str | None, str | Cause]:
    """The access token, if there is a good one that may be used for this; else why not."""
    if grant is None or grant.sealed_access_token is None:
        return None, "Evergrant holds no token of yours, so it can’t ask."
    if grant.access_expires_at is None or grant.access_expires_at <= grant.read_at:
        comes = "next refresh" if grant.state == grants.State.ALIVE else "next sign-in"
        return None, f"The access token has run out. The {comes} brings a new one."
    if NEEDED not in grant.scopes.split():
        return None, f"You did not grant “{SCOPES[NEEDED].title}”, so Tesla does not name your cars."
    try:
        return grant.access_token(wiring().parts.keyring), ""
    except Unopenable:
        return None, KEY_MISSING


def _read(answer: dict[str, Any], token: str, now: datetime) -> Look:
    """Tesla's list. Its words are data: bounded, printable, and escaped by the template."""
    listed = answer.get("response")
    if not isinstance(listed, list):
        return Look(now, why=CAUSES["odd_answer"])
    cars = [_car(entry, token) for entry in listed if isinstance(entry, dict)]
    return Look(now, cars=cars[:MOST], more=len(cars[MOST:]))


def _car(entry: dict[str, Any], token: str) -> Car:
    vin = scrub(entry.get("vin"), (token,), limit=17)
    return Car(
        name=scrub(entry.get("display_name"), (token,), limit=60) or "A car without a name",
        vin=vin[-4:],
        state=STATES.get(str(entry.get("state")), ""),
    )
