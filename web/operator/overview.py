"""The overview: what needs the operator now, and how everything is."""

from __future__ import annotations

from flask import Blueprint, render_template

from web.operator.session import operator_signed_in

blueprint = Blueprint("overview", __name__)


@blueprint.get("")
@operator_signed_in
def page() -> str:
    """The page."""
    return render_template("operator/overview.html")
