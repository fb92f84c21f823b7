from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.claims import unverified_claims


def jwt(claims: Any) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.sig"


def test_the_payload_of_a_token() -> None:
    assert unverified_claims(jwt({"scp": ["openid"], "name": "Ä"})) == {"scp": ["openid"], "name": "Ä"}


@pytest.mark.parametrize(
    "text", ["", "a.b", "a.b.c.d", "a.!.c", "...", jwt([1]), jwt(None), "a." + "W" * 9999 + ".c"]
)
def test_what_is_no_token_has_no_claims(text: str) -> None:
    assert unverified_claims(text) == {}


def test_deep_nesting_has_no_claims() -> None:
    payload = base64.urlsafe_b64encode(b"[" * 100_000).decode()
    assert unverified_claims(f"a.{payload}.c") == {}


@given(st.one_of(st.text(), st.builds("a.{}.c".format, st.text()), st.none(), st.integers(), st.binary()))
def test_it_never_raises(value: Any) -> None:
    assert isinstance(unverified_claims(value), dict)
