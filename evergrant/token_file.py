"""Reads refresh tokens that another program kept: CSV or JSON lines, whatever is wrong with some of them."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evergrant.refusal import RefusalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

TOKEN_NAMES = ("refresh_token", "refreshtoken", "token")
OWNER_NAMES = ("owner", "sub")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the file: a token, or what is wrong with it. `owner` is whose it is, where that is said."""

    number: int
    token: str = field(default="", repr=False)
    owner: str | None = None
    problem: str = ""


def read(lines: Iterable[str], name: str) -> Iterator[Line]:
    """The lines that are not empty; `name` is the file's. Raises `RefusalError` when it can't be told what
    the columns are."""
    numbered = ((number, text.strip("\ufeff\r\n")) for number, text in enumerate(lines, 1))
    filled = ((number, text) for number, text in numbered if text.strip())
    first = next(filled, None)
    if first is None:
        return
    named = name.lower().endswith((".jsonl", ".ndjson", ".json"))
    if named or (first[1].lstrip().startswith("{") and not name.lower().endswith(".csv")):
        parse: Callable[[str], tuple[Any, Any]] = _json
    else:
        header = _header(first[1])
        parse = header.parse
        if header.named:
            first = None
    if first is not None:
        yield _line(*first, parse)
    for number, text in filled:
        yield _line(number, text, parse)


def _line(number: int, text: str, parse: Callable[[str], tuple[Any, Any]]) -> Line:
    from fleet.tokens import is_token

    try:
        token, owner = parse(text)
    except ValueError as error:
        return Line(number, problem=str(error))
    if token is None or token == "":
        return Line(number, problem="it has no refresh token")
    token = token.strip() if isinstance(token, str) else token
    if not is_token(token) or len(token) < SHORTEST:
        return Line(number, problem="that is not a refresh token")
    if owner is not None and not isinstance(owner, str):
        return Line(number, problem="the owner is not text")
    return Line(number, token, (owner or "").strip() or None)


SHORTEST = 16
"""Characters; whatever is shorter guards nothing and was never a token."""


def _json(text: str) -> tuple[Any, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON: one object a line is expected") from None
    if isinstance(value, str):
        return value, None
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    lowered = {key.lower(): inner for key, inner in value.items()}
    return _first(lowered, TOKEN_NAMES), _first(lowered, OWNER_NAMES)


def _first(values: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((values[name] for name in names if name in values), None)


@dataclass(frozen=True, slots=True)
class _Header:
    delimiter: str
    token: int
    owner: int | None
    named: bool

    def parse(self, text: str) -> tuple[Any, Any]:
        cells = _cells(text, self.delimiter)
        owner = cells[self.owner] if self.owner is not None and self.owner < len(cells) else None
        return (cells[self.token] if self.token < len(cells) else None), owner


def _header(text: str) -> _Header:
    delimiter = max(",;\t", key=text.count)
    try:
        names = [cell.strip().lower() for cell in _cells(text, delimiter)]
    except ValueError:
        names = []
    for name in TOKEN_NAMES:
        if name in names:
            owner = next((names.index(owner) for owner in OWNER_NAMES if owner in names), None)
            return _Header(delimiter, names.index(name), owner, named=True)
    if len(names) == 1:
        return _Header(delimiter, 0, None, named=False)
    raise RefusalError(
        "It can't be told which column has the tokens. The first line must name the columns, one of them "
        "`refresh_token`, if there is one `owner`."
    )


def _cells(text: str, delimiter: str) -> list[str]:
    # Line by line: no token has a line break in it, and a stray quote must not swallow the rest of the file.
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True), [])
    except csv.Error:
        raise ValueError("its quotes do not match") from None
