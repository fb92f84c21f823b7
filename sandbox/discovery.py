"""Where a client finds the endpoints and the keys, at the paths where Tesla has them (seen)."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from sandbox.services import here, services
from sandbox.tesla import SCOPES

blueprint = Blueprint("discovery", __name__)


@blueprint.get("/oauth2/v3/.well-known/openid-configuration")
def configuration() -> dict[str, Any]:
    """OpenID Connect discovery. What servers call is named as this client reached us."""
    config = services().config
    return {
        "issuer": config.issuer,
        "authorization_endpoint": f"{config.issuer}/authorize",
        "token_endpoint": f"{here()}/oauth2/v3/token",
        "jwks_uri": f"{here()}/oauth2/v3/discovery/keys",
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "code_challenge_methods_supported": ["S256"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": ["client_secret_post", "none"],
        "scopes_supported": list(SCOPES),
    }


@blueprint.get("/oauth2/v3/discovery/keys")
def keys() -> Response:
    """The JWKS."""
    if services().weather.strike("jwks", None) is not None:
        response = jsonify(error="temporarily_unavailable")
        response.status_code = 503
        return response
    return jsonify(services().signer.jwks())
