"""The web app as browsers reach it: at `PUBLIC_URL`, whatever a request says about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from doctor import arrival

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ARRIVED_AT = "evergrant.arrived_at"
"""Key in the WSGI environment: the host that the request was sent to, as far as it says."""


class AtPublicUrl:
    """WSGI middleware that gives each request the scheme, host and path prefix of `PUBLIC_URL`.

    It stands where ProxyFix usually does, and trusts nobody: behind a proxy or not, neither ``Host`` nor
    ``X-Forwarded-*`` changes what is answered. The prefix may have been taken off by a proxy or not.

    `key` is the one that signs cookies: with it the doctor asks how a request arrives here.
    """

    def __init__(self, app: WSGIApplication, public_url: str, key: str) -> None:
        url = urlsplit(public_url)
        self._app = app
        self._key = key
        self._scheme = url.scheme
        self._host = url.netloc
        self._prefix = url.path

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if self._prefix and (path == self._prefix or path.startswith(self._prefix + "/")):
            path = path[len(self._prefix) :] or "/"
        if (nonce := arrival.asked(self._key, environ)) is not None:
            return self._tell_doctor(nonce, environ, path, start_response)
        environ[ARRIVED_AT] = environ.get("HTTP_HOST", self._host)
        environ["wsgi.url_scheme"] = self._scheme
        environ["HTTP_HOST"] = self._host
        if self._prefix:
            environ["SCRIPT_NAME"] = self._prefix
            environ["PATH_INFO"] = path
        return self._app(environ, start_response)

    def _tell_doctor(
        self, nonce: str, environ: WSGIEnvironment, path: str, start_response: StartResponse
    ) -> Iterable[bytes]:
        cookie = f"{arrival.NAME}={nonce}; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
        headers = [
            ("Content-Type", "application/json"),
            ("Cache-Control", "no-store"),
            ("Set-Cookie", cookie + ("; Secure" if self._scheme == "https" else "")),
        ]
        start_response("200 OK", headers)
        return [arrival.answer(self._key, nonce, environ, path)]
