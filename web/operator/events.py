"""Everything that happened, newest first."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, render_template, request, url_for

from models import listing, surveys
from models.events import Kind
from web.operator.session import operator_signed_in
from web.timeline import outcome
from web.wiring import wiring
from workers.refresh import cause_of

blueprint = Blueprint("events", __name__)

ON_A_PAGE = 50

RARE, ALL = "rare", "all"
"""Everything but refreshes, which are all but a few; and everything."""


def place(name: str) -> int | None:
    """The id of an event that a page is asked to begin beside."""
    given = request.args.get(name, type=int)
    return given if given is not None and 0 < given < 2**63 else None


@blueprint.get("/events")
@operator_signed_in
def page() -> str:
    """The page."""
    asked = request.args
    owner = "".join(char for char in asked.get("owner", "").strip() if char.isprintable())
    kinds = [kind.value for kind in Kind]
    kind = asked.get("kind", ALL if owner else RARE)
    if kind not in {*kinds, RARE, ALL}:
        kind = RARE
    with wiring().parts.database.read() as connection:
        found = listing.happened(
            connection,
            owner=owner or None,
            kind=Kind(kind) if kind in kinds else None,
            rare=kind == RARE,
            older_than=place("older"),
            newer_than=place("newer"),
            limit=ON_A_PAGE,
        )
        now = surveys.clock(connection)

    def there(**place: Any) -> str:
        return url_for("operator.events.page", owner=owner or None, kind=kind, **place)

    return render_template(
        "operator/events.html",
        now=now,
        found=found,
        owner=owner,
        kind=kind,
        kinds=[
            (RARE, "Everything but refreshes"),
            (ALL, "Everything"),
            *((kind, outcome(kind).words) for kind in kinds),
        ],
        newer=found.newer and there(newer=found.newer),
        older=found.older and there(older=found.older),
        outcome=outcome,
        cause_of=cause_of,
    )
