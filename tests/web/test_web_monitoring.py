"""The alerts and the dashboard: promtool takes them, and they ask for metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import requests
import yaml

from models import surveys
from settings import ROOT
from workers.counts import HISTOGRAMS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.web.pages import Site

MONITORING = ROOT / "monitoring"
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "grafana" / "evergrant.json").read_text())
ALERTS: dict[str, Any] = yaml.safe_load((MONITORING / "alerts.yml").read_text())
PASSWORD = "operator's"

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not on PATH (Debian: apt install prometheus)"
)


def expressions() -> list[str]:
    """All that the dashboard and the alerts ask."""
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return panels + [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]


def promtool(*words: str) -> None:
    ran = subprocess.run([PROMTOOL or "", *words], check=False, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@needs_promtool
def test_promtool_takes_the_alerts_and_they_fire_when_they_should() -> None:
    promtool("check", "rules", str(MONITORING / "alerts.yml"))
    promtool("test", "rules", str(MONITORING / "alerts_test.yml"))


@needs_promtool
def test_promtool_takes_the_dashboards_questions(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(expressions())]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", str(file))


def test_there_is_what_they_ask_for(serve: Callable[..., Site], sqlite: Callable[[], str]) -> None:
    site = serve(sqlite(), operator_password=PASSWORD)
    surveys.take(site.parts.database)
    page = requests.get(f"{site.url}/metrics", auth=("operator", PASSWORD), timeout=10).text
    there = set(re.findall(r"^# TYPE (\w+)", page, re.MULTILINE))
    there |= {f"evergrant_{name}_bucket" for name in HISTOGRAMS} | {"up"}
    asked = {name for text in expressions() for name in re.findall(r"\b(?:evergrant_\w+|up)\b", text)}
    assert asked
    assert asked <= there


def test_each_alert_says_what_to_do() -> None:
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in {"critical", "warning", "info"}
            assert len(rule["annotations"]["description"]) > 40
