from __future__ import annotations

import copy
import json
import pickle
import time
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from fleet.errors import (
    CAUSES,
    Actor,
    TeslaError,
    retry_after,
    scrub,
    sort_fleet_answer,
    sort_refusal,
    sort_token_answer,
)
from fleet.transport import Answer

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
EU = "https://fleet-api.prd.eu.vn.cloud.tesla.com"
HTML = b"<!DOCTYPE html><html><head><title>Access Denied</title></head></html>"
CLIENT = "We don't recognize this client_id and client_secret combination"


def answer(status: int, body: Any = b"", headers: dict[str, str] | None = None) -> Answer:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, CaseInsensitiveDict(headers or {}), content)


# tesla.md's table, row by row, then the shapes and spellings around it.
TOKEN_ROWS: list[tuple[int, Any, str]] = [
    (401, {"error": "login_required"}, "login_required"),
    (400, {"error": "login_required", "error_description": "Login required"}, "login_required"),
    (401, {"error": "Login_Required"}, "login_required"),
    (401, {"error": "login required"}, "login_required"),
    (400, {"error": "invalid_grant"}, "login_required"),
    (401, {"error": "INVALID_GRANT"}, "login_required"),
    (400, {"error": "invalid_auth_code"}, "invalid_auth_code"),
    (401, {"error": "invalid_auth_code", "error_description": "Invalid code"}, "invalid_auth_code"),
    (400, {"error": "invalid_client"}, "invalid_client"),
    (401, {"error": "invalid_client"}, "invalid_client"),
    (400, {"error": "whatever", "error_description": CLIENT}, "invalid_client"),
    (401, {"error": CLIENT}, "invalid_client"),
    (401, {"error": "login_required", "error_description": CLIENT.upper()}, "invalid_client"),
    (400, {"error": "invalid_redirect_url"}, "redirect_mismatch"),
    (400, {"error": "invalid_redirect_uri"}, "redirect_mismatch"),
    (
        400,
        {"error": "invalid_grant", "error_description": "It was issued to another client."},
        "other_credentials",
    ),
    (401, {"error": "login_required", "error_description": "not issued to this client"}, "other_credentials"),
    (400, {"error": "unauthorized_client"}, "client_refused"),
    (401, {"error": "unauthorized_client"}, "client_refused"),
    (400, {"error": "invalid_request"}, "invalid_request"),
    (401, {"error": "invalid_request"}, "invalid_request"),
    (400, {"error": "unsupported_grant_type"}, "invalid_request"),
    (400, {"error": "server_error", "error_uri": "https://auth.tesla.com/e/1"}, "tesla_failed"),
    (403, {"error": "server_error", "referenceID": "r-1"}, "tesla_failed"),
    (403, HTML, "edge"),
    (403, b"", "edge"),
    (403, b"blocked", "edge"),
    (429, HTML, "edge"),
    (401, HTML, "edge"),
    (400, HTML, "edge"),
    (429, {"error": "rate limited"}, "rate_limited"),
    (429, {"error": "login_required"}, "rate_limited"),
    (429, b"", "rate_limited"),
    (500, b"", "tesla_failed"),
    (502, HTML, "tesla_failed"),
    (503, {"error": "login_required"}, "tesla_failed"),
    (504, {"error": "invalid_client"}, "tesla_failed"),
    (599, b"\x00", "tesla_failed"),
    (408, {}, "tesla_failed"),
    # nested and odd shapes
    (401, {"error": {"code": "login_required", "message": "x"}}, "login_required"),
    (401, {"error": {"error": {"error": "login_required"}}}, "login_required"),
    (401, {"errors": [{"code": "login_required"}]}, "login_required"),
    (401, {"ERROR": "login_required"}, "login_required"),
    (401, {"response": {"error": "login_required"}}, "login_required"),
    # what is not known is nobody's death
    (403, {"error": "login_required"}, "odd_answer"),
    (404, {"error": "invalid_grant"}, "odd_answer"),
    (401, {"error": "login_required_soon"}, "odd_answer"),
    (401, {"error": "not login_required"}, "odd_answer"),
    (401, {"error": "other", "error_description": "login_required"}, "odd_answer"),
    (401, {"error": None}, "odd_answer"),
    (401, {"error": 7}, "odd_answer"),
    (401, {"error": ["login_required"]}, "odd_answer"),
    (401, {"error": True}, "odd_answer"),
    (401, {"login_required": 1}, "odd_answer"),
    (401, [], "odd_answer"),
    (401, None, "odd_answer"),
    (401, "login_required", "odd_answer"),
    (401, 401, "odd_answer"),
    (401, b"", "odd_answer"),
    (401, b"login_required", "odd_answer"),
    (401, b'{"error": "login_required"', "odd_answer"),
    (400, {"error": "brand_new"}, "odd_answer"),
    (418, {"error": "teapot"}, "odd_answer"),
    (302, b"", "odd_answer"),
    (100, b"", "odd_answer"),
    (200, {"error": "login_required"}, "odd_answer"),
    (200, HTML, "odd_answer"),
]


@pytest.mark.parametrize(("status", "body", "code"), TOKEN_ROWS)
def test_an_answer_of_the_token_endpoint(status: int, body: Any, code: str) -> None:
    error = sort_token_answer(answer(status, body))
    assert error.cause == CAUSES[code]
    assert error.status == status
    assert error.sent
    assert error.outcome_unknown == (status == 200)


@pytest.mark.parametrize(
    ("code", "actor"),
    [
        ("login_required", "owner"),
        ("invalid_auth_code", "owner"),
        ("access_denied", "owner"),
        ("no_refresh_token", "owner"),
        ("consent_withdrawn", "owner"),
        ("missing_scopes", "owner"),
        ("unknown_user", "owner"),
        ("invalid_client", "operator"),
        ("redirect_mismatch", "operator"),
        ("client_refused", "operator"),
        ("invalid_request", "operator"),
        ("not_registered", "operator"),
        ("bad_id_token", "operator"),
        ("superseded_token", "owner"),
        ("other_credentials", "operator"),
        ("two_refreshes", "operator"),
        ("key_not_fetched", "operator"),
        ("tesla_failed", "wait"),
        ("edge", "wait"),
        ("rate_limited", "wait"),
        ("unreachable", "wait"),
        ("odd_answer", "wait"),
        ("token_not_accepted", "wait"),
        ("wrong_region", "wait"),
        ("vehicle_offline", "wait"),
    ],
)
def test_who_must_act(code: str, actor: str) -> None:
    assert CAUSES[code].actor == actor
    assert CAUSES[code].entry == f"docs/troubleshooting.md#{code}"


def test_the_table_is_whole_and_in_plain_words() -> None:
    for code, cause in CAUSES.items():
        assert code == cause.code
        assert cause.title
        assert not cause.title.endswith(".")
        assert cause.explanation.endswith(".")
        assert cause.repair.endswith(".")
        assert "!" not in cause.title + cause.explanation + cause.repair
        if cause.actor is Actor.WAIT:
            assert cause.repair.startswith("Nothing to do")
    assert "`TESLA_CLIENT_ID`" in CAUSES["invalid_client"].explanation
    assert "`TESLA_CLIENT_SECRET`" in CAUSES["invalid_client"].explanation


@pytest.mark.parametrize(
    ("grant", "body", "code"),
    [
        ("authorization_code", {"error": "invalid_grant"}, "invalid_auth_code"),
        ("authorization_code", {"error": "invalid_grant", "message": "Redirect URI"}, "redirect_mismatch"),
        ("authorization_code", {"error": "invalid_grant", "error_description": CLIENT}, "invalid_client"),
        ("client_credentials", {"error": "invalid_grant"}, "client_refused"),
        ("refresh_token", {"error": "invalid_grant", "error_description": "redirect"}, "login_required"),
    ],
)  # fmt: skip
def test_invalid_grant_speaks_of_what_was_presented(grant: str, body: Any, code: str) -> None:
    assert sort_token_answer(answer(400, body), grant=grant).cause.code == code


def test_teslas_own_words_are_kept_for_the_log() -> None:
    error = sort_token_answer(
        answer(
            400,
            {
                "error": "server_error",
                "error_description": "Internal\n  failure\x07",
                "referenceID": "7f6d1a52-6ba1-4a3e-9f2b-0a5c1b7e0d11-1712345678",
            },
        )
    )
    assert (error.error, error.description) == ("server_error", "Internal failure")
    assert error.reference == "7f6d1a52-6ba1-4a3e-9f2b-0a5c1b7e0d11-1712345678"
    assert error.reference in str(error)
    assert "\n" not in str(error)


def test_error_uri_is_a_reference_too() -> None:
    uri = "https://auth.tesla.com/error/reference/7f6d1a52-6ba1-4a3e-9f2b-0a5c1b7e0d11-1712345678"
    assert sort_token_answer(answer(400, {"error": "server_error", "error_uri": uri})).reference == uri


@pytest.mark.parametrize(
    "secret",
    [
        JWT,
        "EU_0123456789abcdef0123",
        "NA_" + "ab12" * 60,
        "a1" * 30,
        "Zm9vYmFyMTIzNDU2Nzg5MA+/abcdefghijklmnop==",
    ],
)
def test_what_looks_like_a_token_is_taken_out(secret: str) -> None:
    for key in ("error", "error_description", "referenceID", "error_uri"):
        error = sort_token_answer(answer(400, {key: f"The token {secret} is bad"}))
        assert secret not in str(error) + repr(error) + str(error.reference)
        fleet = sort_fleet_answer(answer(401, {key: f"({secret})"}))
        assert secret not in str(fleet) + repr(fleet)


def test_what_was_sent_is_taken_out_whatever_it_looks_like() -> None:
    error = sort_token_answer(answer(400, {"error_description": "no such: hunter2"}), secrets=("hunter2", ""))
    assert error.description == "no such: [removed]"


def test_ordinary_sentences_stay() -> None:
    for text in (CLIENT, "User revoked the consent.", "Unauthorized missing scopes", "token expired (401)"):
        assert scrub(text) == text


def test_words_are_bounded() -> None:
    error = sort_token_answer(answer(400, {"error": "x " * 5000, "error_description": "y " * 100_000}))
    assert len(error.error) <= 100
    assert len(error.description) <= 300
    assert len(str(error)) < 800


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7),
        ({"retry-after": " 7.5 "}, 7.5),
        ({"Retry-After": "0"}, 0),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "999999"}, 3600),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "1e3"}, None),
        ({"Retry-After": "٣"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "9" * 5000}, None),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30),
        ({"Retry-After": "Wed, 21 Oct 2020 07:28:00 GMT"}, 0),
        ({"Retry-After": "Wed, 99 Oct 2026 99:28:30 GMT"}, None),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "12"}, 12),
        ({"RateLimit-Remaining": "3", "RateLimit-Reset": "12"}, None),
        ({"RateLimit-Reset": "12"}, None),
        ({"RateLimit-Remaining": "0"}, None),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "soon"}, None),
        ({"Retry-After": "4", "RateLimit-Remaining": "0", "RateLimit-Reset": "12"}, 4),
        ({"Retry-After": "soon", "RateLimit-Remaining": "0", "RateLimit-Reset": "12"}, 12),
    ],
)
def test_how_long_tesla_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(CaseInsensitiveDict(headers)) == seconds
    assert sort_token_answer(answer(429, {}, headers)).retry_after == seconds


def test_points_in_time_count_from_now() -> None:
    at = formatdate(time.time() + 60, usegmt=True)
    assert retry_after({"Retry-After": at}) == pytest.approx(60, abs=3)
    reset = {"RateLimit-Remaining": "0", "RateLimit-Reset": str(int(time.time() + 60))}
    assert retry_after(reset) == pytest.approx(60, abs=3)


FLEET_ROWS: list[tuple[int, Any, str]] = [
    (401, {"error": "invalid bearer token"}, "token_not_accepted"),
    (401, {"error": "token expired (401)"}, "token_not_accepted"),
    (401, b"", "token_not_accepted"),
    (401, {"error": "User revoked consent"}, "consent_withdrawn"),
    (403, {"error": "Unauthorized missing scopes"}, "missing_scopes"),
    (403, {"error": "Unauthorized_missing_scopes"}, "missing_scopes"),
    (403, {"error": "Account 1 must be registered in the current region"}, "not_registered"),
    (403, HTML, "edge"),
    (403, b"", "edge"),
    (403, {"error": "who knows"}, "odd_answer"),
    (412, {"error": "not registered"}, "not_registered"),
    (412, b"", "not_registered"),
    (424, {"error": "Public key download failed for https://a.example, error: too large"}, "key_not_fetched"),
    (422, {"error": "public_key_hash has already been taken"}, "key_not_fetched"),
    (403, {"error": "invalid_scope"}, "missing_scopes"),
    (421, {"error": "user out of region"}, "wrong_region"),
    (408, {"error": "vehicle unavailable: {:error=>\"vehicle unavailable:\"}"}, "vehicle_offline"),
    (404, {"error": "unknown user"}, "unknown_user"),
    (401, {"error": "Unknown user"}, "unknown_user"),
    (429, {"error": "too fast"}, "rate_limited"),
    (429, HTML, "edge"),
    (500, {}, "tesla_failed"),
    (503, HTML, "tesla_failed"),
    (404, {"error": "not_found"}, "odd_answer"),
    (200, HTML, "odd_answer"),
    (302, b"", "odd_answer"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "code"), FLEET_ROWS)
def test_an_answer_of_the_fleet_api(status: int, body: Any, code: str) -> None:
    error = sort_fleet_answer(answer(status, body))
    assert (error.cause.code, error.status, error.outcome_unknown) == (code, status, False)


@pytest.mark.parametrize(
    ("body", "url"),
    [
        ({"error": f"user out of region, use base URL: {EU}, see https://developer.tesla.com"}, EU),
        (b'{"error":"see https:\\/\\/docs.example; use base URL: https:\\/\\/eu.example\\/."}', "https://eu.example"),
        ({"response": {"fleet_api_base_url": "http://localhost:9000/eu"}}, "http://localhost:9000/eu"),
        ({"error": "it is at https://eu.example."}, "https://eu.example"),
        ({"error": "elsewhere"}, None),
        (b"", None),
        (b"\xff\xfe", None),
    ],
)  # fmt: skip
def test_where_a_421_points(body: Any, url: str | None) -> None:
    assert sort_fleet_answer(answer(421, body)).right_base_url == url
    assert sort_fleet_answer(answer(401, body)).right_base_url is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("access_denied", "access_denied"),
        ("login_cancelled", "access_denied"),
        ("login_required", "access_denied"),
        ("invalid_client", "invalid_client"),
        ("unauthorized_client", "client_refused"),
        ("invalid_scope", "invalid_request"),
        ("server_error", "tesla_failed"),
        ("temporarily_unavailable", "tesla_failed"),
        ("new", "odd_answer"),
        ("", "odd_answer"),
        (None, "odd_answer"),
    ],
)
def test_a_refusal_on_the_callback(error: Any, code: str) -> None:
    assert sort_refusal(error, "The user said no").cause.code == code


def test_errors_can_be_copied_and_pickled() -> None:
    error = sort_token_answer(answer(429, {"error": "slow"}, {"Retry-After": "3"}))
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - made one line up
        assert isinstance(twin, TeslaError)
        assert (twin.cause, twin.status, twin.retry_after) == (error.cause, 429, 3)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["error", "error_description", "code", "message", "errors", "referenceID", "response"]
            )
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    status=st.integers(100, 999),
    body=st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()),
    headers=st.dictionaries(
        st.sampled_from(["Retry-After", "Date", "RateLimit-Remaining", "RateLimit-Reset", "Content-Type"]),
        st.text(max_size=40) | st.sampled_from(["0", "1", "Wed, 21 Oct 2026 07:28:30 GMT", "-1", "9" * 30]),
    ),
    grant=st.sampled_from(["refresh_token", "authorization_code", "client_credentials"]),
)
def test_any_answer_can_be_sorted(status: int, body: bytes, headers: dict[str, str], grant: str) -> None:
    one = Answer(status, CaseInsensitiveDict(headers), body)
    for error in (sort_token_answer(one, grant=grant), sort_fleet_answer(one)):
        assert CAUSES[error.cause.code] == error.cause
        assert error.retry_after is None or 0 <= error.retry_after <= 3600
        assert str(error).isprintable()
        if error.actor is Actor.OWNER and grant == "refresh_token" and error.cause.code == "login_required":
            assert status in {400, 401}
