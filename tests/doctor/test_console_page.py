"""The doctor in the console, and the guide from the developer portal to the first sign-in."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

import pytest

from tests.doctor.signing_in import Owner

if TYPE_CHECKING:
    from tests.doctor.conftest import Installation
    from tests.web.pages import Browser

pytestmark = pytest.mark.processes


@pytest.fixture
def operator(installation: Installation) -> Browser:
    """A browser that the operator has signed in with."""
    browser = installation.site.browser()
    password = installation.settings.console_password
    assert browser.press("/operator/signin", "/operator/signin", password=password).status_code == 303
    return browser


def confirm(operator: Browser, path: str) -> None:
    """Presses the button of the page that asks."""
    token = re.search(r'name="csrf_token" value="([^"]+)"', operator.get(path).text)
    assert token
    assert operator.post(path, data={"csrf_token": token[1]}).status_code == 303


def words(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_the_same_checks_as_on_the_command_line(installation: Installation, operator: Browser) -> None:
    page = operator.get("/operator/doctor").text
    for found in installation.examine().values():
        assert found.title.replace("`", "") in words(page).replace("`", "")
    assert "checks failed. First, “There is a key pair”" in words(page)
    assert f'data-copy="{installation.url}/callback"' in page
    assert "fail: There is a key pair" in words(page)  # not by colour and shape alone

    installation.alive()
    assert "Nothing failed" in words(operator.get("/operator/doctor").text)  # Flower is not up here


def test_one_owner(installation: Installation, operator: Browser) -> None:
    installation.alive()
    owner = Owner(installation)
    owner.sign_in()
    diagnosis = f"/operator/doctor?owner={owner.id}"
    assert diagnosis in operator.get(f"/operator/owner?id={owner.id}").text
    assert "All is well with this grant." in words(operator.get(diagnosis).text)
    installation.tesla.fault("wrong_region", owner=owner.name)
    page = operator.get(diagnosis).text
    assert "It is this: The account lives in another region" in words(page)
    assert "/troubleshooting#wrong_region" in page
    assert "There is no grant of owner <nobody>" in html.unescape(
        operator.get("/operator/doctor?owner=<nobody>").text
    )


def test_two_uris_side_by_side(installation: Installation, operator: Browser) -> None:
    installation.tesla.fault("redirect_mismatch")
    page = operator.get("/operator/doctor").text
    same = re.escape(f"{installation.url}/callback")
    assert re.search(rf'<pre class="differ">{same}<mark>∅</mark>\n{same}<mark>/</mark></pre>', page), page


def test_the_guide_step_by_step(installation: Installation, operator: Browser) -> None:
    def next_step() -> str:
        page = operator.get("/operator/doctor/first-run").text
        found = re.search(r'<li class="step" id="(\w+)" aria-current="step">', page)
        return found[1] if found else ""

    assert "/operator/doctor/first-run" in operator.get("/operator").text
    page = operator.get("/operator/doctor/first-run").text
    assert f'data-copy="{installation.url}/callback"' in page
    assert f'data-copy="{installation.url}"' in page
    assert next_step() == "key"
    assert operator.get("/operator/doctor/keypair").status_code == 200
    assert not (installation.settings.evergrant_home / "tesla").exists()  # it was only asked
    confirm(operator, "/operator/doctor/keypair")
    assert next_step() == "registration"
    confirm(operator, "/operator/doctor/register")
    assert "registered, and Tesla holds the key" in operator.get("/operator/doctor/first-run").text
    assert next_step() == "signin"
    Owner(installation).sign_in()
    assert next_step() == ""
    assert "All is done" in operator.get("/operator/doctor/first-run").text
    assert "/operator/doctor/first-run" not in operator.get("/operator").text
    events = words(operator.get("/operator/events?kind=all").text)
    assert "The app’s key pair was made." in events
    assert f"{installation.url.removeprefix('http://')} was registered in Europe." in events


def test_a_step_that_does_not_work(installation: Installation, operator: Browser) -> None:
    confirm(operator, "/operator/doctor/register")
    said = words(operator.get("/operator/doctor/first-run").text)
    assert "not registered" in said
    assert "evergrant keypair" in said
