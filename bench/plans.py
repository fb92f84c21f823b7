"""How PostgreSQL goes about what is asked all the time: nothing may pass over a whole large table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import event

from bench.fill import Spread, fill, owner
from bench.results import table
from models import events, grants
from models.crypto import Keyring
from workers.sweep import sweep

if TYPE_CHECKING:
    from bench.ground import Ground
    from workers.parts import Parts

LARGE = ("grants", "events", "spares", "webhook_deliveries")

_EVENTS = """
INSERT INTO events (at, owner, kind, generation, correlation_id)
SELECT statement_timestamp() - n * interval '1 s', owner, 'refreshed', 1, 'bench'
FROM (SELECT owner, row_number() OVER () AS n FROM grants LIMIT 200000) AS numbered
"""


class SlowPlan(Exception):
    """A statement passes over a whole large table."""


def check(on: Ground, parts: Parts, size: int) -> str:
    """Sweeps, refreshes and reads once, and has each statement of that explained: a table in Markdown.

    Raises `SlowPlan`.
    """
    database = str(parts.settings.database)
    who = owner(size)
    asked: dict[str, Any] = {}

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if re.match(r"\s*(SELECT|UPDATE|INSERT|DELETE|WITH)", statement):
            asked.setdefault(statement, parameters)

    with psycopg.connect(on.conninfo(database), autocommit=True) as connection:
        connection.execute(_EVENTS)
        fill(database, Keyring.parse(on.keys), 3, first=size, spread=Spread(due=1))
        connection.execute("VACUUM ANALYZE events")
        event.listen(parts.database.engine, "before_cursor_execute", note)
        sweep(parts, lambda _: None)
        parts.refresher.refresh(who)
        parts.refresher.refresh(who, stale=2)
        with parts.database.read() as reading:
            grants.read(reading, who)
            events.latest(reading, who)
            grants.is_any_overdue(reading, 60)
        rows = []
        for statement, parameters in asked.items():
            explained = connection.execute(f"EXPLAIN (COSTS OFF) {statement}".encode(), parameters).fetchall()
            plan = "\n".join(line for (line,) in explained)
            for name in LARGE:
                if re.search(rf"Seq Scan on {name}\b", plan):
                    raise SlowPlan(f"{statement}\n{plan}")
            if any(re.search(rf"\b{name}\b", statement) for name in LARGE):
                rows.append((_short(statement), ", ".join(_ways(plan))))
    return table(("statement", "found by"), *rows)


def _short(statement: str) -> str:
    words = " ".join(statement.split())
    return f"`{words[:70]}…`" if len(words) > 70 else f"`{words}`"


def _ways(plan: str) -> list[str]:
    found = re.findall(r"(?:Index(?: Only)? Scan|Bitmap Index Scan)[\w ]*? (?:using|on) (\w+)", plan)
    return sorted(set(found)) or ["an insertion"]
