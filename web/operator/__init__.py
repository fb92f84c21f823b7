"""The operator's console: one module a page, under `/operator`.

A page is a module with a `blueprint`. It is added in two places: to `console` below, and, when the
navigation should show it, to `PAGES`. Each of its views is `operator_signed_in`, and what it changes is
asked first (`web.operator.asking`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import Blueprint, current_app, request, url_for

from web.operator import doctor, events, keys, overview, owner, owners, signin, webhooks
from web.wiring import wiring

if TYPE_CHECKING:
    from typing import Any

PAGES = (
    ("Overview", "operator.overview.page"),
    ("Owners", "operator.owners.page"),
    ("Events", "operator.events.page"),
    ("Doctor", "operator.doctor.page"),
    ("Keys", "operator.keys.page"),
    ("Webhooks", "operator.webhooks.page"),
)
"""Label and endpoint, in the navigation's order."""


def console() -> Blueprint:
    """All of the console."""
    console = Blueprint("operator", __name__, url_prefix="/operator")
    for module in (signin, overview, owners, owner, events, doctor, keys, webhooks):
        console.register_blueprint(module.blueprint)
    console.context_processor(_layout)
    return console


def _layout() -> dict[str, Any]:
    """What `operator/layout.html` needs: `pages` are label, address and whether this page is among it."""
    here = "operator.owners" if request.blueprint == "operator.owner" else request.blueprint
    return {
        "here": request.script_root + request.full_path.rstrip("?"),
        "pages": [
            (label, url_for(endpoint), here == endpoint.rpartition(".")[0])
            for label, endpoint in PAGES
            if endpoint in current_app.view_functions
        ],
        "flower": wiring().settings.flower_url or _flower(),
    }


def _flower() -> str:
    """Where a browser finds Flower: on the host of the pages, at its own port."""
    settings = wiring().settings
    return f"http://{urlsplit(settings.public_url).hostname}:{settings.flower_port}"
