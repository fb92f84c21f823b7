"""What holds on every page: everybody can read it, it is light, it calls nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.everywhere import PLACES, Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page, Response

    from tests.browser.conftest import Visitor

HEAVIEST = 150_000
"""Bytes of a page and of all that it loads, before compression."""


@pytest.mark.parametrize("place", PLACES, ids=[place.name for place in PLACES])
def test_everywhere(visit: Callable[..., Visitor], place: Place) -> None:
    visitor = visit(width=1600, reduced_motion="reduce")  # colours that are on their way are not judged
    page = visitor.page
    place.go(visitor)
    page.wait_for_load_state("networkidle")
    assert page.locator("html[lang=en] main h1").count() == 1
    assert page.title() not in {"", " · Evergrant"}
    assert what_is_hard_to_use(page) == [], "light and wide"
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 360, "height": 740})
    assert what_is_hard_to_use(page) == [], "dark and narrow"
    assert page.evaluate("document.documentElement.scrollWidth") <= 360

    asked: list[str] = []
    came: list[Response] = []
    page.on("request", lambda request: asked.append(urlsplit(request.url).netloc))
    page.on("response", lambda response: came.append(response))
    page.reload()
    page.wait_for_load_state("networkidle")
    assert set(asked) == {urlsplit(visitor.url).netloc}
    assert sum(len(response.body()) for response in came) < HEAVIEST
    policy = came[0].headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'self'" in policy


def what_is_hard_to_use(page: Page) -> list[tuple[str, list[str]]]:
    """What axe calls serious or critical: its rule, and the elements."""
    return [
        (found["id"], [node["html"] for node in found["nodes"]])
        for found in Axe().run(page).response["violations"]
        if found["impact"] in {"serious", "critical"}
    ]
