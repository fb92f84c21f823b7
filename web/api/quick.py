"""The token call, answered in front of Flask: programs ask for it most, and Flask would cost as much again.

Only what ends well is answered here. All else goes on to the app, which looks once more and explains it.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from models.api_keys import Scope
from models.crypto import Unopenable
from models.grants import State
from web.api.access import check
from web.api.fresh import is_new, meets
from web.api.problems import Refusal
from web.api.shapes import MIN_TTL, Token

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from web.api.parts import ApiParts
    from web.wiring import Wiring

_PATH = re.compile(r"/api/v1/owners/([^/]+)/token")
_QUERY = re.compile(r"(?:min_ttl=([0-9]{1,6}))?")


class QuickTokens:
    """WSGI middleware around the API's app."""

    def __init__(self, app: WSGIApplication, wiring: Wiring, parts: ApiParts) -> None:
        self._app = app
        self._wiring = wiring
        self._parts = parts

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = self._token(environ)
        if body is None:
            return self._app(environ, start_response)
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Correlation-Id", secrets.token_hex(8)),
        ]
        start_response("200 OK", headers)
        return [body]

    def _token(self, environ: WSGIEnvironment) -> bytes | None:
        if environ["REQUEST_METHOD"] != "GET":
            return None
        path, query = _PATH.fullmatch(environ["PATH_INFO"]), _QUERY.fullmatch(environ.get("QUERY_STRING", ""))
        if path is None or query is None:
            return None
        min_ttl = int(query[1] or MIN_TTL)
        try:
            owner = path[1].encode("latin-1").decode()
            grant = check(self._parts, environ.get("HTTP_AUTHORIZATION", ""), Scope.TOKENS_READ, owner).grant
            if grant is None or grant.state != State.ALIVE or not (meets(grant, min_ttl) or is_new(grant)):
                return None
            access_token = grant.access_token(self._wiring.parts.keyring)
        except (Refusal, SQLAlchemyError, UnicodeError, Unopenable):
            return None
        if access_token is None:
            return None
        token = Token.of(
            grant, access_token, min_ttl_met=meets(grant, min_ttl), settings=self._wiring.settings
        )
        return token.model_dump_json().encode()
