"""The whole installation: what is well passes, and each thing that is not is named."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from doctor.findings import Verdict
from fleet.partner import KEY_PATH
from models.migrate import head

if TYPE_CHECKING:
    from collections.abc import Callable

    from doctor.findings import Finding
    from tests.doctor.conftest import Installation

    Install = Callable[..., Installation]

pytestmark = pytest.mark.processes


def failed(found: dict[str, Finding]) -> dict[str, str | None]:
    """What failed, and its cause."""
    return {name: each.cause for name, each in found.items() if each.verdict is Verdict.FAIL}


def test_all_is_well(installation: Installation) -> None:
    installation.alive()
    found = installation.examine()
    not_passed = {name: each.seen for name, each in found.items() if each.verdict is not Verdict.PASS}
    # Flower is the one part that does not run in this test.
    assert set(not_passed) == {"parts.flower"}, not_passed
    assert not any(each.repair for name, each in found.items() if name != "parts.flower")


def test_a_look_changes_nothing(installation: Installation) -> None:
    installation.alive()
    owner = sign_in(installation)
    before = installation.site.table(), installation.tesla.record()["totals"]
    installation.examine()
    installation.owner(owner)
    assert (installation.site.table(), installation.tesla.record()["totals"]) == before


def sign_in(installation: Installation, owner: str = "Ada Ampere", **form: Any) -> str:
    """As a browser does it; returns the owner's id."""
    browser = installation.site.browser()
    where = browser.get("/signin").headers["Location"]
    allowed = requests.post(
        where,
        data={"owner": owner, "scope": "openid offline_access user_data", "decision": "allow"} | form,
        allow_redirects=False,
        timeout=10,
    )
    assert allowed.status_code == 303, allowed.text
    back = browser.get(allowed.headers["Location"].removeprefix(installation.url))
    assert back.status_code == 303, back.text
    return str(installation.tesla.owner(owner)["sub"])


def test_before_there_is_a_key(installation: Installation) -> None:
    answer = requests.get(installation.url + KEY_PATH, timeout=10)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "evergrant keypair" in answer.text
    found = installation.examine()
    assert found["key.pair"].repair == found["key.served"].repair == "Run `evergrant keypair`."
    assert failed(found)["app.registration.eu"] == "not_registered"


def test_the_key_is_served_as_tesla_wants_it(installation: Installation) -> None:
    installation.alive()
    answer = requests.get(installation.url + KEY_PATH, timeout=10, allow_redirects=False)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/x-pem-file")
    assert "Set-Cookie" not in answer.headers
    assert answer.text.startswith("-----BEGIN PUBLIC KEY-----\n")


def test_tesla_holds_another_key(installation: Installation) -> None:
    installation.alive()
    folder = installation.settings.evergrant_home / "tesla"
    folder.rename(folder.with_name("old"))
    from doctor import keypair

    keypair.make(keypair.Place.of(installation.settings))
    found = installation.examine()
    assert "another public key" in found["app.registration.na"].seen
    assert found["key.served"].verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tesla_client_secret": "of-another-app"}, {"app.credentials.na": "invalid_client"}),
        (
            {"tesla_client_id": "of-another-environment"},
            {"app.credentials.eu": "invalid_client", "redirect.tesla": "invalid_client"},
        ),
        ({"redis_url": "redis://127.0.0.1:9/0"}, {"parts.redis": None}),
        ({"redis_url": "nonsense"}, {"parts.redis": None}),
    ],
)
def test_what_is_wrong_with_the_settings(
    installation: Installation, changes: dict[str, str], expected: dict[str, str | None]
) -> None:
    installation.change(**changes)
    assert expected.items() <= failed(installation.examine()).items()


def test_an_app_without_a_secret(install: Install) -> None:
    installation = install(tesla_client_secret="")
    found = installation.examine()["app.credentials.na"]
    assert found.verdict is Verdict.UNKNOWN
    assert "open-source" in found.seen


def test_grants_of_another_app(installation: Installation) -> None:
    sign_in(installation)
    assert installation.examine()["app.grants"].verdict is Verdict.PASS
    installation.change(tesla_client_id="another")
    found = installation.examine()["app.grants"]
    assert (found.verdict, found.cause) == (Verdict.FAIL, "other_credentials")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:////nowhere/at/all.db", "There is no"),
        ("nonsense", "not a URL"),
        ("postgresql://127.0.0.1:9/x", "can’t be reached"),
    ],
)
def test_no_table(installation: Installation, url: str, words: str) -> None:
    installation.change(database_url=url)
    found = installation.examine()
    assert (found["parts.sql"].verdict, words in found["parts.sql"].seen) == (Verdict.FAIL, True)
    assert found["parts.worker"].verdict is Verdict.UNKNOWN
    assert found["parts.redis"].verdict is Verdict.PASS


def test_a_table_of_an_older_version(installation: Installation) -> None:
    with installation.parts.database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001_first'")
    found = installation.examine()["parts.sql"]
    assert (found.verdict, found.repair) == (Verdict.FAIL, "Run `make migrate`.")
    assert head() != "0001_first"


def test_no_worker_and_no_beat(installation: Installation) -> None:
    found = failed(installation.examine())
    assert {"parts.worker", "parts.beat", "parts.refreshes"} <= set(found)


def test_refreshes_stand_still(installation: Installation) -> None:
    installation.alive()
    installation.parts.breaker.failed("somebody", "rate_limited", everybody=True, pause=30)
    assert failed(installation.examine()) == {"parts.refreshes": "rate_limited"}


def test_clocks(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr("doctor.parts.time.time", lambda: real() - 100)
    found = installation.examine()["parts.clocks"]
    assert found.verdict is Verdict.FAIL
    assert "SQL’s is 100 s ahead" in found.seen.replace("99 s", "100 s").replace("101 s", "100 s")


def test_disk(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doctor.parts.ROOM", 2**80)
    assert "parts.disk" in failed(installation.examine())
    monkeypatch.setattr("doctor.parts.ROOM", 0)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "can’t be written" in installation.examine()["parts.disk"].seen
