"""The sandbox's own page and its levers: the record, consent, passwords, faults, health.

=========================================  ==============================================================
``GET /``                                  the record as a page: ``?q=`` searches, ``?page=`` turns over
``GET /record.json``                       the same as JSON; its shape is in `Record.snapshot`
``POST /owners/<sub>/withdraw``            the owner withdraws consent in the Tesla account
``POST /owners/<sub>/password``            the owner changes the password, which revokes every family
``GET /faults``                            ``{"rules": […], "struck": {fault: n}, "faults": {fault: text}}``
``POST /faults``                           a rule (`Weather.add`), as JSON or a form; 201 with the rule
``DELETE /faults``                         all rules; with ``?fault=`` or ``/faults/<fault>`` that fault's
``POST /faults/clear``                     for forms: ``fault`` or ``rule``, or neither for all
``GET /healthz``                           200 ``{"status": "ok"}``
=========================================  ==============================================================

A POST answers JSON, unless it comes from a browser's form: then it leads back to the page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, abort, jsonify, redirect, render_template, request

from sandbox.faults import AT_FLEET, FAULTS, BadRule
from sandbox.services import services

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

blueprint = Blueprint("record", __name__)

PER_PAGE = 100


@blueprint.get("/")
def page() -> str:
    """First who is in trouble, then by name."""
    snapshot = services().record.snapshot()
    search = request.args.get("q", "").strip().casefold()
    owners = [
        owner for owner in snapshot["owners"] if search in owner["name"].casefold() or search in owner["sub"]
    ]
    owners.sort(key=lambda owner: -_trouble(owner))
    pages = max(1, -(-len(owners) // PER_PAGE))
    number = min(max(request.args.get("page", 1, type=int), 1), pages)
    return render_template(
        "record.html",
        totals=snapshot["totals"],
        config=services().config,
        owners=owners[(number - 1) * PER_PAGE : number * PER_PAGE],
        found=len(owners),
        search=request.args.get("q", ""),
        number=number,
        pages=pages,
        faults=FAULTS.values(),
        at_fleet=AT_FLEET,
        struck=services().weather.struck(),
        rules=services().weather.rules(),
        names={owner["sub"]: owner["name"] for owner in snapshot["owners"]},
    )


@blueprint.get("/record.json")
def record() -> dict[str, Any]:
    return services().record.snapshot()


@blueprint.post("/owners/<sub>/<any(withdraw, password):what>")
def revoke(sub: str, what: str) -> Response:
    """From now on every token of the owner is worthless."""
    because = "withdrawn" if what == "withdraw" else "password"
    if not services().tesla.revoke(sub, because):
        abort(404)
    return _done({"sub": sub, "revoked_because": because}, 200)


@blueprint.get("/faults")
def list_faults() -> dict[str, Any]:
    weather = services().weather
    return {
        "rules": weather.rules(),
        "struck": weather.struck(),
        "faults": {fault.name: fault.description for fault in FAULTS.values()},
    }


@blueprint.post("/faults")
def add_fault() -> Response:
    body = request.get_json(silent=True) if request.is_json else request.form.to_dict()
    try:
        if not isinstance(body, dict):
            raise BadRule("The body must be a form or a JSON object.")
        rule = services().weather.add(body)
    except BadRule as error:
        response = jsonify(error=str(error))
        response.status_code = 400
        return response
    return _done(rule.as_dict(), 201)


@blueprint.delete("/faults")
@blueprint.delete("/faults/<fault>")
def clear_faults(fault: str | None = None) -> dict[str, int]:
    body: Any = request.get_json(silent=True)
    named = body.get("fault") if isinstance(body, dict) else None
    return {"cleared": services().weather.clear(fault or request.values.get("fault") or named)}


@blueprint.post("/faults/clear")
def clear_faults_by_form() -> Response:
    cleared = services().weather.clear(
        request.form.get("fault") or None, rule_id=request.form.get("rule", type=int)
    )
    return _done({"cleared": cleared}, 200)


@blueprint.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok"}


def _trouble(owner: dict[str, Any]) -> int:
    """How much is wrong: promises broken before consent ended, and that before a quiet life."""
    broken: int = owner["overlaps_live"] + owner["superseded_presented"]
    return 2 * broken + bool(owner["revoked"])


def _done(body: dict[str, Any], status: int) -> Response:
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        return redirect("/", code=303)
    response = jsonify(body)
    response.status_code = status
    return response
