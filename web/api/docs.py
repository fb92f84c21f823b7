"""The API's documentation as a page, from the same document that programs read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from flask import Blueprint, render_template

from fleet.errors import CAUSES
from web.api import document
from web.api.app import DOCS, OPERATIONS, PREFIX
from web.threads import SEATS
from web.wiring import wiring
from workers.refresh import DATABASE_AWAY, KEY_MISSING

if TYPE_CHECKING:
    from collections.abc import Iterator

blueprint = Blueprint("api_docs", __name__)

CODES = {
    "key_missing": (401, "No key was sent."),
    "key_unknown": (401, "There is no such key, or it is not whole."),
    "key_revoked": (401, "The operator has revoked the key."),
    "key_ended": (401, "The key was good until its end."),
    "scope_missing": (403, "The key was not made for this; `scope` says what it lacks."),
    "owner_not_allowed": (403, "The key was made for other owners."),
    "return_url_not_allowed": (403, "The operator does not allow this way back (`RETURN_URLS`)."),
    "not_found": (404, "There is no such call."),
    "no_grant": (404, "This owner has never signed in here, or was erased."),
    "method_not_allowed": (405, "The call does not know this method; `Allow` names those that it knows."),
    "needs_consent": (409, "The owner has to sign in again, at `reconnect_url`; `reason` says why."),
    "disconnected": (409, "The grant was ended here. The owner may sign in again, at `reconnect_url`."),
    "paused": (409, "The operator has paused the grant, and its access token has run out."),
    "bad_request": (400, "The request can’t be read."),
    "bad_path": (400, "The gateway does not pass this path on."),
    "too_large": (413, "The request is larger than the call takes."),
    "not_json": (415, "The body has to be JSON."),
    "invalid": (422, "Parameters can’t be used; `errors` says which and why."),
    "too_fast": (429, "The key makes more calls a second than it may; `Retry-After` says how long to wait."),
    "internal": (500, "A fault of Evergrant’s own. It is in the log under `correlation_id`."),
    "unreachable": (502, "The gateway has no connection to the Fleet API. Nothing was sent."),
    "no_answer": (504, "The gateway has sent the request, and no answer came: it may have taken effect."),
    "in_flight": (503, "A refresh is under way and has not ended within the time that a call waits."),
    "too_many_waiting": (503, f"{SEATS} calls wait for Tesla already."),
    "sql_down": (503, "The token table does not answer."),
    "redis_down": (503, "Redis does not answer."),
}
"""Each code of a problem beside those of Tesla's causes: its status and what it means."""


class Field(NamedTuple):
    name: str
    kind: str
    description: str


@blueprint.get(DOCS)
def page() -> str:
    """The page."""
    written = document.write(wiring().settings.public_url + PREFIX, OPERATIONS)
    schemas = written["components"]["schemas"]
    causes = [cause for cause in (*CAUSES.values(), DATABASE_AWAY, KEY_MISSING) if cause.code not in CODES]
    return render_template(
        "api.html",
        about=written["info"]["description"].strip().split("\n\n"),
        server=written["servers"][0]["url"],
        operations=[
            (operation, written["paths"][operation.path][operation.method.lower()])
            for operation in OPERATIONS
        ],
        schemas={
            name: (schema.get("description", ""), [*_fields(schema)]) for name, schema in schemas.items()
        },
        kind=_kind,
        codes=CODES,
        causes=causes,
    )


def _fields(schema: dict[str, Any]) -> Iterator[Field]:
    for name, field in schema.get("properties", {}).items():
        yield Field(name, _kind(field), field.get("description", ""))


def _kind(schema: dict[str, Any]) -> str:
    """What may stand there, in words."""
    if options := schema.get("anyOf"):
        return " or ".join(_kind(option) for option in options)
    if "$ref" in schema:
        return _target(schema)
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    if schema.get("format") == "date-time":
        return "time"
    words = {"string": "text", "integer": "whole number", "boolean": "true or false", "null": "null"}
    return words.get(schema.get("type", ""), "anything")


def _target(schema: dict[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]
