"""Each failure, switched on in the sandbox, is named by the page where it shows, by the log, by the doctor.

One row a failure: the rule, where it shows, and the code of its cause.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import requests

from doctor.findings import Verdict
from doctor.troubleshooting import FIVE
from fleet.errors import CAUSES
from models import api_keys
from models.grants import grants
from models.session import now
from sandbox.faults import FAULTS
from tests.doctor.signing_in import EVERYTHING, Owner

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.doctor.conftest import Installation

pytestmark = pytest.mark.processes


class Row(NamedTuple):
    fault: str
    shows: str
    cause: str
    rule: dict[str, Any] = {}  # noqa: RUF012 - read only
    doctor: str | None = None
    """What the doctor calls it, where that is more than Tesla said."""


AT_FLEET = {"endpoint": "fleet"}

ROWS = (
    # What owners, operators and other programs do.
    Row("wrong_region", "cars", "wrong_region"),
    Row("wrong_region", "signin", "wrong_region"),
    Row("missing_scopes", "signin", "missing_scopes"),
    Row("superseded", "refresh", "superseded_token"),
    Row("two_at_once", "refresh twice", "two_refreshes"),
    Row("other_credentials", "refresh", "other_credentials"),
    Row("consent_withdrawn", "refresh", "consent_withdrawn"),
    Row("consent_withdrawn", "cars", "consent_withdrawn"),
    Row("access_revoked", "cars", "consent_withdrawn"),
    Row("unknown_user", "cars", "unknown_user"),
    Row("unknown_user", "signin", "unknown_user"),
    Row("not_registered", "cars", "not_registered"),
    Row("not_registered", "signin", "not_registered"),
    # Tesla does not take the app, or the request.
    Row("invalid_client", "refresh", "invalid_client"),
    Row("unauthorized_client", "refresh", "client_refused"),
    Row("invalid_request", "refresh", "invalid_request"),
    # It says that the token is spent though the Fleet API still takes the owner's access token.
    Row("login_required", "refresh", "superseded_token"),
    Row("invalid_grant", "refresh", "superseded_token"),
    # Tesla is down, in each way, and too fast for it.
    Row("rate_limit", "refresh", "rate_limited"),
    Row("rate_limit", "cars", "rate_limited", AT_FLEET),
    Row("down_503", "refresh", "tesla_failed"),
    Row("down_503", "cars", "tesla_failed", AT_FLEET),
    Row("html_503", "refresh", "tesla_failed"),
    Row("html_503", "cars", "tesla_failed", AT_FLEET),
    Row("html_200", "refresh", "odd_answer"),
    Row("html_200", "cars", "odd_answer", AT_FLEET),
    Row("empty", "refresh", "odd_answer"),
    Row("truncated_json", "refresh", "odd_answer"),
    Row("cut_body", "refresh", "tesla_failed"),
    Row("reset", "refresh", "tesla_failed"),
    Row("reset", "cars", "tesla_failed", AT_FLEET),
    Row("hang", "refresh", "tesla_failed", {"seconds": 8}),
    Row("hang", "cars", "tesla_failed", {**AT_FLEET, "seconds": 8}),
    Row("drip", "refresh", "tesla_failed", {"seconds": 8}),
    Row("huge", "refresh", "tesla_failed"),
    Row("waf_403", "refresh", "edge"),
    Row("waf_403", "cars", "edge", AT_FLEET),
    Row("server_error_400", "refresh", "tesla_failed"),
)

ELSEWHERE = {
    # At the callback, before there is a grant: tests/web and the next table.
    "redirect_mismatch",
    "invalid_redirect_url",
    "invalid_auth_code",
    "no_refresh_token",
    "jwks_down",
    # Odd, and no failure: the refresh goes well all the same.
    "same_refresh_token",
    "no_expires_in",
    "absurd_expires_in",
    "odd_token_type",
    "extra_fields",
    "slow",
}


def test_no_fault_is_left_out() -> None:
    assert {row.fault for row in ROWS} | ELSEWHERE == set(FAULTS)
    assert set(FIVE) <= {row.cause for row in ROWS}


def show(owner: Owner, where: str) -> str:
    """Has the failure show, and returns the page where it does."""
    match where:
        case "signin":
            owner.sign_in()
            return owner.get("/owner")
        case "cars":
            return owner.get("/owner/cars")
        case "refresh":
            owner.refresh()
            return owner.get("/owner")
        case "refresh twice":
            owner.refresh()
            owner.refresh()
            return owner.get("/owner")
    raise AssertionError(where)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.fault}-{row.shows}")
def test_named_by_page_log_and_doctor(running: Installation, row: Row) -> None:
    owner = Owner(running)
    if row.shows != "signin":
        owner.sign_in()
    running.site.log.clear()
    count = {"count": 1} if row.fault == "two_at_once" else {}
    running.tesla.fault(row.fault, owner=owner.name, **row.rule, **count)

    page = show(owner, row.shows)
    link = f'href="{running.url}/troubleshooting#{row.cause}"'
    assert link in page, html.unescape(page)
    lines = [line for line in running.site.log if f"docs/troubleshooting.md#{row.cause}" in line]
    assert any(row.cause in line.split("docs/")[0] or CAUSES[row.cause].title in line for line in lines), (
        running.log
    )

    findings, sentence = running.owner(owner.id)
    named = {found.check: found.cause for found in findings.values() if found.cause}
    assert row.cause in named.values(), (named, sentence)
    assert CAUSES[row.cause].title in sentence
    assert f"({row.cause})" in sentence
    assert "unknown" not in sentence.replace("unknown_user", "")
    found = next(each for each in findings.values() if each.cause == row.cause)
    assert found.verdict is not Verdict.PASS
    assert found.repair


FOR_ALL = (
    Row("redirect_mismatch", "", "redirect_mismatch"),
    Row("invalid_client", "", "invalid_client"),
    Row("unauthorized_client", "", "client_refused"),
    Row("not_registered", "", "not_registered"),
    Row("rate_limit", "", "rate_limited"),
    Row("rate_limit", "", "rate_limited", AT_FLEET),
    Row("down_503", "", "tesla_failed"),
    Row("reset", "", "tesla_failed"),
    Row("hang", "", "tesla_failed", {"seconds": 8}),
    Row("html_200", "", "odd_answer"),
    Row("waf_403", "", "edge"),
)


@pytest.mark.parametrize("row", FOR_ALL, ids=lambda row: f"{row.fault}-{row.rule.get('endpoint', '')}")
def test_for_everybody_the_doctor_names_it_without_an_owner(running: Installation, row: Row) -> None:
    running.tesla.fault(row.fault, **row.rule)
    named = {found.check: found.cause for found in running.examine().values() if found.cause}
    assert set(named.values()) == {row.cause}, named


def test_a_redirect_uri_that_differs_at_the_exchange(running: Installation) -> None:
    """Tesla's own page says the same at the authorize request; a browser never comes back from there."""
    owner = Owner(running)
    back = owner.decide()
    running.tesla.fault("invalid_redirect_url", owner=owner.name)
    page = owner.get(back)
    assert "troubleshooting#redirect_mismatch" in page
    assert f"{running.url}/callback" in page
    assert "docs/troubleshooting.md#redirect_mismatch" in running.log
    running.tesla.fault("redirect_mismatch")
    found = running.examine()["redirect.tesla"]
    details = dict(found.details)
    assert details["Tesla names"] == f"{running.url}/callback/"
    assert details["They part at"].endswith("Evergrant has nothing more, Tesla has /")


def test_two_at_once_are_both_named(running: Installation) -> None:
    owner = Owner(running)
    running.tesla.fault("missing_scopes", owner=owner.name)
    owner.sign_in()
    running.tesla.fault("wrong_region", owner=owner.name)
    findings, sentence = running.owner(owner.id)
    causes = {found.cause for found in findings.values() if found.verdict is Verdict.FAIL}
    assert causes == {"wrong_region", "missing_scopes"}
    for code in causes:
        assert code
        assert CAUSES[code].title in sentence

    # The tokens held lack the scopes all the same.
    running.tesla.http.delete(f"{running.tesla.url}/faults/missing_scopes", timeout=10)
    running.tesla.fault("rate_limit", owner=owner.name)
    owner.refresh()
    _, sentence = running.owner(owner.id)
    assert all(code in sentence for code in ("wrong_region", "missing_scopes", "rate_limited"))


def test_all_is_well_with_an_owner(running: Installation) -> None:
    owner = Owner(running)
    owner.sign_in()
    owner.refresh()
    findings, sentence = running.owner(owner.id)
    assert {found.verdict for found in findings.values()} == {Verdict.PASS}
    assert sentence == "All is well with this grant."


def test_credentials_that_changed_since_the_sign_in(running: Installation) -> None:
    """Tesla says nothing but `login_required` to it; the table knows better."""
    owner = Owner(running)
    owner.sign_in()
    running.change(tesla_client_id="of-another-environment")
    findings, sentence = running.owner(owner.id)
    assert findings["owner.app"].cause == "other_credentials"
    assert dict(findings["owner.app"].details)["Made with"] == "evergrant-sandbox"
    assert "(other_credentials)" in sentence
    assert "(invalid_client)" in sentence  # both at once: the sandbox does not know that app either


def test_a_withdrawal_that_reaches_the_fleet_api_late(running: Installation) -> None:
    owner = Owner(running)
    owner.sign_in()
    running.tesla.fault("superseded", owner=owner.name)
    owner.refresh()
    running.tesla.withdraw(owner.name)
    _, sentence = running.owner(owner.id)
    assert "(consent_withdrawn)" in sentence
    assert "superseded" not in sentence


def test_programs_are_told_where_the_story_is(running: Installation) -> None:
    owner = Owner(running)
    owner.sign_in()
    running.tesla.fault("superseded", owner=owner.name)
    owner.refresh()
    with running.parts.database.write() as connection:
        _, key = api_keys.create(connection, name="a program", scopes=[api_keys.Scope.TOKENS_READ])
    answer = requests.get(
        f"{running.url}/api/v1/owners/{owner.id}/token",
        headers={"Authorization": f"Bearer {key}"},
        timeout=10,
    )
    assert answer.status_code == 409, answer.text
    assert answer.json()["reason"] == "superseded_token"
    assert answer.json()["entry"] == f"{running.url}/troubleshooting#superseded_token"


def test_a_paused_grant_and_one_that_nobody_can_open(installation: Installation) -> None:
    owner = Owner(installation)
    owner.sign_in()
    installation.change(encryption_keys="k9:" + "B" * 43 + "=")
    findings, _ = installation.owner(owner.id)
    assert "does not open" in findings["owner.token"].seen
    with installation.parts.database.write() as connection:
        connection.execute(grants.update().values(paused_at=now()))
    findings, _ = installation.owner(owner.id)
    assert findings["owner.grant"].seen == "The operator has paused it."


def test_looking_at_an_owner_makes_no_keys(running: Installation, tmp_path: Path) -> None:
    owner = Owner(running)
    owner.sign_in()
    running.change(evergrant_home=tmp_path / "elsewhere", encryption_keys="")
    findings, _ = running.owner(owner.id)
    assert findings["owner.token"].verdict is Verdict.UNKNOWN
    assert not (tmp_path / "elsewhere").exists()


def test_the_console_names_it_too(running: Installation) -> None:
    owner = Owner(running)
    owner.sign_in()
    running.tesla.fault("superseded", owner=owner.name)
    owner.refresh()
    page = owner.as_operator(f"/operator/owner?id={owner.id}")
    assert "troubleshooting#superseded_token" in page


def test_whose_grant_has_run_out_is_told_what_is_still_known(
    install: Callable[..., Installation],
) -> None:
    installation = install()
    owner = Owner(installation)
    owner.sign_in(scope=EVERYTHING)
    with installation.parts.database.write() as connection:
        connection.execute(grants.update().values(access_expires_at=now(-10)))
    findings, _ = installation.owner(owner.id)
    assert findings["owner.token"].verdict is Verdict.UNKNOWN
    assert "run out" in findings["owner.token"].seen
    assert findings["owner.scopes"].verdict is Verdict.PASS
