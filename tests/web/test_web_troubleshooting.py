"""The entries of all causes, and how the pages link to them."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from doctor.troubleshooting import ENTRIES
from tests.web.odd_tesla import json_reply

if TYPE_CHECKING:
    from tests.web.odd_tesla import OddTesla
    from tests.web.pages import Site


def test_the_page_has_every_entry(lite: Site) -> None:
    page = lite.browser().get("/troubleshooting")
    assert page.status_code == 200
    words = html.unescape(page.text)
    for code, entry in ENTRIES.items():
        assert f'id="{code}"' in words
        assert entry.cause.title in words
    assert "`" not in words


def test_a_page_about_a_failure_links_to_its_entry(lite: Site, tesla: OddTesla) -> None:
    browser = lite.browser()
    state = browser.begin()["state"]
    tesla.token = lambda _: json_reply(401, {"error": "invalid_client"})
    page = browser.come_back(state)
    assert f'href="{lite.url}/troubleshooting#invalid_client"' in page.text
    assert "cause=invalid_client" in lite.log[-1]
    assert "docs/troubleshooting.md#invalid_client" in lite.log[-1]
    assert "/troubleshooting" not in browser.get("/nowhere").text
