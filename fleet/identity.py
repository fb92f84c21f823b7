"""Who signed in: the id token, checked against the keys that its issuer publishes."""

from __future__ import annotations

import json
import threading
import time
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeGuard

from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey

from fleet.errors import CAUSES, TeslaError, odd, sort_fleet_answer
from fleet.transport import NotSent, OutcomeUnknown, call, session

if TYPE_CHECKING:
    from fleet.deadline import Deadline

ALGORITHMS = {
    "RS256": "RSA",
    "RS384": "RSA",
    "RS512": "RSA",
    "PS256": "RSA",
    "PS384": "RSA",
    "PS512": "RSA",
    "ES256": "EC",
    "ES384": "EC",
    "EdDSA": "OKP",
    "Ed25519": "OKP",
}
"""Signature algorithms that are accepted, and the type of key that each needs. Never `none` and never HS*,
whose "key" would be the public one."""

# RFC 9864 prefers `Ed25519` as the name; issuers still say `EdDSA`, and that is no news for our log.
warnings.filterwarnings("ignore", message="EdDSA is deprecated", category=SecurityWarning)

_KEYS: dict[str, type[RSAKey | ECKey | OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
_Key = RSAKey | ECKey | OKPKey

LEEWAY_SECONDS = 60
FRESH_SECONDS = 3600.0
"""How long fetched keys are used without asking again."""
STALE_SECONDS = 86_400.0
"""How long they are used while the issuer can't be asked."""
AGAIN_SECONDS = 10.0
"""How often at most an unknown key id makes us ask."""


class IdTokenVerifier:
    """Checks id tokens of one app. Thread-safe.

    `issuers` are the accepted values of `iss`; Tesla's tokens also say issuer + ``/nts`` (seen in the wild).
    """

    def __init__(self, jwks_url: str, issuers: tuple[str, ...], client_id: str) -> None:
        self._url = jwks_url
        plain = {issuer.strip().rstrip("/") for issuer in issuers if issuer.strip()}
        self._issuers = {name + tail for name in plain for tail in ("", "/", "/nts")}
        self._client_id = client_id
        self._session = session(pool_size=2)
        self._lock = threading.Lock()
        self._keys: list[_Key] = []
        self._fetched: float | None = None
        self._asked: float | None = None

    def verify(self, id_token: str, *, nonce: str | None, deadline: Deadline) -> dict[str, Any]:
        """The claims of a token that holds. `nonce` is the sign-in's; it is compared where the token carries
        one, because Tesla documents it as optional.

        Raises `TeslaError`: `bad_id_token`, saying what differs, or a cause that waits when the keys can't
        be fetched.
        """
        claims = self._signed(id_token, deadline)
        now = time.time()
        issuer = claims.get("iss")
        if not isinstance(issuer, str) or issuer not in self._issuers:
            raise _bad("its issuer is not the one in `TESLA_ISSUER`")
        audience = claims.get("aud")
        if self._client_id not in (audience if isinstance(audience, list) else [audience]):
            raise _bad("it was made for another app than `TESLA_CLIENT_ID`")
        ends, issued = claims.get("exp"), claims.get("iat")
        if not _is_time(ends):
            raise _bad("it does not say when it ends")
        if now > ends + LEEWAY_SECONDS:
            raise _bad("it has run out, or this machine's clock is ahead")
        if issued is not None and (not _is_time(issued) or issued > now + LEEWAY_SECONDS):
            raise _bad("it was made in the future, or this machine's clock is behind")
        if nonce is not None and claims.get("nonce") not in (None, nonce):
            raise _bad("it belongs to another sign-in (the nonce differs)")
        if not isinstance(claims.get("sub"), str) or not claims["sub"].strip():
            raise _bad("it does not say whose it is (no `sub`)")
        return claims

    def _signed(self, id_token: str, deadline: Deadline) -> dict[str, Any]:
        """The payload, when one of the issuer's keys signed it."""
        try:
            header = jws.extract_compact(id_token.encode()).headers()
        except (JoseError, ValueError, TypeError, AttributeError, RecursionError):
            raise _bad("it is not a signed token") from None
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise _bad("its signature algorithm is not accepted")
        keys = self._candidates(ALGORITHMS[algorithm], kid, deadline)
        if not keys:
            raise _bad("it is signed with a key that the issuer does not publish")
        for key in keys:
            try:
                payload = jws.deserialize_compact(id_token, key, algorithms=[algorithm]).payload
                claims = json.loads(payload)
            except (JoseError, ValueError, TypeError, RecursionError):
                continue
            if isinstance(claims, dict):
                return claims
        raise _bad("its signature does not hold")

    # --- the issuer's keys

    def _candidates(self, kind: str, kid: object, deadline: Deadline) -> list[_Key]:
        now = time.monotonic()
        with self._lock:
            keys, fetched, asked = self._keys, self._fetched, self._asked
        fresh = fetched is not None and now - fetched < FRESH_SECONDS
        found = _fitting(keys, kind, kid)
        if (found and fresh) or (fresh and asked is not None and now - asked < AGAIN_SECONDS):
            return found
        try:
            keys = self._fetch(deadline)
        except TeslaError:
            if found and fetched is not None and now - fetched < STALE_SECONDS:
                return found
            raise
        return _fitting(keys, kind, kid)

    def _fetch(self, deadline: Deadline) -> list[_Key]:
        with self._lock:
            self._asked = time.monotonic()
        try:
            answer = call(self._session, "GET", self._url, deadline=deadline)
        except NotSent as error:
            raise TeslaError(CAUSES["unreachable"], description=str(error), sent=False) from None
        except OutcomeUnknown as error:
            raise TeslaError(CAUSES["tesla_failed"], status=error.status, description=str(error)) from None
        if answer.status != 200:
            sorted_ = sort_fleet_answer(answer)
            waits = (
                sorted_.cause
                if sorted_.cause.code in {"tesla_failed", "edge", "rate_limited"}
                else CAUSES["odd_answer"]
            )
            raise TeslaError(waits, status=answer.status, retry_after=sorted_.retry_after)
        try:
            content = answer.json()
            entries = content["keys"]
        except (ValueError, TypeError, KeyError):
            raise odd(answer, "the published keys are not a key set") from None
        keys = [key for entry in (entries if isinstance(entries, list) else []) if (key := _key(entry))]
        if not keys:
            raise odd(answer, "the issuer publishes no usable key")
        with self._lock:
            self._keys, self._fetched = keys, time.monotonic()
        return keys


def _key(entry: object) -> _Key | None:
    """A public signature key, or None for whatever else a set holds."""
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    kind = _KEYS.get(entry["kty"]) if isinstance(entry.get("kty"), str) else None
    if kind is None:
        return None
    try:
        return kind.import_key(entry)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _fitting(keys: list[_Key], kind: str, kid: object) -> list[_Key]:
    return [key for key in keys if key.key_type == kind and (kid is None or key.kid == kid)]


def _is_time(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e12


def _bad(why: str) -> TeslaError:
    cause = CAUSES["bad_id_token"]
    return TeslaError(
        replace(cause, explanation=f"Tesla's id token did not pass its checks: {why}."), description=why
    )
