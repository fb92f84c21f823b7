"""The OpenAPI document says what the API does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import requests

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
