"""Lists are complete, in order, and the same forwards and backwards, whatever is shown and however sorted."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from models.events import Kind, record
from models.grants import State, grants
from models.listing import BadCursor, Cursor, Show, Sort, happened, owners

if TYPE_CHECKING:
    from tests.models.conftest import Table

NOW = datetime.now(UTC)


def rows() -> list[dict[str, Any]]:
    """Many alike, so that the order among equals matters."""
    draw = random.Random(5)
    made = []
    for number in range(90):
        state = draw.choice([State.ALIVE, State.ALIVE, State.ALIVE, State.NEEDS_CONSENT, State.DISCONNECTED])
        alive = state is State.ALIVE
        paused = alive and draw.random() < 0.2
        made.append(
            {
                "owner": f"{draw.choice('abc')}{draw.choice(['', '-', '_', 'Z', 'é'])}{number:03}",
                "state": state.value,
                "consent_id": "c",
                "generation": 1,
                "requested_scopes": "",
                "scopes": "",
                "region": "NA",
                "fleet_url": "",
                "said_at": NOW,
                "connected_at": NOW,
                "refreshed_at": NOW - timedelta(hours=draw.randrange(4)),
                "access_expires_at": None
                if state is State.DISCONNECTED
                else NOW + timedelta(hours=draw.choice([-1, 2, 3])),
                "refresh_at": NOW + timedelta(hours=draw.choice([-1, 2])) if alive and not paused else None,
                "failures": draw.choice([0, 0, 1, 7]) if state is not State.DISCONNECTED else 0,
                "attempt_number": 1,
                "token_attempt": 1,
                "paused_at": NOW if paused else None,
            }
        )
    return made


ROWS = rows()
FAR = datetime.max.replace(tzinfo=UTC)

SHOWN: dict[Show, Any] = {
    Show.ALL: lambda _: True,
    Show.ALIVE: lambda row: row["state"] == "alive",
    Show.NEEDS_CONSENT: lambda row: row["state"] == "needs_consent",
    Show.DISCONNECTED: lambda row: row["state"] == "disconnected",
    Show.FAILING: lambda row: row["state"] == "alive" and row["failures"] > 0,
    Show.PAUSED: lambda row: row["paused_at"] is not None,
    Show.RUN_OUT: lambda row: row["state"] == "alive" and row["access_expires_at"] <= NOW,
    Show.DUE: lambda row: row["refresh_at"] is not None and row["refresh_at"] <= NOW,
}


def expected(show: Show, sort: Sort, begins: str) -> list[str]:
    found = [row for row in ROWS if SHOWN[show](row) and row["owner"].startswith(begins)]
    found.sort(key=lambda row: row["owner"])
    match sort:
        case Sort.EXPIRY:
            found.sort(key=lambda row: row["access_expires_at"] or FAR)
        case Sort.REFRESHED:
            found.sort(key=lambda row: row["refreshed_at"])
        case Sort.FAILURES:
            failing = [row for row in found if row["failures"]]
            failing.sort(key=lambda row: (row["failures"], row["owner"]), reverse=True)
            found = failing + [row for row in found if not row["failures"]]
        case Sort.OWNER:
            pass
    return [row["owner"] for row in found]


@pytest.fixture
def filled(table: Table) -> Table:
    with table.database.write() as connection:
        connection.execute(grants.insert(), ROWS)
    return table


@pytest.mark.parametrize("sort", list(Sort))
def test_every_page_both_ways(filled: Table, sort: Sort) -> None:
    with filled.database.read() as connection:
        for show in Show:
            for begins in ("", "b", "b-"):
                for reverse in (False, True):
                    wanted = expected(show, sort, begins)[:: -1 if reverse else 1]
                    what = {"show": show, "sort": sort, "reverse": reverse, "begins": begins, "limit": 7}
                    page = owners(connection, **what)  # type: ignore[arg-type]
                    assert page.before is None
                    pages = [page]
                    while page.after is not None:
                        after = Cursor.parse(str(page.after))
                        page = owners(connection, **what, after=after)  # type: ignore[arg-type]
                        assert page.grants
                        pages.append(page)
                    found = [grant.owner for page in pages for grant in page.grants]
                    assert found == wanted, what
                    for earlier in reversed(pages[:-1]):
                        assert page.before is not None
                        before = Cursor.parse(str(page.before))
                        page = owners(connection, **what, before=before)  # type: ignore[arg-type]
                        assert page.grants == earlier.grants or [g.owner for g in page.grants] == [
                            g.owner for g in earlier.grants
                        ]
                        assert page.after is not None
                    assert page.before is None


@pytest.mark.parametrize("begins", ["'", "''; --", '"', "\\", "%", "%s", ":x", "a'||'", "é", "😀"])
def test_a_search_is_only_text(table: Table, begins: str) -> None:
    table.connect(begins + "1")
    table.connect("a-other")
    with table.database.read() as connection:
        assert [grant.owner for grant in owners(connection, begins=begins).grants] == [begins + "1"]


def test_no_token_is_read(filled: Table) -> None:
    filled.connect("a-real-one")
    with filled.database.read() as connection:
        (grant,) = owners(connection, begins="a-real-one").grants
    assert grant.sealed_access_token is None


@pytest.mark.parametrize(
    "text", ["", "x", "0~", "0~x~a", "0~5~a", "0~~a", "0~0001-01-01~a", "0~2026-13-45~a", "9~~a", "-1~~a"]
)
def test_a_place_that_makes_no_sense(filled: Table, text: str) -> None:
    with filled.database.read() as connection, pytest.raises(BadCursor):
        owners(connection, after=Cursor.parse(text))


KINDS = [Kind.REFRESHED, Kind.WAITING, Kind.CONNECTED]


def test_events_both_ways(table: Table) -> None:
    with table.database.write() as connection:
        for number in range(50):
            record(connection, KINDS[number % 3], owner="ab"[number % 2], detail=str(number))
    cases: list[tuple[dict[str, Any], Any]] = [
        ({}, lambda _: True),
        ({"owner": "a"}, lambda n: n % 2 == 0),
        ({"kind": Kind.WAITING}, lambda n: n % 3 == 1),
        ({"kind": Kind.REFRESHED, "owner": "b"}, lambda n: n % 3 == 0 and n % 2 == 1),
        ({"rare": True}, lambda n: n % 3 != 0),
        ({"owner": "nobody"}, lambda _: False),
    ]
    with table.database.read() as connection:
        for what, right in cases:
            page = happened(connection, **what, limit=7)
            assert page.newer is None
            pages = [page]
            while page.older is not None:
                page = happened(connection, **what, limit=7, older_than=page.older)
                pages.append(page)
            found = [int(event.detail or "") for page in pages for event in page.events]
            assert found == [number for number in reversed(range(50)) if right(number)]
            for earlier in reversed(pages[:-1]):
                assert page.newer is not None
                page = happened(connection, **what, limit=7, newer_than=page.newer)
                assert page.events == earlier.events
            assert page.newer is None
