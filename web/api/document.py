"""The OpenAPI document, made from the operations and their shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from web.api.shapes import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel
    from pydantic.json_schema import JsonSchemaMode

    from web.api.operations import Operation

VERSION = "1"

ABOUT = """\
Fresh access tokens of Tesla owners who have signed in, without ever seeing a refresh token.

Every call needs a key: `Authorization: Bearer evergrant_…`. The operator makes keys in the console or with
`evergrant keys create`; each is good for the scopes it was made for, and may be restricted to some owners.

What does not work is told as problem details (RFC 9457, `application/problem+json`): `code` is for programs
to compare, `turn` says whose turn it is, `repair` what to do. Times are RFC 3339 in UTC.

The gateway is beside this: a request for `/gateway/{owner}/api/1/…` with a key that has the scope `gateway`
is passed on to the Fleet API of the owner's region with the owner's token put in, so any client of the Fleet
API works with `/gateway/{owner}` as its base URL and the key as its token.
"""

ALWAYS = (401, 403, 422, 429, 500, 503)
"""Statuses that any call may end with."""

PROBLEMS = {
    400: "The body can’t be read.",
    401: "The key is missing, unknown, revoked or ended.",
    403: "The key lacks the scope, or is not for this owner.",
    404: "There is no grant of this owner’s.",
    409: "The owner or the operator must act first: `code` says which.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "A parameter can’t be used; `errors` says which.",
    429: "The key is used faster than it may be; `Retry-After` says how long to wait.",
    500: "A fault of Evergrant’s own.",
    503: "Not now; `code` says why, `Retry-After` when to ask again.",
}

_REF = "#/components/schemas/{model}"


def write(server: str, operations: Iterable[Operation]) -> dict[str, Any]:
    """The document for the API at the URL `server`."""
    operations = list(operations)
    used: list[tuple[type[BaseModel], JsonSchemaMode]] = [(Problem, "validation")]
    for operation in operations:
        used.append((operation.answer, "serialization"))
        used += [(model, "validation") for model in (operation.query, operation.body) if model is not None]
    _, definitions = models_json_schema(list(dict.fromkeys(used)), ref_template=_REF)
    schemas = definitions["$defs"]
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    for query in {operation.query for operation in operations if operation.query is not None}:
        del schemas[query.__name__]  # its fields stand among the parameters
    return {
        "openapi": "3.1.0",
        "info": {"title": "Evergrant", "version": VERSION, "description": ABOUT},
        "servers": [{"url": server}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key."}},
            "responses": {f"Problem{status}": _problem(status, words) for status, words in PROBLEMS.items()},
        },
    }


def _operation(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    written: dict[str, Any] = {
        "operationId": f"{operation.view.__module__.rpartition('.')[2]}_{operation.view.__name__}",
        "summary": operation.summary,
        "description": f"{operation.description}\n\nScope: `{operation.scope}`.",
        "security": [{"key": [str(operation.scope)]}],
        "parameters": _parameters(operation, schemas),
        "responses": {
            str(operation.status): {
                "description": operation.answer.__doc__ or operation.summary,
                "content": {"application/json": {"schema": {"$ref": _ref(operation.answer)}}},
            }
        }
        | {
            str(status): {"$ref": f"#/components/responses/Problem{status}"}
            for status in sorted({*ALWAYS, *operation.problems})
        },
    }
    if operation.body is not None:
        needed = any(field.is_required() for field in operation.body.model_fields.values())
        written["requestBody"] = {
            "required": needed,
            "content": {"application/json": {"schema": {"$ref": _ref(operation.body)}}},
        }
    return written


def _parameters(operation: Operation, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if "{owner}" in operation.path:
        found.append(
            {
                "name": "owner",
                "in": "path",
                "required": True,
                "description": "The owner’s id: the `sub` of Tesla’s tokens.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            }
        )
    if operation.query is not None:
        asked = schemas[operation.query.__name__]
        for name, schema in asked["properties"].items():
            schema = {key: value for key, value in schema.items() if key != "title"}
            description = schema.pop("description", "")
            if options := schema.pop("anyOf", None):  # what is not given is not null either
                schema = options[0]
            if schema.get("default", ...) is None:
                del schema["default"]
            found.append(
                {
                    "name": name,
                    "in": "query",
                    "required": name in asked.get("required", ()),
                    "description": description,
                    "schema": schema,
                }
            )
    return found


def _problem(status: int, words: str) -> dict[str, Any]:
    written: dict[str, Any] = {
        "description": words,
        "content": {"application/problem+json": {"schema": {"$ref": _ref(Problem)}}},
    }
    if status in {429, 503}:
        written["headers"] = {
            "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
        }
    if status == 401:
        written["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return written


def _ref(model: type[BaseModel]) -> str:
    return _REF.format(model=model.__name__)
