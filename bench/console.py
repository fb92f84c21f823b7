"""The operator's console over a million owners: what every page takes on the server, and how PostgreSQL finds
what it shows. Each list is asked for as it begins, from its middle on, and backwards from there."""

from __future__ import annotations

import re
import statistics
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import psycopg
from sqlalchemy import event, select, update

from bench.fill import Spread, fill, owner
from bench.ground import ground
from bench.results import table
from models import surveys, tallies
from models.crypto import Keyring
from models.events import Kind
from models.grants import grants
from models.listing import Cursor, Show, Sort
from settings import Settings
from web.app import create_app
from workers.parts import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask.testing import FlaskClient

    from bench.ground import Ground
    from bench.results import Size
    from workers.parts import Parts

OWNERS = 1_000_000
EVENTS_EACH = 3
LIMIT = 0.1
"""Seconds within which every page has to answer."""

A_MINUTE = 2_778
"""Refreshes of a million owners."""

TIMES = 9
"""Each page is asked for so often. The quickest decides: whatever else a machine does only adds to it."""

PASSWORD = "bench"  # noqa: S105 - opens nothing but the bench

_VARY = """
UPDATE grants SET state = 'needs_consent', reason = 'login_required', refresh_at = NULL,
  failures = 0, last_error = 'login_required', last_error_at = statement_timestamp()
WHERE owner LIKE '%07-be7c%' OR owner LIKE '%57-be7c%';
UPDATE grants SET state = 'disconnected', access_token = NULL, refresh_token = NULL,
  access_expires_at = NULL, refresh_at = NULL
WHERE owner LIKE '%13-be7c%';
UPDATE grants SET failures = 2, last_error = 'tesla_failed', last_error_at = statement_timestamp(),
  refresh_at = statement_timestamp(), retry_at = statement_timestamp() + interval '1 min'
WHERE owner LIKE '%29-be7c%';
UPDATE grants SET paused_at = statement_timestamp(), refresh_at = NULL WHERE owner LIKE '%231-be7c%';
"""
"""Of a hundred owners two must sign in again, one has disconnected, one fails; of 1,000 one is paused."""

_EVENTS = """
INSERT INTO events (at, owner, kind, generation, correlation_id, late, access_expires_at)
SELECT moment, owner, CASE WHEN n % 97 = 0 THEN 'waiting' ELSE 'refreshed' END, 1, 'bench', 1.5,
  moment + interval '8 h'
FROM (
  SELECT owner, row_number() OVER () AS n,
    statement_timestamp() - interval '10 s' - (row_number() OVER ()) * interval '0.02 s' AS moment
  FROM grants, generate_series(1, {each})
) AS made
ORDER BY moment
"""

_LONG = """
INSERT INTO events (at, owner, kind, generation, correlation_id)
SELECT statement_timestamp() - n * interval '1 min', '{owner}', 'refreshed', 1, 'bench'
FROM generate_series(1, 50000) AS n ORDER BY n DESC
"""


class TooSlow(Exception):
    """A page takes too long, or a statement passes over a whole large table."""


def run(size: Size, say: Callable[[str], None]) -> str:
    owners = OWNERS // 50 if size.quick else OWNERS
    with ground() as on:
        database = on.database()
        fill(database, Keyring.parse(on.keys), owners, spread=Spread(due=0.001), real=False)
        say(f"{owners:,} grants")
        _vary(on, database)
        say(f"{owners * EVENTS_EACH:,} events")
        parts = build(
            Settings(
                _env_file=None,
                database_url=database,
                redis_url=on.redis_url,
                evergrant_home=on.home,
                encryption_keys=on.keys,
                operator_password=PASSWORD,
            )
        )
        counted = _count(parts, say)
        try:
            return _report(owners, counted, _measure(parts, owners, say))
        finally:
            parts.database.close()
            parts.redis.close()


def _vary(on: Ground, database: str) -> None:
    with psycopg.connect(on.conninfo(database), autocommit=True) as connection:
        for statement in _VARY.strip().split(";\n"):
            connection.execute(statement.encode())
        connection.execute(_LONG.format(owner=owner(1)).encode())
        connection.execute(_EVENTS.format(each=EVENTS_EACH).encode())
        connection.execute("VACUUM ANALYZE")


def _count(parts: Parts, say: Callable[[str], None]) -> list[tuple[str, str]]:
    """What is counted beforehand, and how long that takes."""
    began = time.monotonic()
    surveys.take(parts.database)
    took = time.monotonic() - began
    say(f"a survey took {took:.2f} s")
    began = time.monotonic()
    tallies.roll_up(parts.database, seconds=600)
    say(f"rolling up all events took {time.monotonic() - began:.1f} s")
    with parts.database.write() as connection:
        connection.execute(update(tallies.rolled).values(event=tallies.rolled.c.event - A_MINUTE))
    began = time.monotonic()
    tallies.roll_up(parts.database)
    rolled = time.monotonic() - began
    return [
        ("a survey of all grants", f"{took:.2f} s, so one every {max(took / surveys.SHARE, 10):.0f} s"),
        (f"rolling up a minute's {A_MINUTE:,} events", f"{1000 * rolled:.0f} ms"),
    ]


# --- the pages ----------------------------------------------------------------------------------------


def _measure(parts: Parts, owners: int, say: Callable[[str], None]) -> list[tuple[str, float, float]]:
    """What was asked for, and the quickest and the median of its times, in seconds. Raises `TooSlow`."""
    client = create_app(parts).test_client()
    _sign_in(client)
    found = []
    for words, path in _pages(parts, owners):
        with _Statements(parts) as asked:
            client.get(path)
        asked.check()
        times = []
        for _ in range(TIMES):
            began = time.perf_counter()
            status = client.get(path).status_code
            times.append(time.perf_counter() - began)
            if status != 200:
                raise TooSlow(f"{path} answers {status}")
        found.append((words, min(times), statistics.median(times)))
        say(f"{1000 * min(times):5.0f} ms  {words}")
    if slow := [words for words, quickest, _ in found if quickest > LIMIT]:
        raise TooSlow(f"more than {1000 * LIMIT:.0f} ms: {', '.join(slow)}")
    return found


def _sign_in(client: FlaskClient) -> None:
    form = client.get("/operator/signin").text
    token = re.search(r'name="csrf_token" value="([^"]+)"', form)
    assert token  # noqa: S101 - the form has one
    client.post("/operator/signin", data={"csrf_token": token[1], "password": PASSWORD})


def _pages(parts: Parts, owners: int) -> Iterator[tuple[str, str]]:
    yield "the overview", "/operator"
    for show in Show:
        for sort in Sort:
            for words, place in _places(parts, owner(owners // 2), show, sort):
                yield (
                    f"owners, {show}, by {sort}{words}",
                    "/operator/owners?" + urlencode({"show": show, "sort": sort} | place),
                )
    for words, begins in (
        ("one digit", "0"),
        ("half an id", "00012"),
        ("a whole id", owner(7)),
        ("nobody", "x"),
    ):
        for sort in Sort:
            yield (
                f"owners whose id begins with {words}, by {sort}",
                "/operator/owners?" + urlencode({"q": begins, "sort": sort}),
            )
    yield "an owner", "/operator/owner?" + urlencode({"id": owner(2)})
    yield "an owner with 50,000 events", "/operator/owner?" + urlencode({"id": owner(1)})
    with parts.database.read() as connection:
        newest = connection.exec_driver_sql("SELECT max(id) FROM events").scalar_one()
    for kind in ("all", "rare", *Kind):
        yield f"events, {kind}", "/operator/events?" + urlencode({"kind": kind})
        half = {"kind": kind, "older": newest // 2}
        yield f"events, {kind}, from the middle", "/operator/events?" + urlencode(half)
    yield (
        "events of an owner with 50,000",
        "/operator/events?" + urlencode({"owner": owner(1), "kind": "rare"}),
    )


def _places(parts: Parts, middle: str, show: Show, sort: Sort) -> list[tuple[str, dict[str, str]]]:
    """The list's beginning, and, where it is long, its middle, forwards and backwards."""
    if show not in {Show.ALL, Show.ALIVE, Show.NEEDS_CONSENT}:
        return [("", {})]
    state = "needs_consent" if show is Show.NEEDS_CONSENT else "alive"
    with parts.database.read() as connection:
        row = connection.execute(
            select(grants.c.owner, grants.c.access_expires_at, grants.c.refreshed_at, grants.c.failures)
            .where(grants.c.state == state, grants.c.owner > middle, grants.c.failures == 0)
            .order_by(grants.c.owner)
            .limit(1)
        ).one()
    cursor = {
        Sort.OWNER: Cursor(0, None, row.owner),
        Sort.EXPIRY: Cursor(0, row.access_expires_at, row.owner),
        Sort.REFRESHED: Cursor(0, row.refreshed_at, row.owner),
        Sort.FAILURES: Cursor(1, None, row.owner),
    }[sort]
    return [
        ("", {}),
        (", from the middle", {"after": str(cursor)}),
        (", back from the middle", {"before": str(cursor)}),
    ]


class _Statements:
    """The statements within the block, to be explained."""

    def __init__(self, parts: Parts) -> None:
        self._engine = parts.database.engine
        self._asked: list[tuple[str, Any]] = []

    def __enter__(self) -> _Statements:
        event.listen(self._engine, "before_cursor_execute", self._note)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(self._engine, "before_cursor_execute", self._note)

    def _note(self, _c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        self._asked.append((statement, parameters))

    def check(self) -> None:
        """Raises `TooSlow` with the plan of what passes over a large table."""
        with self._engine.connect() as connection:
            for statement, parameters in self._asked:
                if not statement.lstrip().startswith("SELECT"):
                    continue
                lines = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars()
                plan = "\n".join(lines)
                if re.search(r"Seq Scan on (grants|events)\b", plan):
                    raise TooSlow(f"{statement}\n{plan}")


def _report(owners: int, counted: list[tuple[str, str]], found: list[tuple[str, float, float]]) -> str:
    groups: dict[str, list[tuple[str, float, float]]] = {}
    for one in found:
        groups.setdefault(one[0].partition(", ")[0].partition(" whose")[0], []).append(one)
    rows = [
        (
            words,
            len(pages),
            f"{1000 * statistics.median(quickest for _, quickest, _ in pages):.0f} ms",
            f"{1000 * max(quickest for _, quickest, _ in pages):.0f} ms",
            max(pages, key=lambda page: page[1])[0],
            f"{1000 * max(median for _, _, median in pages):.0f} ms",
        )
        for words, pages in groups.items()
    ]
    return (
        f"## The console over {owners:,} owners\n\n"
        f"The server's time of each page, the quickest of {TIMES} asks; {owners * EVENTS_EACH:,} events. "
        "No statement of any page passes over a whole table.\n\n"
        + table(("page", "ways to ask", "usually", "slowest", "which", "slowest median"), *rows)
        + "\n\nCounted beforehand, so that no page counts:\n\n"
        + table(("what", "takes"), *counted)
    )
