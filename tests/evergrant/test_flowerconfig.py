from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from celery.events.state import Task
from flower.views.tasks import visible_task_columns

from workers.lanes import lane

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


@pytest.fixture
def flowerconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("EVERGRANT_HOME", str(tmp_path))
    import flowerconfig

    return flowerconfig


def test_flower_knows_every_column(flowerconfig: ModuleType) -> None:
    shown = [slug for slug, _ in visible_task_columns(flowerconfig.tasks_columns)]
    assert shown == flowerconfig.tasks_columns.split(",")


def test_the_lane_is_shown_without_the_senders_event(flowerconfig: ModuleType) -> None:
    task = Task(uuid="1", name="workers.refresh", args="('some-owner',)")
    assert flowerconfig.format_task(task).routing_key == lane("some-owner", 8)


@pytest.mark.parametrize("arguments", [None, "", "()", "('cut o", "('a', 'b')"])
def test_a_row_without_an_owner_stays(flowerconfig: ModuleType, arguments: str | None) -> None:
    task = Task(uuid="1", name="workers.refresh", args=arguments)
    assert flowerconfig.format_task(task).routing_key is None
