"""The app's key pair: EC on prime256v1, as Tesla wants it for registration and for signed commands."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

if TYPE_CHECKING:
    from pathlib import Path

    from settings import Settings

CURVE = "secp256r1"
"""OpenSSL calls it prime256v1."""


class BadKey(Exception):
    """Not a key as Tesla wants it; the message says what is wrong with it."""


@dataclass(frozen=True)
class Place:
    """Where the two halves are."""

    private: Path
    public: Path

    @classmethod
    def of(cls, settings: Settings) -> Place:
        folder = settings.evergrant_home / "tesla"
        return cls(folder / "private-key.pem", folder / "public-key.pem")


def make(place: Place) -> bool:
    """Makes the pair, the private half readable for this user alone; False when there is one already, which
    is left alone: cars and Tesla know it. Raises OSError."""
    if place.private.exists():
        if not place.public.exists():
            _write(place.public, _public(_private(place.private)), 0o644)
        return False
    key = ec.generate_private_key(ec.SECP256R1())
    # SEC1, what `openssl ecparam -genkey` writes and Tesla's own tools read.
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    place.private.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        _write(place.private, private, 0o600)
    except FileExistsError:  # another has been quicker, just now
        return False
    place.public.unlink(missing_ok=True)
    _write(place.public, _public(key), 0o644)
    return True


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all. Raises FileExistsError where there is one."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        path.hardlink_to(draft)
    finally:
        draft.unlink()


def _private(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError):
        raise BadKey(f"{path} is not a private key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != CURVE:
        raise BadKey(f"{path} is not an EC key on prime256v1")
    return key


def _public(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def point(pem: bytes) -> str:
    """A public key's uncompressed point in hexadecimal, as Tesla names it. Raises `BadKey`."""
    try:
        key = load_pem_public_key(pem)
    except ValueError:
        raise BadKey("it is not a public key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != CURVE:
        raise BadKey("it is not an EC key on prime256v1")
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint).hex()


def held(place: Place) -> str | None:
    """The point of the public key that is served; None where there is none. Raises `BadKey` when it is none
    as Tesla wants it, or does not belong to the private one."""
    try:
        public = place.public.read_bytes()
    except FileNotFoundError:
        return None
    ours = point(public)
    if place.private.exists() and point(_public(_private(place.private))) != ours:
        raise BadKey(f"{place.public.name} does not belong to {place.private.name}")
    return ours
