"""A fast stand-in for Tesla's token endpoint: ``python -m bench.standin 0.3 0.5``.

It answers refreshes, any number at once, after a time drawn from a log-normal distribution with this median
and sigma (0: at once). Tokens are as long as Tesla's. It prints its port; ``GET /record`` says how many calls
it has seen, and how many presented a refresh token again. A third argument is a certificate with its key.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import random
import secrets
import ssl
import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKEN_SECONDS = 28_800
_SCOPES = ["openid", "offline_access", "vehicle_device_data", "vehicle_location", "vehicle_cmds"]
_HEADER = base64.urlsafe_b64encode(b'{"alg":"RS256","typ":"JWT","kid":"bench"}').rstrip(b"=").decode()


def access_token(owner: str, issued: float) -> str:
    """A JWT of about 1,000 characters, whose signature nobody checks."""
    claims = {
        "iss": "https://fleet-auth.tesla.com/oauth2/v3/nts",
        "aud": ["https://fleet-api.prd.na.vn.cloud.tesla.com", "https://auth.tesla.com/oauth2/v3/userinfo"],
        "sub": owner,
        "scp": _SCOPES,
        "amr": ["pwd", "mfa", "otp"],
        "iat": int(issued),
        "exp": int(issued) + TOKEN_SECONDS,
        "ou_code": "NA",
        "locale": "en-US",
    }
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"{_HEADER}.{body}.{secrets.token_urlsafe(256)}"


def refresh_token(owner: str) -> str:
    """Opaque, though it says here whose it is, so that the stand-in need not remember it."""
    return f"NA_{owner}.{secrets.token_urlsafe(480)}"


class _Connection(asyncio.Protocol):
    spent: dict[str, int] = {}  # noqa: RUF012 - shared by all connections
    median, sigma = 0.0, 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - as asyncio promises
        self._transport, self._buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length":
                length = int(value)
        if len(body) < length:
            return
        self._buffer = body[length:]
        if head.startswith(b"GET"):
            record = {"calls": sum(self.spent.values()), "again": sum(n - 1 for n in self.spent.values())}
            self._answer(record)
            return
        (presented,) = parse_qs(body[:length].decode())["refresh_token"]
        self.spent[presented[-43:]] = self.spent.get(presented[-43:], 0) + 1
        owner = presented.removeprefix("NA_").partition(".")[0]
        tokens = {
            "access_token": access_token(owner, time.time()),
            "refresh_token": refresh_token(owner),
            "expires_in": TOKEN_SECONDS,
            "token_type": "Bearer",
        }
        if not self.median:
            self._answer(tokens)
            return
        wait = self.median * math.exp(random.gauss(0, self.sigma))
        asyncio.get_running_loop().call_later(wait, self._answer, tokens)

    def _answer(self, content: Mapping[str, object]) -> None:
        body = json.dumps(content).encode()
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )


async def main() -> None:
    _Connection.median, _Connection.sigma = (float(word) for word in sys.argv[1:3])
    tls = None
    if len(sys.argv) > 3:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(sys.argv[3])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0, backlog=1024, ssl=tls)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - that is how it is found
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
