"""The file of another program is read line by line, whatever is wrong with some of them."""

from __future__ import annotations

import pytest

from evergrant.refusal import RefusalError
from evergrant.token_file import Line, read

GOOD, OTHER = "EU_" + "a1" * 20, "NA_" + "b2" * 20


def lines(text: str, name: str = "tokens") -> list[Line]:
    return list(read(text.splitlines(keepends=True), name))


def tokens(text: str, name: str = "tokens") -> list[tuple[int, str, str | None]]:
    found = lines(text, name)
    assert [line.problem for line in found] == [""] * len(found)
    return [(line.number, line.token, line.owner) for line in found]


@pytest.mark.parametrize(
    "text",
    [
        f"refresh_token,owner\n{GOOD},ann\n{OTHER},\n",
        f"owner;Name;Refresh_Token\nann;x;{GOOD}\n;y;{OTHER}\n",
        f"sub\trefresh_token\r\nann\t{GOOD}\r\n\t{OTHER}\r\n",
        f'\ufeff"refresh_token","owner"\n"{GOOD}","ann"\n {OTHER} ,\n',
        f'{{"refresh_token": "{GOOD}", "owner": "ann", "more": [1]}}\n{{"refreshToken": "{OTHER}"}}\n',
    ],
)
def test_csv_and_json_lines_as_they_come(text: str) -> None:
    found = tokens(text)
    assert [(token, owner) for _, token, owner in found] == [(GOOD, "ann"), (OTHER, None)]


def test_a_bare_list_is_enough() -> None:
    assert tokens(f"{GOOD}\n\n{OTHER}\n") == [(1, GOOD, None), (3, OTHER, None)]
    assert tokens(f'"{GOOD}"\n', "tokens.jsonl") == [(1, GOOD, None)]
    assert tokens("") == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('"no end', "quotes"),
        (",ann", "no refresh token"),
        ("short", "not a refresh token"),
        ("with a space in its middle", "not a refresh token"),
        ("ünïcödeünïcödeünïcöde", "not a refresh token"),
        ("x" * 20_000, "not a refresh token"),
        ("\0" * 40, "not a refresh token"),
    ],
)
def test_a_bad_line_is_named_and_the_next_is_read(line: str, problem: str) -> None:
    first, bad, last = lines(f"refresh_token,owner\n{GOOD},\n{line}\n{OTHER},ann\n")
    assert (first.token, last.token, last.owner) == (GOOD, OTHER, "ann")
    assert bad.number == 3
    assert problem in bad.problem
    assert line not in bad.problem


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "not an object"),
        ('{"owner": "ann"}', "no refresh token"),
        ('{"refresh_token": 7}', "not a refresh token"),
        (f'{{"refresh_token": "{GOOD}", "owner": 7}}', "owner"),
    ],
)
def test_the_same_in_json(line: str, problem: str) -> None:
    bad, last = lines(f'{line}\n{{"refresh_token": "{OTHER}"}}\n', "tokens.jsonl")
    assert problem in bad.problem
    assert last.token == OTHER


def test_columns_that_can_not_be_told_are_refused() -> None:
    with pytest.raises(RefusalError, match="refresh_token"):
        lines(f"{GOOD},ann\n{OTHER},bob\n", "tokens.csv")


def test_a_line_shows_no_token() -> None:
    assert GOOD not in repr(lines(GOOD)[0])
