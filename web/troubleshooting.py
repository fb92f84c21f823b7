"""What each cause is, at length: the page that every error of Tesla's links to, wherever it shows."""

from __future__ import annotations

from flask import Blueprint, render_template
from markupsafe import Markup

from doctor.troubleshooting import ENTRIES, INTRODUCTION, TURNS, sections
from web.wiring import wiring

blueprint = Blueprint("troubleshooting", __name__)

PATH = "/troubleshooting"


@blueprint.get(PATH)
def page() -> str:
    """All entries; each is at its cause's code."""
    return render_template(
        "troubleshooting.html", introduction=INTRODUCTION, sections=list(sections()), turns=TURNS
    )


def address_of(code: str | None) -> str | None:
    """The whole address of a cause's entry; None where the code is not a cause's."""
    return f"{wiring().settings.public_url}{PATH}#{code}" if code in ENTRIES else None


def more(code: str | None) -> Markup:
    """For templates: a cause's code as a link to its entry; nothing where it is not a cause's."""
    address = address_of(code)
    if address is None:
        return Markup()
    return Markup('<a class="more" href="{}">More about <code>{}</code></a>').format(address, code)
