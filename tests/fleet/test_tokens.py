from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from fleet.deadline import Deadline
from fleet.errors import Actor, TeslaError
from fleet.tokens import TokenEndpoint, Tokens, read_tokens
from fleet.transport import Answer
from tests.fleet.wire import Request, Wire, until


def jwt(**claims: Any) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.sig"


APP_SECRET = "s3cret-of-the-app"
ACCESS = jwt(exp=2000, iat=1000, scp=["openid", "offline_access"])
GOOD = {
    "access_token": ACCESS,
    "refresh_token": "EU_next-one",
    "id_token": "a.b.c",
    "expires_in": 28800,
    "token_type": "Bearer",
}


def endpoint(wire: Wire, secret: str = APP_SECRET) -> TokenEndpoint:
    return TokenEndpoint(url=wire.url, client_id="app", client_secret=secret)


def good(request: Request) -> None:
    request.reply(200, GOOD)


def read(content: Any) -> Tokens:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return read_tokens(Answer(200, CaseInsensitiveDict(), body))


class TestWhatIsSent:
    def test_a_refresh(self, serve: Any) -> None:
        wire = serve(good)
        tokens = endpoint(wire).refresh("EU_this+one/=", deadline=Deadline(5))
        assert wire.requests[0].form == {
            "grant_type": "refresh_token",
            "client_id": "app",
            "client_secret": "s3cret-of-the-app",
            "refresh_token": "EU_this+one/=",
        }
        assert wire.requests[0].header("Content-Type") == "application/x-www-form-urlencoded"
        assert tokens == Tokens(ACCESS, "EU_next-one", "a.b.c", 28800, ("openid", "offline_access"))

    def test_an_app_without_a_secret_sends_none(self, serve: Any) -> None:
        wire = serve(good)
        endpoint(wire, "").refresh("EU_this", deadline=Deadline(5))
        assert "client_secret" not in wire.requests[0].form

    @pytest.mark.parametrize("verifier", [None, "verifier"])
    def test_an_exchange(self, serve: Any, verifier: str | None) -> None:
        wire = serve(good)
        endpoint(wire).exchange(
            "EU_code",
            redirect_uri="http://localhost:8000/callback",
            audience="https://eu.example",
            code_verifier=verifier,
            deadline=Deadline(5),
        )
        expected = {
            "grant_type": "authorization_code",
            "client_id": "app",
            "client_secret": "s3cret-of-the-app",
            "code": "EU_code",
            "redirect_uri": "http://localhost:8000/callback",
            "audience": "https://eu.example",
        }
        assert wire.requests[0].form == expected | ({"code_verifier": verifier} if verifier else {})

    def test_a_partner_token(self, serve: Any) -> None:
        wire = serve(lambda request: request.reply(200, {"access_token": ACCESS, "expires_in": 60}))
        tokens = endpoint(wire).partner("https://eu.example", "openid vehicle_cmds", Deadline(5))
        assert (tokens.refresh_token, tokens.expires_in) == (None, 60)
        assert wire.requests[0].form == {
            "grant_type": "client_credentials",
            "client_id": "app",
            "client_secret": "s3cret-of-the-app",
            "audience": "https://eu.example",
            "scope": "openid vehicle_cmds",
        }

    def test_refreshes_share_a_connection(self, serve: Any) -> None:
        wire = serve(good)
        one = endpoint(wire)
        for _ in range(3):
            one.refresh("EU_this", deadline=Deadline(5))
        assert wire.connections == 1

    def test_the_hook(self, serve: Any) -> None:
        wire, deadline = serve(good), Deadline(0.2)
        with pytest.raises(TeslaError) as caught:
            endpoint(wire).refresh(
                "EU_this", deadline=deadline, before_send=lambda: until(lambda: deadline.passed)
            )
        assert (caught.value.sent, caught.value.outcome_unknown) == (False, False)
        until(lambda: wire.closed == 1)
        assert wire.received == 0

    def test_what_the_hook_raises_comes_out(self, serve: Any) -> None:
        def hook() -> None:
            raise LookupError("fenced")

        with pytest.raises(LookupError, match="fenced"):
            endpoint(serve(good)).refresh("EU_this", deadline=Deadline(5), before_send=hook)


class TestWhatGoesWrong:
    def test_nobody_there(self) -> None:
        one = TokenEndpoint(url="http://127.0.0.1:9/token", client_id="app", client_secret="")
        with pytest.raises(TeslaError) as caught:
            one.refresh("EU_this", deadline=Deadline(5))
        error = caught.value
        assert (error.cause.code, error.sent, error.outcome_unknown) == ("unreachable", False, False)

    def test_no_answer(self, serve: Any) -> None:
        with pytest.raises(TeslaError) as caught:
            endpoint(serve(lambda request: request.hang())).refresh("EU_this", deadline=Deadline(0.2))
        error = caught.value
        assert (error.cause.code, error.sent, error.outcome_unknown) == ("tesla_failed", True, True)

    def test_a_sorted_answer(self, serve: Any) -> None:
        wire = serve(lambda request: request.reply(401, {"error": "login_required"}, {"Retry-After": "9"}))
        with pytest.raises(TeslaError) as caught:
            endpoint(wire).refresh("EU_this", deadline=Deadline(5))
        error = caught.value
        assert (error.cause.code, error.status, error.retry_after) == ("login_required", 401, 9)
        assert (error.sent, error.outcome_unknown) == (True, False)

    def test_an_invalid_grant_in_an_exchange_is_about_the_code(self, serve: Any) -> None:
        wire = serve(lambda request: request.reply(400, {"error": "invalid_grant"}))
        with pytest.raises(TeslaError) as caught:
            endpoint(wire).exchange(
                "c", redirect_uri="r", audience="a", code_verifier=None, deadline=Deadline(5)
            )
        assert caught.value.cause.code == "invalid_auth_code"

    def test_an_endpoint_that_repeats_what_it_got(self, serve: Any) -> None:
        def script(request: Request) -> None:
            request.reply(
                400,
                {
                    "error": "unknown",
                    "error_description": request.form["refresh_token"] + request.body.decode(),
                },
            )

        with pytest.raises(TeslaError) as caught:
            endpoint(serve(script)).refresh("hush", deadline=Deadline(5))
        shown = str(caught.value) + repr(caught.value) + str(vars(caught.value))
        assert "hush" not in shown
        assert "s3cret-of-the-app" not in shown

    @pytest.mark.parametrize(
        "body",
        [
            b"<html><body>Please wait</body></html>",
            b"",
            b"{",
            json.dumps(GOOD).encode()[:-1],
            b"[]",
            b"null",
            b'"text"',
            b"{}",
            {**GOOD, "access_token": None},
            {**GOOD, "access_token": ""},
            {**GOOD, "access_token": 7},
            {**GOOD, "access_token": ["a"]},
            {**GOOD, "access_token": "a b"},
            {**GOOD, "access_token": "a\nb"},
            {**GOOD, "access_token": "a\x00b"},
            {**GOOD, "access_token": "ä"},
            {**GOOD, "access_token": "a" * 16_385},
            {**GOOD, "refresh_token": 7},
            {**GOOD, "refresh_token": {"a": 1}},
            {**GOOD, "refresh_token": "a b"},
            {**GOOD, "refresh_token": "a" * 16_385},
            {"error": "login_required"},
        ],
    )
    def test_a_success_that_is_none(self, body: Any) -> None:
        with pytest.raises(TeslaError) as caught:
            read(body)
        error = caught.value
        assert (error.cause.code, error.outcome_unknown, error.sent) == ("odd_answer", True, True)
        assert error.actor is Actor.WAIT

    def test_a_megabyte(self, serve: Any) -> None:
        wire = serve(lambda request: request.reply(200, b" " * 1_000_000))
        with pytest.raises(TeslaError) as caught:
            endpoint(wire).refresh("EU_this", deadline=Deadline(5))
        assert caught.value.outcome_unknown

    @pytest.mark.parametrize(
        "body",
        [
            json.dumps({**GOOD, "access_token": None}).encode(),
            json.dumps(GOOD).encode()[:-1],
            b'{"refresh_token":"EU_next-one","access_tok',
        ],
    )
    def test_a_refresh_token_in_an_answer_that_is_of_no_use_is_saved(self, serve: Any, body: bytes) -> None:
        def whole(request: Request) -> None:
            request.reply(200, body)

        def broken_off(request: Request) -> None:
            request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + body)
            request.sock.close()

        for script in (whole, broken_off):
            with pytest.raises(TeslaError) as caught:
                endpoint(serve(script)).refresh("EU_this", deadline=Deadline(5))
            assert caught.value.salvaged == "EU_next-one"
            assert caught.value.outcome_unknown
            assert "EU_next-one" not in str(caught.value) + repr(caught.value)

    @pytest.mark.parametrize(
        "body", [b'{"refresh_token":"EU_nex', b'{"refresh_token":"a b"', b'{"refresh_token":""']
    )
    def test_half_a_refresh_token_is_not_saved(self, body: bytes) -> None:
        with pytest.raises(TeslaError) as caught:
            read(body)
        assert caught.value.salvaged is None


class TestWhatIsRead:
    @pytest.mark.parametrize("given_", [{}, {"refresh_token": None}, {"refresh_token": ""}])
    def test_no_refresh_token(self, given_: dict[str, Any]) -> None:
        assert read({"access_token": ACCESS, **given_}).refresh_token is None

    @pytest.mark.parametrize(
        "given_", [{}, {"id_token": None}, {"id_token": ""}, {"id_token": 7}, {"id_token": "a b"}]
    )
    def test_a_refresh_is_not_lost_for_its_id_token(self, given_: dict[str, Any]) -> None:
        tokens = read({"access_token": ACCESS, "refresh_token": "EU_next", **given_})
        assert (tokens.id_token, tokens.refresh_token) == (None, "EU_next")

    @pytest.mark.parametrize("kind", ["bearer", "Bearer", "MAC", None, 7])
    def test_any_token_type_and_more_fields(self, kind: Any) -> None:
        assert read({**GOOD, "token_type": kind, "state": "x", "more": [1]}).access_token == ACCESS

    @pytest.mark.parametrize(
        ("expires_in", "life"),
        [
            (28800, 28800),
            (60.9, 60),
            ("28800", 28800),
            (" 60 ", 60),
            (1, 1),
            (86_400 * 90, 86_400 * 30),
            # absurd: the token's own exp - iat
            (None, 1000),
            (0, 1000),
            (0.4, 1000),
            (-5, 1000),
            (True, 1000),
            (math.nan, 1000),
            (math.inf, 1000),
            ("soon", 1000),
            ("", 1000),
            ("-1", 1000),
            ("٣٠", 1000),
            ([60], 1000),
            ({}, 1000),
            (86_400 * 366, 1000),
            (10**400, 1000),
        ],
    )
    def test_how_long_it_lives(self, expires_in: Any, life: int) -> None:
        assert read({**GOOD, "expires_in": expires_in}).expires_in == life

    @pytest.mark.parametrize(
        "access_token",
        [
            "opaque",
            jwt(exp=2000),
            jwt(exp=1000, iat=1000),
            jwt(exp=1000, iat=2000),
            jwt(exp="2000", iat="1000"),
            jwt(exp=True, iat=False),
            jwt(exp=10**400, iat=0),
            jwt(exp=10**400, iat=0.5),
            jwt(exp=math.nan, iat=0),
            jwt(exp=10**10, iat=0),
        ],
    )
    def test_when_nothing_says_how_long(self, access_token: str) -> None:
        assert read({"access_token": access_token}).expires_in == 300

    @pytest.mark.parametrize(
        ("scp", "scope", "scopes"),
        [
            (["openid", "user_data"], "other", ("openid", "user_data")),
            ("openid user_data openid", None, ("openid", "user_data")),
            (None, "openid user_data", ("openid", "user_data")),
            (None, None, None),
            ([], "openid", ()),
            ([7, None, "openid", ""], None, ("openid",)),
            ({"openid": 1}, None, None),
            (None, 7, None),
        ],
    )
    def test_what_was_granted(self, scp: Any, scope: Any, scopes: tuple[str, ...] | None) -> None:
        assert read({"access_token": jwt(scp=scp), "scope": scope}).scopes == scopes

    def test_no_repr_shows_a_token(self, serve: Any) -> None:
        shown = repr(read(GOOD)) + str(read(GOOD)) + repr(endpoint(serve(good)))
        for secret in (ACCESS, "EU_next-one", "a.b.c", "s3cret-of-the-app"):
            assert secret not in shown


odd = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.lists(st.integers(), max_size=2)
)


@given(
    st.binary(max_size=100)
    | st.dictionaries(
        st.sampled_from(["access_token", "refresh_token", "id_token", "expires_in", "scope", "token_type"]),
        odd | st.sampled_from([ACCESS, "EU_next", jwt(scp=7, exp=[], iat={})]),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_success_is_tokens_or_odd(body: bytes) -> None:
    try:
        tokens = read(body)
    except TeslaError as error:
        outcome: Any = error.cause.code
    else:
        outcome = 1 <= tokens.expires_in <= 86_400 * 30
    assert outcome in (True, "odd_answer")


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    status=st.integers(100, 999),
    headers=st.binary(max_size=80),
    body=st.binary(max_size=200),
)
def test_whatever_tesla_sends_only_tesla_error_comes_out(
    status: int, headers: bytes, body: bytes, fuzz_endpoint: tuple[Wire, TokenEndpoint]
) -> None:
    def script(request: Request) -> None:
        request.send(b"HTTP/1.1 %d X\r\n%b\r\n\r\n%b" % (status, headers, body))
        request.sock.close()

    wire, one = fuzz_endpoint
    wire.script = script
    with pytest.raises(TeslaError) as caught:
        one.refresh("EU_this", deadline=Deadline(5))
    assert caught.value.sent


@pytest.fixture(scope="module")
def fuzz_endpoint() -> Any:
    with Wire(good) as wire:
        yield wire, endpoint(wire)
