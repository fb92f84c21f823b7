"""The little of the Fleet API that a token keeper needs, once per region: ``/na``, ``/eu``, ``/cn``; and the
app's own registration.

Bodies and statuses as Tesla documents them: ``{"response": …}``; 401 for a token that is expired, invalid or
revoked; 403 for missing scopes; 421 in the wrong region, with a body that names the right base URL.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Blueprint, abort, request

from sandbox.delivery import deliver
from sandbox.faults import AT_FLEET
from sandbox.public_key import DOMAIN, BadKey, fetch
from sandbox.services import fleet_url, services
from sandbox.signing import BadToken
from sandbox.tesla import REGIONS
from sandbox.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandbox.faults import Endpoint
    from sandbox.tesla import Session

blueprint = Blueprint("fleet_api", __name__)

Body = tuple[dict[str, Any], int]

MODELS = ("Model 3", "Model Y")


class _Refusal(Exception):
    def __init__(self, status: int, error: str, description: str = "") -> None:
        super().__init__(error)
        self.body: Body = ({"response": None, "error": error, "error_description": description}, status)


class _RevokedTokens:
    """The ids of access tokens that the fault `access_revoked` has struck; the oldest are forgotten."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, jti: str) -> None:
        with self._lock:
            self._ids[jti] = None
            if len(self._ids) > 10_000:
                self._ids.popitem(last=False)

    def __contains__(self, jti: str) -> bool:
        with self._lock:
            return jti in self._ids


_revoked = _RevokedTokens()


@blueprint.errorhandler(_Refusal)
def refuse(refusal: _Refusal) -> Body:
    return refusal.body


@blueprint.get("/<any(na, eu, cn):base>/api/1/users/region")
def region(base: str) -> dict[str, Any]:
    """The owner's region and base URL (documented by Tesla)."""
    session = _session(base)
    return {"response": {"region": session.region.lower(), "fleet_api_base_url": fleet_url(session.region)}}


@blueprint.get("/<any(na, eu, cn):base>/api/1/users/me")
def me(base: str) -> dict[str, Any]:
    """Who the owner is."""
    session = _session(base, needs="user_data")
    mailbox = "".join(
        letter if letter.isascii() and letter.isalnum() else "." for letter in session.name.lower()
    )
    return {
        "response": {
            "email": f"{mailbox}@owners.example",
            "full_name": session.name,
            "profile_image_url": "",
            "vault_uuid": session.sub,
        }
    }


@blueprint.get("/<any(na, eu, cn):base>/api/1/vehicles")
def vehicles(base: str) -> dict[str, Any]:
    """Two invented cars."""
    cars = list(_cars(_session(base, needs="vehicle_device_data")))
    return {
        "response": cars,
        "count": len(cars),
        "pagination": {
            "previous": None,
            "next": None,
            "current": 1,
            "per_page": 100,
            "count": len(cars),
            "pages": 1,
        },
    }


@blueprint.get("/<any(na, eu, cn):base>/api/1/vehicles/<tag>/vehicle_data")
def vehicle_data(base: str, tag: str) -> dict[str, Any]:
    """One car, by id or VIN."""
    session = _session(base, needs="vehicle_device_data")
    for car in _cars(session):
        if tag in {car["id_s"], car["vin"]}:
            data = {
                **car,
                "charge_state": {"battery_level": 40 + car["id"] % 60, "charging_state": "Disconnected"},
            }
            if "vehicle_location" in _scopes():
                data["drive_state"] = {"latitude": 0.0, "longitude": 0.0, "shift_state": None}
            return {"response": data}
    raise _Refusal(404, "not_found")


def _session(base: str, needs: str = "") -> Session:
    """The owner behind the bearer token, who lives in the region `base` and granted the scope `needs`."""
    claims = _claims()
    tesla, session = services().tesla, services().tesla.session(claims["sid"])
    if session is None:
        # A partner's own token: it stands for no owner.
        raise _Refusal(401, "invalid bearer token")
    _fail(session.sub)
    if _struck("consent_withdrawn", session.sub, "grant"):
        tesla.revoke(session.sub, "withdrawn")
        raise _Refusal(401, "User revoked consent")
    if _struck("access_revoked", session.sub):
        _revoked.add(claims["jti"])
    if session.revoked_because == "withdrawn" or claims["jti"] in _revoked:
        raise _Refusal(401, "User revoked consent")
    if session.revoked_because is not None:
        raise _Refusal(401, "invalid bearer token")
    if _struck("unknown_user", session.sub):
        raise _Refusal(401, "unknown user")
    if _struck("not_registered", session.sub):
        raise unregistered(base)
    home = session.region
    if _struck("wrong_region", session.sub):
        home = next(other for other in REGIONS if other != base.upper())
    if home != base.upper():
        raise _Refusal(421, f"user out of region, use base URL: {fleet_url(home)}")
    if needs and needs not in claims["scp"]:
        raise _Refusal(403, "Unauthorized missing scopes", f"The token lacks {needs}.")
    return session


def _struck(fault: str, sub: str, endpoint: Endpoint = "fleet") -> bool:
    return services().weather.strike(endpoint, sub, only={fault}) is not None


def _fail(sub: str) -> None:
    """Gives the answer of a fault that was aimed here, if there is one, instead of the genuine one."""
    rule = services().weather.strike("fleet", sub, only=AT_FLEET)
    if rule is not None and rule.fault.instead is not None:
        response, _ = deliver(rule.fault.instead(rule, None), Wire(request.environ))
        abort(response)


def unregistered(base: str) -> _Refusal:
    """What Tesla says where the app was never registered (seen)."""
    where = f"the current region {fleet_url(base)}"
    return _Refusal(412, f"Account {services().config.client_id} must be registered in {where}")


# --- the app's own standing --------------------------------------------------------------------------


@blueprint.post("/<any(na, eu, cn):base>/api/1/partner_accounts")
def register(base: str) -> dict[str, Any]:
    """Registers the app's domain in this region, after a look at its public key."""
    _partner(base)
    body = request.get_json(silent=True)
    domain = body.get("domain") if isinstance(body, dict) else None
    config = services().config
    if not isinstance(domain, str) or not DOMAIN.fullmatch(domain):
        raise _Refusal(400, f"Invalid domain: {domain}. Ensure that it is lower case and without https://")
    allowed = {urlsplit(uri).netloc for uri in config.redirect_uris}
    if not any(origin == domain or origin.endswith(f".{domain}") for origin in allowed):
        raise _Refusal(400, f"{domain} is not the domain of an allowed origin: {', '.join(sorted(allowed))}")
    try:
        key = fetch(domain, request.remote_addr)
    except BadKey as bad:
        raise _Refusal(424, f"Public key download failed for {bad}") from None
    with services().store.transaction() as db:
        db.execute("INSERT OR REPLACE INTO registrations VALUES (?, ?, ?)", (base, domain, key))
    return {"response": {"client_id": config.client_id, "domain": domain, "public_key": key}}


@blueprint.get("/<any(na, eu, cn):base>/api/1/partner_accounts/public_key")
def public_key(base: str) -> dict[str, Any]:
    """The key that was fetched when the domain was registered."""
    _partner(base)
    with services().store.reading() as db:
        rows = db.execute("SELECT domain, public_key FROM registrations WHERE region = ?", (base,)).fetchall()
    if not rows:
        raise unregistered(base)
    keys = {row["domain"]: row["public_key"] for row in rows}
    domain = request.args.get("domain", "")
    if domain not in keys:
        raise _Refusal(404, f"no public key is known for {domain}")
    return {"response": {"public_key": keys[domain]}}


def _partner(base: str) -> None:
    """Raises `_Refusal` unless the bearer token is the app's own, for this region."""
    claims = _claims()
    _fail(claims["sub"])
    if claims["account_type"] != "partner" or not claims["aud"][0].endswith(f"/{base}"):
        raise _Refusal(401, "invalid bearer token")
    if request.method == "GET" and _struck("not_registered", claims["sub"]):
        raise unregistered(base)


def _claims() -> dict[str, Any]:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    try:
        if kind.lower() != "bearer":
            raise BadToken
        claims = services().signer.read(token.strip())
    except BadToken:
        raise _Refusal(401, "invalid bearer token") from None
    # The id token has the same key but speaks to the app, not to the Fleet API.
    if "scp" not in claims:
        raise _Refusal(401, "invalid bearer token")
    if claims["exp"] <= time.time():
        raise _Refusal(401, "token expired (401)")
    return claims


def _scopes() -> list[str]:
    scopes: list[str] = _claims()["scp"]
    return scopes


def _cars(session: Session) -> Iterable[dict[str, Any]]:
    for position, model in enumerate(MODELS):
        digest = hashlib.sha256(f"{session.sub}/{position}".encode()).hexdigest()
        number = int(digest[:12], 16)
        yield {
            "id": number,
            "id_s": str(number),
            "vehicle_id": number % 10**9,
            # 17 letters, and none that a real factory would stamp: SBX is nobody's.
            "vin": f"SBX{digest[:14].upper()}",
            "display_name": f"{session.name.split()[0]}’s {model}",
            "state": "online",
            "access_type": "OWNER",
        }
