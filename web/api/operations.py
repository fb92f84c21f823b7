"""What a call is: its path, the scope it needs, what goes in and what comes out.

A view is wrapped once and says all of it; the routes and the OpenAPI document are made from the same words.
"""

from __future__ import annotations

from dataclasses import dataclass
from inspect import cleandoc
from typing import TYPE_CHECKING, Any

from flask import Response, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from web.api.access import admit
from web.api.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.api_keys import Scope


@dataclass(frozen=True)
class Operation:
    """One call. `problems` are the statuses it may end with beside those that any call may."""

    method: str
    path: str
    scope: Scope
    summary: str
    description: str
    answer: type[BaseModel]
    status: int
    problems: tuple[int, ...]
    query: type[BaseModel] | None
    body: type[BaseModel] | None
    view: Callable[..., BaseModel]

    def __call__(self, owner: str = "") -> Response:
        """Answers a request for this path."""
        call = admit(self.scope, owner)
        arguments: list[BaseModel] = []
        if self.query is not None:
            arguments.append(_checked(self.query.model_validate, request.args.to_dict()))
        if self.body is not None:
            arguments.append(_checked(self.body.model_validate_json, _json()))
        answer = self.view(call, *arguments)
        return Response(answer.model_dump_json(), self.status, mimetype="application/json")


def operation(
    method: str,
    path: str,
    scope: Scope,
    summary: str,
    *,
    answer: type[BaseModel],
    status: int = 200,
    problems: tuple[int, ...] = (),
    query: type[BaseModel] | None = None,
    body: type[BaseModel] | None = None,
) -> Callable[[Callable[..., BaseModel]], Operation]:
    """Makes an operation of a view, which gets the `Call`, then the query, then the body. Its docstring is
    the description."""

    def made(view: Callable[..., BaseModel]) -> Operation:
        return Operation(
            method=method,
            path=path,
            scope=scope,
            summary=summary,
            description=cleandoc(view.__doc__ or ""),
            answer=answer,
            status=status,
            problems=problems,
            query=query,
            body=body,
            view=view,
        )

    return made


def _json() -> bytes:
    """The body; none is as good as an empty object."""
    body = request.get_data()
    if body and not request.is_json:
        raise UnsupportedMediaType
    return body or b"{}"


def _checked(validate: Callable[[Any], BaseModel], given: Any) -> BaseModel:
    try:
        return validate(given)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        if found[0]["type"] == "json_invalid":
            raise BadRequest(found[0]["msg"]) from None
        raise _invalid([(".".join(map(str, one["loc"])), one["msg"]) for one in found]) from None


def _invalid(errors: list[tuple[str, str]]) -> Refusal:
    return Refusal(
        422,
        "invalid",
        "The request has parameters that can’t be used",
        "; ".join(f"{name}: {message}" if name else message for name, message in errors),
        "Correct them; the document says what each may be.",
        errors=[{"parameter": name, "message": message} for name, message in errors],
    )
