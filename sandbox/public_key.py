"""An app's public key, fetched from its domain as Tesla does: no redirect, no HTML, EC on prime256v1."""

from __future__ import annotations

import http.client
import ipaddress
import re
import ssl

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

PATH = "/.well-known/appspecific/com.tesla.3p.public-key.pem"
DOMAIN = re.compile(r"[a-z0-9.-]+(:[0-9]{1,5})?|\[[0-9a-f:]+\](:[0-9]{1,5})?")
LARGEST = 4096
"""Bytes; a key has 178."""
SECONDS = 4.0


class BadKey(Exception):
    """No usable key there; the message names the URL and says why."""


def fetch(domain: str, caller: str | None) -> str:
    """The key's uncompressed point in hexadecimal. Raises `BadKey`.

    Over https, except from this machine. "localhost" is meant as the `caller` means it, who may be another
    container's address.
    """
    host, _, port = domain.rpartition(":") if re.search(r":[0-9]+$", domain) else (domain, "", "")
    local = host == "localhost" or _is_loopback(host)
    url = f"{'http' if local else 'https'}://{domain}{PATH}"
    try:
        status, body = _get(
            caller if local and caller else host, int(port) if port else None, domain, tls=not local
        )
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise BadKey(f"{url}, error: {type(error).__name__}") from None
    if status != 200:
        raise BadKey(f"{url}, error: HTTP {status}")
    if len(body) > LARGEST:
        raise BadKey(f"{url}, error: too large")
    try:
        key = load_pem_public_key(body)
    except ValueError:
        raise BadKey(f"{url}, error: not a PEM public key") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise BadKey(f"{url}, error: not an EC key on prime256v1")
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint).hex()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _get(host: str, port: int | None, domain: str, *, tls: bool) -> tuple[int, bytes]:
    connection: http.client.HTTPConnection = (
        http.client.HTTPSConnection(host, port, timeout=SECONDS, context=ssl.create_default_context())
        if tls
        else http.client.HTTPConnection(host, port, timeout=SECONDS)
    )
    try:
        connection.request("GET", PATH, headers={"Host": domain})
        answer = connection.getresponse()
        return answer.status, answer.read(LARGEST + 1)
    finally:
        connection.close()
