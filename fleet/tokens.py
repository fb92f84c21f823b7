"""The token endpoint: a code, a refresh token or the app's credentials for tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from fleet.claims import unverified_claims
from fleet.errors import CAUSES, TeslaError, odd, sort_token_answer
from fleet.transport import Answer, NotSent, OutcomeUnknown, call, session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fleet.deadline import Deadline

LONGEST_TOKEN = 16_384
"""Characters; Tesla's have about 1,000."""

FALLBACK_SECONDS = 300
LONGEST_SECONDS = 30 * 86_400
_ABSURD_SECONDS = 365 * 86_400


@dataclass(frozen=True, repr=False)
class Tokens:
    """What the token endpoint gave.

    `refresh_token` is None where the answer has none: then the one that was presented stays the current one.
    `expires_in` is the life of the access token in seconds, 1 to 30 days. `scopes` are what the owner
    granted, None where the answer does not say.
    """

    access_token: str
    refresh_token: str | None
    id_token: str | None
    expires_in: int
    scopes: tuple[str, ...] | None

    def __repr__(self) -> str:
        return (
            f"Tokens(expires_in={self.expires_in}, scopes={self.scopes}, "
            f"refresh_token={'given' if self.refresh_token else 'none'}, "
            f"id_token={'given' if self.id_token else 'none'})"
        )


class TokenEndpoint:
    """Tesla's token endpoint, for one app. Thread-safe; keeps up to `pool_size` connections alive.

    Each method raises `TeslaError` and nothing else. Nothing is tried twice here.
    """

    def __init__(self, *, url: str, client_id: str, client_secret: str, pool_size: int = 16) -> None:
        self.url = url
        self.client_id = client_id
        self._client_secret = client_secret
        self._session = session(pool_size=pool_size)

    def __repr__(self) -> str:
        return f"TokenEndpoint({self.url!r})"

    def exchange(
        self, code: str, *, redirect_uri: str, audience: str, code_verifier: str | None, deadline: Deadline
    ) -> Tokens:
        """Tokens for a sign-in's `code`. `audience` is the Fleet API base URL of the owner's region;
        `redirect_uri` must be that of the authorize request to the letter (Tesla's developer pages,
        "Third-Party Tokens")."""
        form = {"code": code, "redirect_uri": redirect_uri, "audience": audience}
        if code_verifier:
            form["code_verifier"] = code_verifier
        return self._ask("authorization_code", form, (code, code_verifier or ""), deadline)

    def refresh(
        self, refresh_token: str, *, deadline: Deadline, before_send: Callable[[], None] | None = None
    ) -> Tokens:
        """Tokens for a refresh token, which this spends: Tesla's refresh tokens are single use.

        `before_send` is called right before the first byte leaves; what it raises comes out unchanged and
        nothing is sent. Tesla does not ask for the client secret here, and many guides send it: it goes
        along where there is one.
        """
        return self._ask(
            "refresh_token", {"refresh_token": refresh_token}, (refresh_token,), deadline, before_send
        )

    def partner(self, audience: str, scopes: str, deadline: Deadline) -> Tokens:
        """A partner token, the app's own, for the region of `audience`. `scopes` are separated by spaces."""
        return self._ask("client_credentials", {"audience": audience, "scope": scopes}, (), deadline)

    def _ask(
        self,
        grant: str,
        form: dict[str, str],
        secrets: tuple[str, ...],
        deadline: Deadline,
        before_send: Callable[[], None] | None = None,
    ) -> Tokens:
        form = {"grant_type": grant, "client_id": self.client_id, **form}
        if self._client_secret:
            form["client_secret"] = self._client_secret
        try:
            answer = call(
                self._session, "POST", self.url, deadline=deadline, before_send=before_send, data=form
            )
        except NotSent as error:
            raise TeslaError(CAUSES["unreachable"], description=str(error), sent=False) from None
        except OutcomeUnknown as error:
            raise TeslaError(
                CAUSES["tesla_failed"],
                status=error.status,
                description=str(error),
                outcome_unknown=True,
                salvaged=_salvage(error.partial) if error.status in range(200, 300) else None,
            ) from None
        if not 200 <= answer.status < 300:
            raise sort_token_answer(answer, grant=grant, secrets=(*secrets, self._client_secret))
        return read_tokens(answer)


def read_tokens(answer: Answer) -> Tokens:
    """The tokens of a success. Raises `TeslaError` (`odd_answer`, outcome unknown) where there are none."""
    try:
        content = answer.json()
    except ValueError:
        raise _odd(answer, "the answer is not JSON") from None
    if not isinstance(content, dict):
        raise _odd(answer, "the answer is not a JSON object")
    access_token = content.get("access_token")
    if not is_token(access_token):
        raise _odd(answer, "the answer has no usable access token")
    refresh_token = content.get("refresh_token")
    if refresh_token in (None, ""):
        refresh_token = None
    elif not is_token(refresh_token):
        raise _odd(answer, "the refresh token in the answer is not usable")
    id_token = content.get("id_token")
    claims = unverified_claims(access_token)
    return Tokens(
        access_token=access_token,
        refresh_token=refresh_token,
        # Who signs in must have one, and its verifier says so; a refresh is not lost because of it.
        id_token=id_token if is_token(id_token) else None,
        expires_in=_life(content.get("expires_in"), claims),
        scopes=_scopes(claims.get("scp"), content.get("scope")),
    )


def is_token(value: object) -> TypeGuard[str]:
    """A non-empty string of visible ASCII, as RFC 6749, appendix A has it."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_TOKEN and not _NOT_VISIBLE.search(value)


_NOT_VISIBLE = re.compile(r"[^\x21-\x7e]")
_REFRESH_TOKEN = re.compile(rb'"refresh_token"\s*:\s*"([\x21\x23-\x5b\x5d-\x7e]+)"')


def _salvage(body: bytes) -> str | None:
    """A whole refresh token in an answer that can't be used otherwise, e.g. one that broke off after it."""
    found = _REFRESH_TOKEN.search(body)
    token = found[1].decode() if found else None
    return token if is_token(token) else None


def _odd(answer: Answer, why: str) -> TeslaError:
    return odd(answer, why, outcome_unknown=True, salvaged=_salvage(answer.body))


def _number(value: object) -> float | None:
    """Seconds that make sense, else None."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 1 <= value <= _ABSURD_SECONDS else None  # NaN fails both


def _life(expires_in: object, claims: dict[str, Any]) -> int:
    seconds = _number(expires_in)
    if seconds is None:
        issued, ends = claims.get("iat"), claims.get("exp")
        if _is_time(issued) and _is_time(ends):
            seconds = _number(ends - issued)
    return min(int(seconds or FALLBACK_SECONDS), LONGEST_SECONDS)


def _is_time(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e12


def _is_scope(name: object) -> TypeGuard[str]:
    """Visible ASCII, as RFC 6749, appendix A has it; a database takes no others as gladly."""
    return isinstance(name, str) and 0 < len(name) <= 200 and not _NOT_VISIBLE.search(name)


def _scopes(*candidates: object) -> tuple[str, ...] | None:
    for value in candidates:
        names: Iterable[object]
        if isinstance(value, str):
            names = value.split()
        elif isinstance(value, list):
            names = value
        else:
            continue
        return tuple(dict.fromkeys(name for name in names if _is_scope(name)))
    return None
