"""The key that signs the sandbox's tokens: RS256, as Tesla's do."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

if TYPE_CHECKING:
    from pathlib import Path


class BadToken(Exception):
    """Not a token that this sandbox signed."""


class Signer:
    """Signs and checks with one RSA key, kept in a file of mode 600 so that tokens outlive a restart."""

    def __init__(self, path: Path) -> None:
        self._key = RSAKey.import_key(_pem(path))
        self._kid = self._key.thumbprint()

    def sign(self, claims: dict[str, Any]) -> str:
        """A compact JWT with the key's id in its header."""
        return jwt.encode({"alg": "RS256", "typ": "JWT", "kid": self._kid}, claims, self._key)

    def read(self, token: str) -> dict[str, Any]:
        """The claims of a token that this key signed, expired or not; raises `BadToken`."""
        try:
            return dict(jwt.decode(token, self._key, algorithms=["RS256"]).claims)
        except (JoseError, ValueError):
            raise BadToken from None

    def jwks(self) -> dict[str, Any]:
        """The public half, as a JSON Web Key Set."""
        return {
            "keys": [{**self._key.as_dict(private=False), "kid": self._kid, "alg": "RS256", "use": "sig"}]
        }


def _pem(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Written aside and linked into place, so that a kill in between leaves no half key.
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        draft.touch(mode=0o600, exist_ok=False)
        draft.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        return path.read_bytes()
