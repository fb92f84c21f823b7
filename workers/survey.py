"""What the console shows at a glance, counted beforehand; and since when nothing has needed anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models import pulses, surveys, tallies
from workers.needs import needs

if TYPE_CHECKING:
    from workers.parts import Parts

JUST = 5.0
"""Seconds ago; what came to pass since does not have to be counted yet."""

QUIET = "quiet"
"""The note that says since when nothing has needed the operator."""


def survey(parts: Parts) -> bool:
    """Brings it all up to date; False when another has only just done so. Raises SQLAlchemy's errors."""
    if pulses.beaten_within(parts.database, "survey", JUST):
        return False
    pulses.beat(parts.database, "survey")
    tallies.roll_up(parts.database)
    surveys.take(parts.database)
    _note_quiet(parts)
    return True


def _note_quiet(parts: Parts) -> None:
    quiet = not needs(parts)
    with parts.database.read() as connection:
        since = (surveys.noted(connection, QUIET) or {}).get("since")
        now = surveys.clock(connection).isoformat()
    if quiet != (since is not None):
        surveys.note(parts.database, QUIET, {"since": now if quiet else None})
