"""``POST /oauth2/v3/token``: codes and refresh tokens for tokens, form-encoded or JSON, and its faults."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, request

from sandbox.delivery import deliver
from sandbox.services import here, services
from sandbox.tesla import REGIONS, Issued, Refused
from sandbox.wire import Wire

if TYPE_CHECKING:
    from sandbox.faults import Rule
    from sandbox.record import Call

blueprint = Blueprint("token", __name__)

ID_TOKEN_SECONDS = 8 * 3600
"""However short an access token lives: an app whose clock is ahead can still sign owners in."""

LEAST_SCOPES = ("openid", "offline_access")
"""What keeps a grant alive and opens nothing."""

REFRESH, CODE, PARTNER = "refresh_token", "authorization_code", "client_credentials"


@blueprint.post("/oauth2/v3/token")
def token() -> Response:
    """One call, from when its body has been read until its answer is handed over, is what `Record` counts."""
    parameters = _parameters()
    grant = parameters.get("grant_type", "")
    sub = _owner(grant, parameters)
    wire = Wire(request.environ)
    call = services().record.begin(sub, refresh=grant == REFRESH, gone=wire.gone)
    try:
        return _handle(parameters, grant, call, wire)
    finally:
        # Before the server sends: a client can't have read the answer and called again before this.
        call.end()


def _handle(parameters: dict[str, str], grant: str, call: Call, wire: Wire) -> Response:
    rule = _grant_fault(parameters, grant, call) or services().weather.strike("token", call.sub, grant)
    if rule is None:
        return _genuine(parameters, grant, None, wire)
    if rule.fault.instead is None:
        return _genuine(parameters, grant, rule, wire)
    issued = None
    if rule.where == "after":
        with contextlib.suppress(Refused):
            issued = _issue(parameters, grant)
    if rule.fault.name in {"login_required", "invalid_grant", "invalid_auth_code"} and grant == REFRESH:
        services().tesla.note_refusal(parameters.get("refresh_token", ""))
    answer = rule.fault.instead(rule, None if issued is None else _encode(_tokens(issued)))
    response, received = deliver(answer, wire, ahead=call.end)
    if issued is not None and issued.rotated and not (answer.carries_tokens and received):
        services().record.answer_cut(issued.sub)
    return response


def _grant_fault(parameters: dict[str, str], grant: str, call: Call) -> Rule | None:
    """What befell the consent itself before this call; the rule, where it shapes the answer too."""
    if call.sub is None:
        return None
    tesla = services().tesla
    rule = services().weather.strike("grant", call.sub, grant)
    if rule is None:
        return None
    if rule.fault.name == "consent_withdrawn":
        tesla.revoke(call.sub, "withdrawn")
        return None
    if rule.fault.name == "superseded":
        tesla.use_elsewhere(parameters.get(REFRESH, ""))
        return None
    return rule


def _genuine(parameters: dict[str, str], grant: str, rule: Rule | None, wire: Wire) -> Response:
    """The normal answer, perhaps altered or late."""
    fault = None if rule is None else rule.fault
    slow = rule if rule is not None and rule.fault.name == "slow" else None
    if slow and slow.where == "before":
        time.sleep(slow.seconds)
    try:
        issued = _issue(parameters, grant, rule)
    except Refused as refused:
        return _refuse(refused)
    if fault is not None and fault.name == "missing_scopes":
        issued = replace(issued, scopes=tuple(scope for scope in issued.scopes if scope in LEAST_SCOPES))
    if fault is not None and fault.name == "two_at_once" and issued.refresh_token is not None:
        services().tesla.use_at_once(issued.refresh_token)
    tokens = _tokens(issued)
    if rule is not None and fault is not None and fault.alter is not None:
        tokens = fault.alter(rule, tokens)
    if slow and slow.where == "after":
        time.sleep(slow.seconds)
    if issued.rotated:
        undelivered = wire.gone()
        if undelivered or "refresh_token" not in tokens:
            services().record.answer_cut(issued.sub, undelivered=undelivered)
    return _json(200, _encode(tokens))


# --- what is asked -----------------------------------------------------------------------------------


def _parameters() -> dict[str, str]:
    if request.mimetype != "application/json":
        return request.form.to_dict()
    body = request.get_json(silent=True)
    return {str(name): str(value) for name, value in body.items()} if isinstance(body, dict) else {}


def _owner(grant: str, parameters: dict[str, str]) -> str | None:
    tesla = services().tesla
    if grant == REFRESH:
        return tesla.owner_of_refresh_token(parameters.get("refresh_token", ""))
    if grant == CODE:
        return tesla.owner_of_code(parameters.get("code", ""))
    return None


def _issue(parameters: dict[str, str], grant: str, rule: Rule | None = None) -> Issued:
    tesla = services().tesla
    fault = "" if rule is None else rule.fault.name
    if not grant:
        raise Refused(400, "invalid_request", "grant_type is missing.")
    if grant not in {REFRESH, CODE, PARTNER}:
        raise Refused(400, "unsupported_grant_type", "Not one of the grants of the Fleet API.")
    needed = {REFRESH: (REFRESH,), CODE: ("code", "redirect_uri", "audience"), PARTNER: ("audience",)}[grant]
    if missing := [name for name in ("client_id", *needed) if not parameters.get(name)]:
        raise Refused(400, "invalid_request", f"Missing: {', '.join(missing)}.")
    tesla.check_client(
        parameters["client_id"], parameters.get("client_secret"), secret_required=grant != REFRESH
    )
    if grant == REFRESH:
        kept = fault == "same_refresh_token" or (
            rule is not None and fault == "no_refresh_token" and rule.where == "before"
        )
        return tesla.refresh(parameters[REFRESH], client_id=parameters["client_id"], rotate=not kept)
    _check_audience(parameters["audience"])
    if grant == PARTNER:
        return Issued(
            sub=services().config.client_id,
            region="",
            family=0,
            scopes=tuple(parameters.get("scope", "").split()),
            audience=parameters["audience"],
            nonce="",
            refresh_token=None,
            rotated=False,
        )
    return tesla.exchange_code(
        client_id=parameters["client_id"],
        code=parameters["code"],
        redirect_uri=parameters["redirect_uri"],
        audience=parameters["audience"],
        verifier=parameters.get("code_verifier", ""),
        without_refresh_token=rule is not None and fault == "no_refresh_token" and rule.where == "before",
    )


def _check_audience(audience: str) -> None:
    origins = {services().config.public_url, here()}
    known = {f"{origin}/{region.lower()}" for origin in origins for region in REGIONS}
    if audience not in known:
        raise Refused(
            400,
            "invalid_request",
            f"audience must be a Fleet API base URL like {min(known)}, not {audience!r}.",
        )


# --- what is answered --------------------------------------------------------------------------------


def _tokens(issued: Issued) -> dict[str, Any]:
    config, signer = services().config, services().signer
    now = int(time.time())
    common = {"iss": config.issuer, "azp": config.client_id, "sub": issued.sub, "iat": now}
    access = {
        **common,
        "aud": [issued.audience, f"{config.issuer}/userinfo"],
        "scp": list(issued.scopes),
        "exp": now + config.token_seconds,
        "ou_code": issued.region,
        "locale": "en-US",
        "account_type": "person" if issued.family else "partner",
        # The consent that stands behind this token: how the Fleet API notices that it was withdrawn.
        "sid": issued.family,
        "jti": secrets.token_urlsafe(16),
    }
    answer: dict[str, Any] = {"access_token": signer.sign(access)}
    if issued.refresh_token is not None:
        answer["refresh_token"] = issued.refresh_token
    if "openid" in issued.scopes and issued.family:
        identity = {
            **common,
            "aud": config.client_id,
            "exp": now + ID_TOKEN_SECONDS,
            "ou_code": issued.region,
            "jti": secrets.token_urlsafe(16),
        }
        if issued.nonce:
            identity["nonce"] = issued.nonce
        answer["id_token"] = signer.sign(identity)
    return {**answer, "expires_in": config.token_seconds, "token_type": "Bearer"}


def _encode(tokens: dict[str, Any]) -> bytes:
    return json.dumps(tokens).encode()


def _json(status: int, body: bytes) -> Response:
    return Response(
        body,
        status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", "Pragma": "no-cache"},
    )


def _refuse(refused: Refused) -> Response:
    body = {
        "error": refused.error,
        "error_description": refused.description,
        "referenceID": secrets.token_hex(8),
    }
    return _json(refused.status, json.dumps(body).encode())
