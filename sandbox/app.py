"""The sandbox's Flask app.

==============================================  =========================
``/oauth2/v3/authorize``                        `sandbox.authorize`
``/oauth2/v3/token``                            `sandbox.token_endpoint`
``/oauth2/v3/.well-known/…``, ``…/discovery/``  `sandbox.discovery`
``/na``, ``/eu``, ``/cn``                       `sandbox.fleet_api`
``/``, ``/record.json``, ``/faults`` …          `sandbox.record_page`
==============================================  =========================

How Tesla behaves is in `sandbox.tesla`, what may go wrong in `sandbox.faults`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask

from sandbox import authorize, discovery, fleet_api, record_page, token_endpoint
from sandbox.faults import Weather
from sandbox.record import Record
from sandbox.services import Services
from sandbox.signing import Signer
from sandbox.store import Store
from sandbox.tesla import Tesla

if TYPE_CHECKING:
    from flask import Response

    from sandbox.config import Config

HEADERS = {
    # No form-action: browsers hold it against the redirect that follows Allow, which leads to the app.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def create_app(config: Config) -> Flask:
    """A sandbox whose state is in `config.home`. One process at a time may serve it, with many threads."""
    app = Flask(__name__)
    app.json.sort_keys = False  # type: ignore[attr-defined]  # Flask types the provider as its base class
    app.config["MAX_CONTENT_LENGTH"] = 1 << 20
    store = Store(config.home / "sandbox.db")
    app.extensions["sandbox"] = Services(
        config=config,
        store=store,
        tesla=Tesla(store, config),
        record=Record(store, config),
        weather=Weather(config.seed),
        signer=Signer(config.home / "signing-key.pem"),
    )
    for module in (authorize, token_endpoint, discovery, fleet_api, record_page):
        app.register_blueprint(module.blueprint)

    @app.after_request
    def _add_headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return app
