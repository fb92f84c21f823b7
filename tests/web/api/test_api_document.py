"""The OpenAPI document says what the API does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import requests

from fleet.errors import CAUSES
from settings import ROOT
from web.api.app import OPERATIONS

if TYPE_CHECKING:
    from tests.web.pages import Site


def test_it_is_served_to_everybody_and_lists_every_call(lite: Site) -> None:
    response = requests.get(f"{lite.url}/api/v1/openapi.json", timeout=30)
    assert response.status_code == 200
    document = response.json()
    assert document["openapi"].startswith("3.1")
    assert document["servers"] == [{"url": f"{lite.url}/api/v1"}]
    written = {
        (method.upper(), path, call["security"][0]["key"][0])
        for path, calls in document["paths"].items()
        for method, call in calls.items()
    }
    assert written == {(one.method, one.path, one.scope) for one in OPERATIONS}


def test_every_reference_leads_somewhere(lite: Site) -> None:
    document = requests.get(f"{lite.url}/api/v1/openapi.json", timeout=30).json()

    def look(part: object) -> None:
        if isinstance(part, dict):
            if reference := part.get("$ref"):
                found = document
                for step in reference.removeprefix("#/").split("/"):
                    found = found[step]
            for inner in part.values():
                look(inner)
        elif isinstance(part, list):
            for inner in part:
                look(inner)

    look(document)


def test_the_page_says_the_same_to_people(lite: Site) -> None:
    response = lite.browser().get("/api/v1/docs")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    assert "default-src 'self'" in response.headers["Content-Security-Policy"]
    for operation in OPERATIONS:
        assert f"{operation.method} {lite.url}/api/v1{operation.path}" in response.text
    assert "<script" not in response.text.replace("<script src=", "")


def test_every_problem_has_its_line(lite: Site) -> None:
    page = lite.browser().get("/api/v1/docs").text
    lines = set(re.findall(r'<tr id="([^"]+)">', page))
    written = "".join(
        path.read_text() for path in [*(ROOT / "web/api").glob("*.py"), ROOT / "web/gateway.py"]
    )
    raised = set(re.findall(r'(?:Refusal\(\s*(?:status|\d+),|\d+: \()\s*"(\w+)"', written))
    raised |= set(re.findall(r'_refused\("(\w+)"', written))
    assert len(raised) > 20
    assert raised | set(CAUSES) <= lines
