"""What is sealed opens in its place, with its key, and nowhere else."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from models.crypto import BadKeys, Keyring, Unopenable

KEY = base64.b64encode(bytes(range(32))).decode()
OTHER = base64.b64encode(bytes(range(1, 33))).decode()
PLACE: dict[str, Any] = {"owner": "ann", "column": "refresh_token", "generation": 7}


def test_it_opens_in_its_place() -> None:
    ring = Keyring.parse(f"k1:{KEY}")
    sealed = ring.seal("NA_secret", **PLACE)
    assert sealed.startswith(b"k1:")
    assert b"secret" not in sealed
    assert ring.open(sealed, **PLACE) == "NA_secret"
    assert ring.seal("NA_secret", **PLACE) != sealed


@pytest.mark.parametrize(
    "moved",
    [
        {"owner": "bob"},
        {"column": "access_token"},
        {"generation": 8},
        {"owner": "an", "column": "nrefresh_token"},
    ],
)
def test_it_does_not_open_elsewhere(moved: dict[str, Any]) -> None:
    ring = Keyring.parse(f"k1:{KEY}")
    with pytest.raises(Unopenable) as caught:
        ring.open(ring.seal("NA_secret", **PLACE), **PLACE | moved)
    assert "NA_secret" not in str(caught.value)


@pytest.mark.parametrize("at", [0, 3, 10, 20, -1])
def test_a_changed_byte_is_noticed(at: int) -> None:
    ring = Keyring.parse(f"k1:{KEY}")
    sealed = bytearray(ring.seal("NA_secret", **PLACE))
    sealed[at] ^= 1
    with pytest.raises(Unopenable):
        ring.open(bytes(sealed), **PLACE)


def test_the_first_key_seals_and_each_opens_what_it_sealed() -> None:
    old = Keyring.parse(f"k1:{KEY}")
    both = Keyring.parse(f" k2:{OTHER},\n k1:{KEY}\n")
    sealed = old.seal("token", **PLACE)
    assert both.open(sealed, **PLACE) == "token"
    assert both.seal("token", **PLACE).startswith(b"k2:")
    with pytest.raises(Unopenable, match="k1"):
        Keyring.parse(f"k2:{OTHER}").open(sealed, **PLACE)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("no-colon", "entry 1"),
        (f"k1:{KEY},:{KEY}", "entry 2"),
        ("k1:not base64!", "base64"),
        (f"k1:{base64.b64encode(bytes(16)).decode()}", "16 bytes"),
        (f"k1:{KEY},k1:{OTHER}", "twice"),
    ],
)
def test_bad_keys_are_named_and_not_shown(text: str, says: str) -> None:
    with pytest.raises(BadKeys, match=says) as caught:
        Keyring.parse(text)
    assert KEY not in str(caught.value)


def test_urlsafe_base64_is_taken_too() -> None:
    raw = bytes([251, 255] * 16)
    ring = Keyring.parse(f"k1:{base64.urlsafe_b64encode(raw).decode()}")
    sealed = ring.seal("token", **PLACE)
    assert Keyring({"k1": raw}).open(sealed, **PLACE) == "token"
