"""The Flask app's factory. Nothing happens at import."""

from __future__ import annotations

import hashlib
import logging
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Flask, g, request, url_for
from flask_talisman import Talisman
from flask_wtf.csrf import CSRFProtect

from web import cars, health, landing, metrics, owner, problems, public_key, signin, troubleshooting, words
from web.api import docs as api_docs
from web.api.app import ForPrograms, create_api
from web.api.parts import attach_api, wire_api
from web.api.quick import QuickTokens
from web.operator import console
from web.public import AtPublicUrl
from web.session import cookie_config
from web.wiring import attach, wire

if TYPE_CHECKING:
    from flask import Response

    from settings import Settings
    from workers.parts import Parts

LARGEST_REQUEST = 64 * 1024
"""Bytes; the largest form has a few hundred."""


class _App(Flask):
    def log_exception(self, exc_info: Any) -> None:
        """The traceback with the correlation id that the page shows; the path without its query."""
        self.logger.error(
            "%s %r failed: correlation_id=%s",
            request.method,
            request.path,
            g.correlation_id,
            exc_info=exc_info,
        )


def create_app(parts: Parts | None = None) -> Flask:
    """The app on these parts, by default those of the settings. It connects to nothing yet."""
    if parts is None:
        from workers.parts import parts as composed

        parts = composed()
    settings = parts.settings
    app = _App(__name__)
    app.logger.setLevel(logging.getLevelName(settings.log_level))
    app.config.update(cookie_config(settings))
    app.config.update(
        MAX_CONTENT_LENGTH=LARGEST_REQUEST,
        SEND_FILE_MAX_AGE_DEFAULT=365 * 24 * 3600,  # their URLs change with their content
        # A form is good for as long as its session.
        WTF_CSRF_TIME_LIMIT=None,
        # There is no referrer to check (see below); the cookie's prefix keeps strangers from planting theirs.
        WTF_CSRF_SSL_STRICT=False,
    )
    wired = wire(parts)
    attach(app.extensions, wired)
    api_parts = wire_api(parts)
    attach_api(app.extensions, api_parts)
    app.before_request(_name_the_request)  # first: even a form that is refused has a correlation id
    CSRFProtect(app)
    _security_headers(app, settings)
    problems.install(app)
    app.register_blueprint(landing.blueprint)
    app.register_blueprint(signin.blueprint)
    app.register_blueprint(owner.blueprint)
    app.register_blueprint(cars.blueprint)
    app.register_blueprint(console())
    app.register_blueprint(public_key.blueprint)
    app.register_blueprint(troubleshooting.blueprint)
    app.register_blueprint(health.blueprint(parts))
    app.register_blueprint(metrics.blueprint)
    app.register_blueprint(api_docs.blueprint)
    app.after_request(_finish)
    app.jinja_env.globals.update(
        static=_static(app),
        relative=words.relative,
        clock=words.clock,
        day=words.day,
        lasting=words.lasting,
        when=words.when,
        more=troubleshooting.more,
    )
    app.jinja_env.filters.update(ticks=words.ticks, number="{:,}".format)
    api = QuickTokens(create_api(wired, api_parts).wsgi_app, wired, api_parts)
    split = ForPrograms(app.wsgi_app, api)
    app.wsgi_app = AtPublicUrl(split, settings.public_url, settings.cookie_key)  # type: ignore[method-assign]
    return app


def _security_headers(app: Flask, settings: Settings) -> None:
    authorize = urlsplit(settings.endpoint("tesla_authorize_url"))
    secure = settings.public_url.startswith("https://")
    Talisman(
        app,
        force_https=False,  # TLS ends at the operator's proxy, which also redirects
        strict_transport_security=secure,
        strict_transport_security_include_subdomains=False,  # the other subdomains are not ours to decide
        session_cookie_secure=secure,
        session_cookie_samesite="Lax",
        frame_options="DENY",
        referrer_policy="no-referrer",  # a callback's address carries a code
        content_security_policy={
            "default-src": "'self'",
            "base-uri": "'none'",
            "object-src": "'none'",
            "frame-ancestors": "'none'",
            "form-action": f"'self' {authorize.scheme}://{authorize.netloc}",
        },
    )


def _name_the_request() -> None:
    g.correlation_id = secrets.token_hex(8)


def _finish(response: Response) -> Response:
    response.headers["X-Correlation-Id"] = g.correlation_id
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response


def _static(app: Flask) -> Any:
    """`static(name)` in templates: a URL that changes when the file does."""
    folder = Path(app.static_folder or "")
    versions = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for path in folder.iterdir()
        if path.is_file()
    }
    return lambda name: url_for("static", filename=name, v=versions[name])
