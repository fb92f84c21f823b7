"""The API's app: what is the same for all calls."""

from __future__ import annotations

import logging
import secrets
from functools import cache
from typing import TYPE_CHECKING, Any

from flask import Flask, g, request
from flask.sessions import NullSession, SessionInterface

from web import gateway
from web.api import document, events, links, owners, problems, tokens
from web.api.parts import ApiParts, attach_api
from web.wiring import attach

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from flask import Response

    from web.wiring import Wiring

PREFIX = "/api/v1"
DOCS = f"{PREFIX}/docs"

OPERATIONS = (
    tokens.token,
    owners.page,
    owners.one,
    owners.refresh,
    owners.disconnect,
    links.create,
    events.page,
)
"""All that can be asked, in the order in which it is documented."""

LARGEST_REQUEST = 64 * 1024
"""Bytes of a body."""


class _NoSession(SessionInterface):
    def open_session(self, app: Flask, request: Any) -> NullSession:  # noqa: ARG002
        return NullSession()


class _App(Flask):
    session_interface = _NoSession()

    def ensure_sync(self, func: Any) -> Any:
        return func  # none is a coroutine, and each request asks several times

    def log_exception(self, exc_info: Any) -> None:
        """The traceback with the correlation id that the problem shows; the path without its query."""
        self.logger.error(
            "%s %r failed: correlation_id=%s",
            request.method,
            request.path,
            g.correlation_id,
            exc_info=exc_info,
        )


def create_api(wiring: Wiring, parts: ApiParts) -> Flask:
    """The app. It connects to nothing yet."""
    app = _App(__name__, static_folder=None)
    app.logger.setLevel(logging.getLevelName(wiring.settings.log_level))
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_REQUEST
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.json.sort_keys = False  # type: ignore[attr-defined]
    attach(app.extensions, wiring)
    attach_api(app.extensions, parts)
    app.before_request(_name_the_request)
    app.after_request(_finish)
    problems.install(app)
    gateway.install(app, wiring.settings)
    for operation in OPERATIONS:
        app.add_url_rule(
            PREFIX + operation.path.replace("{", "<").replace("}", ">"),
            f"{operation.method} {operation.path}",
            operation,
            methods=[operation.method],
        )
    written = cache(lambda: document.write(wiring.settings.public_url + PREFIX, OPERATIONS))
    app.add_url_rule(f"{PREFIX}/openapi.json", "openapi", written)
    return app


def _name_the_request() -> None:
    g.correlation_id = secrets.token_hex(8)


def _finish(response: Response) -> Response:
    headers = response.headers
    headers["X-Correlation-Id"] = g.correlation_id
    headers.setdefault("Cache-Control", "no-store")
    headers["X-Content-Type-Options"] = "nosniff"
    return response


class ForPrograms:
    """WSGI middleware that sends what programs call to `api`, and all else to the pages; the API's
    documentation is one of them."""

    def __init__(self, pages: WSGIApplication, api: WSGIApplication) -> None:
        self._pages = pages
        self._api = api

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        app = self._api if path.startswith(("/api/", "/gateway/")) and path != DOCS else self._pages
        return app(environ, start_response)
