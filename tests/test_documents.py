"""What the documents say is there."""

from __future__ import annotations

import re

from settings import ROOT, Settings

README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def test_every_setting_is_in_the_example() -> None:
    example = (ROOT / ".env.example").read_text()
    named = set(re.findall(r"^#? ?([A-Z_]+)=", example, re.MULTILINE))
    ours = {name.upper() for name in Settings.model_fields}
    assert ours <= named, "settings that .env.example does not show"
    # Compose has some of its own.
    assert named - ours <= {"POSTGRES_PASSWORD", "COMPOSE_PROFILES", "PROMETHEUS_PORT", "GRAFANA_PORT"}


def test_every_setting_says_what_it_is() -> None:
    assert not [name for name, field in Settings.model_fields.items() if not field.description]


def test_every_command_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    used = set(re.findall(r"\bmake ([a-z-]+)", README))
    assert used
    assert used <= targets


def test_every_file_that_the_readme_links_to_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_the_layout_of_the_readme_is_the_layout() -> None:
    folders = re.findall(r"^([a-z]+)/ +", README, re.MULTILINE)
    assert folders
    assert all((ROOT / folder / "__init__.py").exists() for folder in folders)
