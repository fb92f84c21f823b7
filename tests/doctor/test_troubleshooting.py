"""The document, the page and the table are one."""

from __future__ import annotations

import re

import pytest

from doctor.troubleshooting import ENTRIES, FIVE, markdown
from fleet.errors import CAUSES
from settings import ROOT

DOCUMENT = (ROOT / "docs" / "troubleshooting.md").read_text()


def test_the_document_is_made_from_the_table() -> None:
    assert markdown() == DOCUMENT, "run: python -m doctor.troubleshooting"


@pytest.mark.parametrize("code", CAUSES)
def test_every_cause_has_an_entry_where_its_link_leads(code: str) -> None:
    document, _, anchor = CAUSES[code].entry.partition("#")
    assert document == "docs/troubleshooting.md"
    headings = re.findall(r"^### `(.+)`$", DOCUMENT, re.MULTILINE)
    # GitHub makes the anchor from the heading: backticks fall away, underscores stay.
    assert headings.count(anchor) == 1
    section = DOCUMENT.split(f"### `{code}`\n")[1].split("\n### ")[0]
    assert CAUSES[code].title in section
    assert "epair" in section


@pytest.mark.parametrize("code", FIVE)
def test_each_of_the_five_tells_how_it_looks_why_and_the_repair(code: str) -> None:
    entry = ENTRIES[code]
    assert entry.looks
    assert entry.why
    assert entry.repair
    section = DOCUMENT.split(f"### `{code}`\n")[1].split("\n### ")[0]
    assert re.findall(r"^\*\*(.+)\*\*$", section, re.MULTILINE) == ["How it looks", "Why", "The repair"]


def test_every_code_that_it_speaks_of_is_one() -> None:
    linked = re.findall(r"\]\(#(\w+)\)", DOCUMENT)
    assert set(linked) == set(FIVE) <= set(ENTRIES)
