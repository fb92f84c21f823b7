"""docker-compose.yml and the Dockerfile keep up with the code."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from settings import ROOT, Settings

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service.get("image") == "evergrant"}

FIXED = {"evergrant_home", "encryption_keys_file", "bind"}
"""Settings that the containers decide themselves."""


def test_every_setting_reaches_the_containers() -> None:
    passed = {name.lower() for name in OURS["web"]["environment"]}
    assert passed == set(Settings.model_fields) - FIXED


def test_all_of_our_containers_have_the_same_settings() -> None:
    assert set(OURS) == {"migrate", "web", "worker", "beat", "flower", "sandbox"}
    assert all(service["environment"] == OURS["web"]["environment"] for service in OURS.values())


def test_compose_1_29_knows_every_section() -> None:
    # Its `configs` and `secrets` are files only; a word of the newer kind, and it refuses the whole file.
    assert {name for name in COMPOSE if not name.startswith("x-")} == {"services", "volumes"}
    assert not any({"configs", "secrets"} & set(service) for service in SERVICES.values())


def test_no_password_has_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for name in ("POSTGRES_PASSWORD", "ENCRYPTION_KEYS", "SECRET_KEY", "OPERATOR_PASSWORD"):
        uses = re.findall(r"\$\{" + name + r"(.)(.)", text)
        assert uses, name
        assert set(uses) == {(":", "?")}, name


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_each_container_comes_back_and_says_how_it_is(name: str) -> None:
    service = SERVICES[name]
    if name == "migrate":
        assert service["restart"] == "no"
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"]


def test_all_variables_are_in_the_example() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    example = (ROOT / ".env.example").read_text()
    for name in set(re.findall(r"\$\{([A-Z_]+)", text)):
        # Tesla's endpoints are for other OAuth servers, and documented with the settings.
        if not re.fullmatch(r"TESLA_\w+_URL|TESLA_ISSUER|TESLA_FLEET_URL_\w+", name):
            assert re.search(rf"^(# )?{name}=", example, re.MULTILINE), name


def test_the_image_has_every_package() -> None:
    copied = re.findall(r"^COPY (\w+) \1$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "bench", "docs"}
    assert packages <= set(copied)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) <= allowed
