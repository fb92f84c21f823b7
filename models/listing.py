"""Lists for people: owners and events, filtered, sorted and paged; as quick with a million as with one.

A page begins where the last one ended, by key and not by number, and every step reads one of the table's
indexes in its order. Where an order has no index of its own, it is put together: by `strands`, which are
merged, and by `sections`, which follow each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import Boolean, String, and_, bindparam, literal, literal_column, null, select, true, tuple_

from models.events import NO_REFRESH, Event, Kind, events
from models.grants import FAILING, NOT_ALIVE, PAUSED, READ, Grant, State, grants
from models.session import Instant, now

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import BindParameter, Column, ColumnElement, Connection


class Show(StrEnum):
    """Which owners."""

    ALL = "all"
    ALIVE = "alive"
    NEEDS_CONSENT = "needs_consent"
    FAILING = "failing"  # alive, and the last attempt brought nothing
    PAUSED = "paused"  # alive, and the operator has paused it
    RUN_OUT = "run_out"  # alive, and the access token has run out
    DUE = "due"  # now
    DISCONNECTED = "disconnected"


class Sort(StrEnum):
    EXPIRY = "expiry"  # nearest first; without an access token last
    REFRESHED = "refreshed"  # longest ago first
    FAILURES = "failures"  # most first
    OWNER = "owner"


class BadCursor(ValueError):
    """The place to go on from can't be read."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a list: behind (or before) this row."""

    section: int
    key: datetime | int | None
    owner: str

    def __str__(self) -> str:
        key = self.key.isoformat() if isinstance(self.key, datetime) else "" if self.key is None else self.key
        return f"{self.section}~{key}~{self.owner}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Raises `BadCursor`."""
        try:
            section, key, owner = text.split("~", 2)
            if not key:
                return cls(int(section), None, owner)
            is_time = "-" in key
            moment = datetime.fromisoformat(key).astimezone(UTC) if is_time else int(key[:9])
            return cls(int(section), moment, owner)
        except (ValueError, OverflowError):
            raise BadCursor(text) from None


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and from where the pages before and behind go on; None where there is no such page."""

    grants: list[Grant]
    before: Cursor | None
    after: Cursor | None


@dataclass(frozen=True, slots=True)
class _Section:
    """Rows in the order of `key` and then of the owner. Each strand is a condition whose rows an index has in
    that order."""

    strands: tuple[ColumnElement[bool], ...]
    key: Column[Any] | None = None
    descending: bool = False

    def read(
        self,
        connection: Connection,
        only: ColumnElement[bool],
        beyond: Cursor | None,
        limit: int,
        *,
        backwards: bool,
    ) -> list[tuple[Any, Grant]]:
        columns = [grants.c.owner] if self.key is None else [self.key, grants.c.owner]
        descending = self.descending != backwards
        if beyond is not None:
            if self.key is not None and isinstance(self.key.type, Instant) != isinstance(
                beyond.key, datetime
            ):
                raise BadCursor(str(beyond))
            values = [beyond.owner] if self.key is None else [beyond.key, beyond.owner]
            place = [literal(value, column.type) for value, column in zip(values, columns, strict=True)]
            row, there = tuple_(*columns), tuple_(*place)
            only = and_(only, row < there if descending else row > there)
        found: list[tuple[Any, Grant]] = []
        for strand in self.strands:
            query = select(*READ[:-1], null().label("sealed_access_token")).where(strand, only)
            order = [column.desc() if descending else column.asc() for column in columns]
            for row_ in connection.execute(query.order_by(*order).limit(limit)):
                grant = Grant(**row_._mapping)
                found.append((None if self.key is None else getattr(grant, self.key.name), grant))
        if len(self.strands) > 1:
            found.sort(key=lambda one: (one[0], one[1].owner), reverse=descending)
        return found[:limit]


def owners(
    connection: Connection,
    *,
    show: Show = Show.ALL,
    sort: Sort = Sort.EXPIRY,
    reverse: bool = False,
    begins: str = "",
    after: Cursor | None = None,
    before: Cursor | None = None,
    limit: int = 50,
) -> Page:
    """One page of the owners whose id `begins` so; `reverse` turns the order round."""
    sections = _sections(show, sort)
    only = _begins(begins) if begins else true()
    back = before is not None
    cursor = before or after
    if cursor is not None and not 0 <= cursor.section < len(sections):
        raise BadCursor(str(cursor))
    found: list[tuple[int, Any, Grant]] = []
    for number in _way(len(sections), cursor, backwards=reverse != back):
        beyond = cursor if cursor is not None and number == cursor.section else None
        left = limit + 1 - len(found)
        section = sections[number]
        rows = section.read(connection, only, beyond, left, backwards=reverse != back)
        found += [(number, key, grant) for key, grant in rows]
        if len(found) > limit:
            break
    more = len(found) > limit
    found = found[:limit][:: -1 if back else 1]
    ends = [Cursor(number, key, grant.owner) for number, key, grant in found]
    return Page(
        grants=[grant for _, _, grant in found],
        before=ends[0] if ends and (more if back else after is not None) else None,
        after=ends[-1] if ends and (back or more) else None,
    )


def _begins(text: str) -> ColumnElement[bool]:
    """The owner's id begins so. The text is part of the statement: whether few or nearly all begin so decides
    how they are best found, and PostgreSQL keeps one plan for all values of a parameter."""

    def part(name: str, value: str) -> BindParameter[str]:
        return bindparam(name, value, literal_execute=True)

    owner = grants.c.owner
    return and_(owner >= part("first", text), owner < part("last", text + chr(0x10FFFF)))


def _way(sections: int, cursor: Cursor | None, *, backwards: bool) -> Iterator[int]:
    numbers = range(sections)[:: -1 if backwards else 1]
    start = numbers[0] if cursor is None else cursor.section
    return (number for number in numbers if (number <= start if backwards else number >= start))


def _sections(show: Show, sort: Sort) -> list[_Section]:
    only, states = _WHICH[show]
    strands = {state: and_(_in(state), only) for state in states}
    whole = strands[states[0]] if len(states) == 1 else only
    match sort:
        case Sort.OWNER:
            return [_Section((whole,))]
        case Sort.REFRESHED:
            return [_Section(tuple(strands.values()), grants.c.refreshed_at)]
        case Sort.EXPIRY:
            # Disconnecting erases the access token; every other grant has had one.
            gone = strands.pop(State.DISCONNECTED, None)
            with_token = [_Section(tuple(strands.values()), grants.c.access_expires_at)] if strands else []
            return with_token if gone is None else [*with_token, _Section((gone,))]
        case Sort.FAILURES:
            failing = _Section((and_(whole, FAILING),), grants.c.failures, descending=True)
            if show is Show.FAILING:
                return [failing]
            return [failing, _Section((and_(whole, grants.c.failures == 0),))]


def _in(state: State) -> ColumnElement[bool]:
    # Spelled out and not as parameters, so that it is known beforehand which index has all of them.
    here = literal_column(f"state = '{state.value}'", Boolean)
    return here if state is State.ALIVE else and_(here, NOT_ALIVE)


_ALIVE = (State.ALIVE,)
_WHICH: dict[Show, tuple[ColumnElement[bool], tuple[State, ...]]] = {
    Show.ALL: (true(), tuple(State)),
    Show.ALIVE: (true(), _ALIVE),
    Show.NEEDS_CONSENT: (true(), (State.NEEDS_CONSENT,)),
    Show.FAILING: (FAILING, _ALIVE),
    Show.PAUSED: (PAUSED, _ALIVE),
    Show.RUN_OUT: (grants.c.access_expires_at <= now(), _ALIVE),
    Show.DUE: (grants.c.refresh_at <= now(), _ALIVE),
    Show.DISCONNECTED: (true(), (State.DISCONNECTED,)),
}
"""The condition, and the states that those are in for whom it holds."""


# --- events -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EventPage:
    """Newest first. `newer` and `older` are the ids from which the pages beside it go on, if there are."""

    events: list[Event]
    newer: int | None
    older: int | None


def happened(
    connection: Connection,
    *,
    owner: str | None = None,
    kind: Kind | None = None,
    rare: bool = False,
    older_than: int | None = None,
    newer_than: int | None = None,
    limit: int = 50,
) -> EventPage:
    """One page of what happened: to this owner, of this kind; `rare`: everything but refreshes."""
    query = select(events)
    if owner is not None:
        query = query.where(events.c.owner == owner)
    if rare or (kind is not None and kind is not Kind.REFRESHED):
        query = query.where(NO_REFRESH)
    if kind is not None:
        # Spelled out: what is rare and what is not are best found in different ways.
        query = query.where(events.c.kind == literal_column(f"'{kind.value}'", String))
    if newer_than is not None:
        query = query.where(events.c.id > newer_than).order_by(events.c.id.asc())
    else:
        query = query.order_by(events.c.id.desc())
        if older_than is not None:
            query = query.where(events.c.id < older_than)
    rows = [Event(**row._mapping) for row in connection.execute(query.limit(limit + 1))]
    more, rows = len(rows) > limit, rows[:limit]
    if newer_than is not None:
        rows.reverse()
    ends = (rows[0].id, rows[-1].id) if rows else (None, None)
    return EventPage(
        events=rows,
        newer=ends[0] if (more if newer_than is not None else older_than is not None) else None,
        older=ends[1] if newer_than is not None or more else None,
    )
