"""Encryption of what the token table keeps: AES-256-GCM, several keys at once, bound to its place.

A sealed value is ``key id ":" nonce (12 bytes) ciphertext and tag``. Owner, column and generation are its
associated data, so a ciphertext that was moved to another row, column or generation does not open.
"""

from __future__ import annotations

import base64
import binascii
import os
import re

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,32}")
_NONCE_BYTES = 12


class BadKeys(ValueError):
    """The encryption keys are malformed; the message says which and how they should look."""


class Unopenable(Exception):
    """A sealed value does not open: its key is not among ours, or it is not in its place."""


class Keyring:
    """The keys in use. The first seals; each opens what it sealed."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        if not keys:
            raise BadKeys("ENCRYPTION_KEYS is empty: give `id:base64 of 32 bytes`.")
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._first = next(iter(keys))

    @classmethod
    def parse(cls, text: str) -> Keyring:
        """Reads ``id:base64 of 32 bytes``, several separated by commas or lines.

        Raises `BadKeys` with a sentence that does not contain the key.
        """
        keys: dict[str, bytes] = {}
        for number, entry in enumerate(filter(None, (e.strip() for e in re.split(r"[,\n]", text))), 1):
            key_id, _, encoded = entry.partition(":")
            if not _KEY_ID.fullmatch(key_id) or not encoded:
                raise BadKeys(f"ENCRYPTION_KEYS: entry {number} must look like `id:base64 of 32 bytes`.")
            try:
                key = base64.b64decode(encoded.replace("-", "+").replace("_", "/"), validate=True)
            except binascii.Error:
                raise BadKeys(f"ENCRYPTION_KEYS: the key {key_id!r} is not base64.") from None
            if len(key) != 32:
                raise BadKeys(f"ENCRYPTION_KEYS: the key {key_id!r} has {len(key)} bytes; it must have 32.")
            if key_id in keys:
                raise BadKeys(f"ENCRYPTION_KEYS: the id {key_id!r} stands twice.")
            keys[key_id] = key
        return cls(keys)

    def seal(self, plaintext: str, *, owner: str, column: str, generation: int) -> bytes:
        """Encrypts with the first key."""
        nonce = os.urandom(_NONCE_BYTES)
        place = _place(owner, column, generation)
        sealed = self._ciphers[self._first].encrypt(nonce, plaintext.encode(), place)
        return self._first.encode() + b":" + nonce + sealed

    def open(self, sealed: bytes, *, owner: str, column: str, generation: int) -> str:
        """Decrypts. Raises `Unopenable`, which names the key and the place, never the content."""
        key_id, _, rest = sealed.partition(b":")
        name = key_id.decode("ascii", "replace")[:32]
        cipher = self._ciphers.get(name)
        if cipher is None:
            raise Unopenable(f"it was encrypted with the key {name!r}, which is not in ENCRYPTION_KEYS")
        try:
            plain = cipher.decrypt(
                rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], _place(owner, column, generation)
            )
        except (InvalidTag, ValueError):
            raise Unopenable(
                f"the key {name!r} does not open it as {column} of generation {generation}: "
                "the key's bytes have changed, or the value was moved"
            ) from None
        return plain.decode()


def _place(owner: str, column: str, generation: int) -> bytes:
    # Lengths first, so that no two places spell the same bytes.
    parts = (owner.encode(), column.encode(), str(generation).encode())
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
