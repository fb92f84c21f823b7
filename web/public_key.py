"""The app's public key, where Tesla fetches it: no redirect, no HTML, no cookie, no sign-in."""

from __future__ import annotations

from flask import Blueprint

from doctor.keypair import Place
from fleet.partner import KEY_PATH
from web.wiring import wiring

blueprint = Blueprint("public_key", __name__)


@blueprint.get(KEY_PATH)
def public_key() -> tuple[bytes | str, int, dict[str, str]]:
    """The key as PEM; 404 and a sentence where there is none."""
    try:
        pem = Place.of(wiring().settings).public.read_bytes()
    except OSError:
        words = "There is no public key here yet. `evergrant keypair` makes one.\n"
        return words, 404, {"Content-Type": "text/plain; charset=utf-8"}
    return pem, 200, {"Content-Type": "application/x-pem-file"}
