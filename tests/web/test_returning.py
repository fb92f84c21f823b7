"""A return URL leads where the operator allows, however it is spelled."""

from __future__ import annotations

import pytest

from web.returning import refusal, with_status

ALLOWED = ["https://app.example.com/tesla", "http://localhost:3000", "https://[2001:db8::1]/x/"]


@pytest.mark.parametrize(
    "url",
    [
        "https://app.example.com/tesla",
        "https://app.example.com/tesla/",
        "https://app.example.com/tesla/back?session=a%20b&x=/y",
        "https://APP.example.com:443/tesla/back",
        "HTTPS://app.example.com/tesla?next=https://evil.example",
        "http://localhost:3000",
        "http://localhost:3000/any/where",
        "https://[2001:db8::1]/x",
    ],
)
def test_allowed(url: str) -> None:
    assert refusal(url, ALLOWED) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/tesla",
        "//app.example.com/tesla",
        "https:app.example.com/tesla",
        "https:/app.example.com/tesla",
        "https:///app.example.com/tesla",
        "javascript:alert(1)",
        "data:text/html,x",
        "http://app.example.com/tesla",
        "https://app.example.com",
        "https://app.example.com/",
        "https://app.example.com/teslax",
        "https://app.example.com/Tesla",
        "https://app.example.com:444/tesla",
        "https://app.example.com.evil.example/tesla",
        "https://evil.example/app.example.com/tesla",
        "https://app.example.com@evil.example/tesla",
        "https://evil.example\\@app.example.com/tesla",
        "https://evil.example#@app.example.com/tesla",
        "https://app.example.com/tesla#fragment",
        "https://app.example.com/tesla/../admin",
        "https://app.example.com/tesla/%2e%2E/admin",
        "https://app.example.com/tesla/.%2e/admin",
        "https://app.example.com/tesla/./x",
        "https://app.example.com/tesla/..%2fadmin",
        "https://app.example.com/tesla/..%5cadmin",
        "https://app.example.com/tesla\\..\\admin",
        "https://app.example.com/tesla\n",
        " https://app.example.com/tesla",
        "https://app.example.com/tesla\t",
        "https://app.example.com/tesla é",
        "https://аpp.example.com/tesla",
        "https://app.example.com/tesla?x=é",
        "http://localhost:3001",
        "http://localhost",
        "http://localhost:99999999",
    ],
)
def test_not_allowed(url: str) -> None:
    assert refusal(url, ALLOWED)


@pytest.mark.parametrize("name", ["status", "owner", "reason"])
def test_what_is_added_must_not_be_there(name: str) -> None:
    assert name in str(refusal(f"https://app.example.com/tesla?{name}=", ALLOWED))


def test_where_nothing_is_allowed_nothing_is() -> None:
    assert "RETURN_URLS" in str(refusal("https://app.example.com/tesla", []))


def test_the_status_is_added() -> None:
    assert with_status("https://a.example/x", status="failed", reason="a b") == (
        "https://a.example/x?status=failed&reason=a+b"
    )
    assert with_status("https://a.example/x?s=1", status="connected") == (
        "https://a.example/x?s=1&status=connected"
    )
