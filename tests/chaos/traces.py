"""Looks for tokens and codes in the clear wherever the product leaves something behind."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.product import Product

_REFRESH_TOKEN = re.compile(rb"(?:NA|EU|CN)_[A-Za-z0-9_-]{40,80}")
_WITHIN = re.compile(rb"[A-Za-z0-9_-]{2}")
"""In front of what looks like a code: it is the middle of something longer, such as a sign-in's verifier."""
_ACCESS_TOKEN = re.compile(rb"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}")


@dataclass(frozen=True)
class Trace:
    """Where something that looks like a token was found."""

    place: str
    kind: str


def scan(product: Product) -> tuple[list[Trace], int]:
    """What is found in logs, Valkey's memory and files, the escrow and the database's files, and in how many
    bytes.

    The sandbox's own files are Tesla's, and not looked at.
    """
    hashes = _hashes(product.folder / "sandbox" / "sandbox.db")
    traces: list[Trace] = []
    size = 0
    for path in sorted(product.folder.rglob("*")):
        if (
            path.is_file()
            and path.relative_to(product.folder).parts[0] not in {"sandbox", "code"}
            and path.name != "sandbox.log"
        ):
            content = path.read_bytes()
            size += len(content)
            traces += _find(content, str(path.relative_to(product.folder)), hashes)
    for value in product.valkey.everything():
        size += len(value)
        traces += _find(value, "Valkey's memory", hashes)
    return traces, size


def _find(content: bytes, place: str, hashes: set[bytes]) -> list[Trace]:
    traces = []
    for match in _REFRESH_TOKEN.finditer(content):
        # What stands behind a token may look like a part of it.
        text = match[0]
        if any(hashlib.sha256(text[:length]).digest() in hashes for length in range(40, len(text) + 1)):
            traces.append(Trace(place, "a refresh token"))
        elif not _WITHIN.fullmatch(content, max(match.start() - 2, 0), match.start()):
            traces.append(Trace(place, "a code"))
    traces += [Trace(place, "an access or id token") for _ in _ACCESS_TOKEN.finditer(content)]
    return traces


def _hashes(path: Path) -> set[bytes]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return {row[0] for row in connection.execute("SELECT hash FROM refresh_tokens")}
    finally:
        connection.close()
