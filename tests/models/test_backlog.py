"""A backlog is claimed as everything is: nearest to its end first, each once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models import grants

if TYPE_CHECKING:
    import pytest

    from tests.models.conftest import Table


def test_a_backlog_is_claimed_in_order(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grants, "BACKLOG", 3)
    for number, expires_in in enumerate((40, -20, 60, 10, -50)):
        table.connect(f"owner-{number}", expires_in=expires_in)
    table.connect("not due", expires_in=-100, due_in=60)
    assert table.claim(limit=2) == ["owner-4", "owner-1"]
    assert table.claim(limit=2) == ["owner-3", "owner-0"]
    assert table.claim() == ["owner-2"]
    assert table.claim() == []
