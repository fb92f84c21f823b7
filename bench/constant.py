"""A Flask view that returns a constant, served beside the product: ``gunicorn bench.constant:app``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask

from web.app import create_app
from web.session import start_session

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

CONSTANT = "/constant"
SIGN_IN = "/signed-in/"
"""And an owner's id: signs that owner in, without Tesla."""

_constant = Flask(__name__)


@_constant.get(CONSTANT)
def constant() -> dict[str, str]:
    """As little as a view can do."""
    return {"access_token": "constant"}


_product = create_app()


@_product.get(f"{SIGN_IN}<owner>")
def signed_in(owner: str) -> str:
    """A browser's session."""
    start_session(owner)
    return ""


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The one or the other."""
    served = _constant if environ["PATH_INFO"] == CONSTANT else _product
    return served(environ, start_response)
