from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwk, jws

from fleet import identity
from fleet.deadline import Deadline
from fleet.errors import Actor, TeslaError
from fleet.identity import IdTokenVerifier

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fleet.wire import Request

ISSUER = "https://auth.tesla.com/oauth2/v3"
RSA = jwk.RSAKey.generate_key(2048, {"kid": "rsa"})
OTHER_RSA = jwk.RSAKey.generate_key(2048, {"kid": "other"})
EC = jwk.ECKey.generate_key("P-256", {"kid": "ec"})
EC384 = jwk.ECKey.generate_key("P-384", {"kid": "ec384"})
ED = jwk.OKPKey.generate_key("Ed25519", {"kid": "ed"})


def claims(**more: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"iss": ISSUER, "aud": "app", "sub": "owner-1", "iat": now, "exp": now + 300, **more}


def sign(content: Any, key: Any = RSA, alg: str = "RS256", **header: Any) -> str:
    payload = content if isinstance(content, bytes) else json.dumps(content).encode()
    header = {"alg": alg, "kid": key.kid, **header}
    header = {name: value for name, value in header.items() if value is not None}
    return jws.serialize_compact(header, payload, key, algorithms=[alg])


class Issuer:
    def __init__(self, serve: Any) -> None:
        self.keys: Any = [key.as_dict(private=False) for key in (RSA, EC, EC384, ED)]
        self.content: Any = None
        self.status = 200
        self.wire = serve(self.script)
        self.verifier = IdTokenVerifier(self.wire.url, (ISSUER,), "app")

    def script(self, request: Request) -> None:
        request.reply(self.status, {"keys": self.keys} if self.content is None else self.content)

    def verify(self, token: str, nonce: str | None = "n") -> dict[str, Any]:
        return self.verifier.verify(token, nonce=nonce, deadline=Deadline(5))

    def refuse(self, token: Any, nonce: str | None = "n") -> TeslaError:
        with pytest.raises(TeslaError) as caught:
            self.verify(token, nonce)
        return caught.value


@pytest.fixture
def issuer(serve: Any) -> Issuer:
    return Issuer(serve)


@pytest.mark.parametrize(
    ("key", "alg"),
    [
        (RSA, "RS256"),
        (RSA, "RS384"),
        (RSA, "RS512"),
        (RSA, "PS256"),
        (RSA, "PS384"),
        (RSA, "PS512"),
        (EC, "ES256"),
        (EC384, "ES384"),
        (ED, "EdDSA"),
        (ED, "Ed25519"),
    ],
)
def test_algorithms_that_hold(issuer: Issuer, key: Any, alg: str) -> None:
    assert issuer.verify(sign(claims(nonce="n"), key, alg))["sub"] == "owner-1"


def in_seconds(seconds: int) -> Callable[[], int]:
    """A time from when the test runs, which may be minutes after it was collected."""
    return lambda: int(time.time()) + seconds


def now_that_it_runs(change: dict[str, Any]) -> dict[str, Any]:
    return {name: value() if callable(value) else value for name, value in change.items()}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"nonce": "n"},
        {"iss": ISSUER + "/nts"},
        {"iss": ISSUER + "/"},
        {"aud": ["x", "app"]},
        {"iat": None},
        {"exp": in_seconds(-30)},
        {"iat": in_seconds(30)},
    ],
)
def test_claims_that_hold(issuer: Issuer, change: dict[str, Any]) -> None:
    assert issuer.verify(sign(claims(**now_that_it_runs(change))))["sub"] == "owner-1"


def test_without_a_nonce_of_ours_none_is_compared(issuer: Issuer) -> None:
    assert issuer.verify(sign(claims(nonce="other")), None)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"iss": "https://evil.example"}, "issuer"),
        ({"iss": ISSUER + "/other"}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"iss": ["x"]}, "issuer"),
        ({"aud": "another"}, "another app"),
        ({"aud": ["another"]}, "another app"),
        ({"aud": None}, "another app"),
        ({"aud": "app2"}, "another app"),
        ({"exp": in_seconds(-120)}, "run out"),
        ({"exp": None}, "when it ends"),
        ({"exp": "soon"}, "when it ends"),
        ({"exp": True}, "when it ends"),
        ({"exp": float("nan")}, "when it ends"),
        ({"iat": in_seconds(120)}, "future"),
        ({"iat": "now"}, "future"),
        ({"nonce": "other"}, "nonce"),
        ({"nonce": ""}, "nonce"),
        ({"nonce": 7}, "nonce"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "sub"),
        ({"sub": 7}, "sub"),
    ],
)
def test_claims_that_do_not_hold(issuer: Issuer, change: dict[str, Any], word: str) -> None:
    error = issuer.refuse(sign(claims(**now_that_it_runs(change))))
    assert error.cause.code == "bad_id_token"
    assert error.actor is Actor.OPERATOR
    assert word in error.cause.explanation


def test_another_ones_signature(issuer: Issuer) -> None:
    assert "signature" in issuer.refuse(sign(claims(), OTHER_RSA, kid="rsa")).cause.explanation


def test_a_changed_payload(issuer: Issuer) -> None:
    head, _, tail = sign(claims()).split(".")
    changed = base64.urlsafe_b64encode(json.dumps(claims(sub="owner-2")).encode()).decode().rstrip("=")
    assert issuer.refuse(f"{head}.{changed}.{tail}").cause.code == "bad_id_token"


def test_no_signature_and_the_public_key_as_a_secret(issuer: Issuer) -> None:
    def encode(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    for name in ("none", "None", "NONE"):
        token = f"{encode({'alg': name, 'kid': 'rsa'})}.{encode(claims())}."
        assert "algorithm" in issuer.refuse(token).cause.explanation
    for alg in ("HS256", "HS384", "HS512"):
        public = jwk.OctKey.import_key("x" * 64, {"kid": "rsa"})
        assert "algorithm" in issuer.refuse(sign(claims(), public, alg)).cause.explanation


def test_an_algorithm_of_another_kind_of_key(issuer: Issuer) -> None:
    assert issuer.refuse(sign(claims(), EC, "ES256", kid="rsa")).cause.code == "bad_id_token"


@pytest.mark.parametrize("token", ["", "a", "a.b", "a.b.c", "a.b.c.d.e", "ä.ö.ü", "{}", "." * 50, None, 7])
def test_no_token_at_all(issuer: Issuer, token: Any) -> None:
    assert issuer.refuse(token).cause.code == "bad_id_token"


@pytest.mark.parametrize("payload", [b"[]", b"no json", b"", b"[" * 50_000])
def test_a_signed_payload_that_is_no_object(issuer: Issuer, payload: bytes) -> None:
    assert issuer.refuse(sign(payload)).cause.code == "bad_id_token"


class TestKeys:
    def test_they_are_fetched_once(self, issuer: Issuer) -> None:
        for _ in range(3):
            issuer.verify(sign(claims()))
        assert len(issuer.wire.requests) == 1

    def test_an_hour_later_they_are_fetched_again(
        self, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        issuer.verify(sign(claims()))
        issuer.verifier._fetched = time.monotonic() - identity.FRESH_SECONDS - 1
        issuer.verify(sign(claims()))
        assert len(issuer.wire.requests) == 2

    def test_a_new_key_id_has_them_fetched_again_but_not_all_the_time(self, issuer: Issuer) -> None:
        issuer.verify(sign(claims()))
        issuer.keys.append(OTHER_RSA.as_dict(private=False))
        assert "does not publish" in issuer.refuse(sign(claims(), OTHER_RSA)).cause.explanation
        assert len(issuer.wire.requests) == 1
        issuer.verifier._asked = time.monotonic() - identity.AGAIN_SECONDS - 1
        assert issuer.verify(sign(claims(), OTHER_RSA))
        assert len(issuer.wire.requests) == 2
        for _ in range(3):
            issuer.refuse(sign(claims(), RSA, kid="unheard of"))
        assert len(issuer.wire.requests) == 2

    def test_old_keys_are_used_while_the_issuer_is_down(self, issuer: Issuer) -> None:
        issuer.verify(sign(claims()))
        issuer.status = 503
        issuer.verifier._fetched = time.monotonic() - identity.FRESH_SECONDS - 1
        assert issuer.verify(sign(claims()))
        issuer.verifier._fetched = time.monotonic() - identity.STALE_SECONDS - 1
        assert issuer.refuse(sign(claims())).actor is Actor.WAIT

    @pytest.mark.parametrize("status", [500, 429, 403, 404, 302, 401, 412, 421])
    def test_an_issuer_that_fails_is_waited_for(self, issuer: Issuer, status: int) -> None:
        issuer.status = status
        assert issuer.refuse(sign(claims())).actor is Actor.WAIT

    @pytest.mark.parametrize(
        "content", [b"<html>", [], {}, {"keys": None}, {"keys": {}}, {"keys": [7, {}, {"kty": []}]}]
    )
    def test_keys_that_are_none(self, issuer: Issuer, content: Any) -> None:
        issuer.content = content
        assert issuer.refuse(sign(claims())).cause.code == "odd_answer"

    def test_nobody_there_and_no_answer(self, serve: Any) -> None:
        silent = serve(lambda request: request.hang())
        for url, code in (("http://127.0.0.1:9/", "unreachable"), (silent.url, "tesla_failed")):
            verifier = IdTokenVerifier(url, (ISSUER,), "app")
            with pytest.raises(TeslaError) as caught:
                verifier.verify(sign(claims()), nonce=None, deadline=Deadline(0.2))
            assert (caught.value.cause.code, caught.value.actor) == (code, Actor.WAIT)

    def test_keys_of_other_kinds_are_passed_over(self, issuer: Issuer) -> None:
        encryption = OTHER_RSA.as_dict(private=False) | {"use": "enc", "kid": "rsa"}
        broken = {"kty": "RSA", "kid": "rsa", "n": "!", "e": 7}
        issuer.keys = [
            7,
            {"kty": "XMSS"},
            {"kty": "oct", "k": "eA", "kid": "rsa"},
            encryption,
            broken,
            *issuer.keys,
        ]
        assert issuer.verify(sign(claims()))

    def test_a_token_without_a_key_id_may_be_of_any(self, issuer: Issuer) -> None:
        issuer.keys.insert(0, OTHER_RSA.as_dict(private=False))
        assert issuer.verify(sign(claims(), kid=None))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(header=st.binary(max_size=60), payload=st.binary(max_size=60), tail=st.binary(max_size=30))
def test_any_token_is_refused_in_one_way(issuer: Issuer, header: bytes, payload: bytes, tail: bytes) -> None:
    token = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (header, payload, tail))
    assert issuer.refuse(token).cause.code == "bad_id_token"
    assert issuer.refuse(header.decode("latin-1") + "." + token).cause.code == "bad_id_token"
