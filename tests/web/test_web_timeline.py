"""The timeline: what stands where, and what it says to who can't see it."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.events import Event, Kind
from models.grants import Grant
from web.timeline import EDGE, OUTCOMES, Timeline, outcome, timeline

NOW = datetime(2026, 5, 3, 14, 2, 9, tzinfo=UTC)
_ids = itertools.count(1)


def event(kind: str, hours_ago: float, life: float | None = None, reason: str | None = None) -> Event:
    at = NOW - timedelta(hours=hours_ago)
    until = None if life is None else at + timedelta(hours=life)
    return Event(next(_ids), at, "ann", kind, reason, None, 1, "c0ffee", None, until)


def grant(**changes: Any) -> Grant:
    nothing: dict[str, Any] = dict.fromkeys(Grant.__slots__)
    return Grant(**nothing | {"state": "alive", "read_at": NOW} | changes)


def hours(count: float) -> datetime:
    return NOW + timedelta(hours=count)


def drawn(*oldest_first: Event, **changes: Any) -> Timeline:
    strip = timeline(grant(**changes), oldest_first[::-1], NOW)
    assert strip is not None
    return strip


def test_a_quiet_day() -> None:
    strip = drawn(
        event(Kind.CONNECTED, 12.5, 8),
        event(Kind.REFRESHED, 6.5, 8),
        event(Kind.REFRESHED, 0.5, 8),
        refresh_at=hours(5.5),
    )
    assert [mark.shape for mark in strip.marks] == ["diamond", "circle", "circle"]
    assert [mark.tone for mark in strip.marks] == ["alive"] * 3
    assert strip.marks[0].x == EDGE
    assert strip.next is not None
    assert strip.marks[-1].x < strip.now < strip.next < 100 - EDGE
    # From 12.5 h ago to the end of the last token in 7.5 h: twenty hours on the whole width.
    hour = (100 - 2 * EDGE) / 20
    assert strip.now == pytest.approx(EDGE + 12.5 * hour)
    assert strip.next == pytest.approx(EDGE + 18 * hour)
    first, second, third, rest = strip.bars
    assert (first.lane, second.lane, third.lane, rest.lane) == (0, 1, 0, 0)
    assert first.width == pytest.approx(8 * hour)
    assert first.x + first.width > second.x  # the lives overlap: the owner was never without
    assert [bar.current for bar in strip.bars] == [False, False, True, True]
    assert [bar.left for bar in strip.bars] == [False, False, False, True]
    assert rest.x == pytest.approx(strip.now)
    assert (
        strip.summary
        == "The last 12 h 30 min: signed in once, refreshed 2 times. Next refresh in 5 h 30 min."
    )
    assert [row.words for row in strip.rows] == ["Refreshed", "Refreshed", "Signed in"]
    assert [(label.text, label.anchor) for label in strip.labels] == [
        ("now", "middle"),
        ("6 h ago", "middle"),
        ("12 h ago", "start"),
        ("in 6 h", "middle"),
    ]


def test_what_went_wrong_differs_in_shape_and_in_colour() -> None:
    looks = [(look.shape, look.tone) for look in OUTCOMES.values() if look.shape]
    by_tone = {tone: {shape for shape, its in looks if its == tone} for _, tone in looks}
    for tone, other in itertools.combinations(by_tone, 2):
        assert not by_tone[tone] & by_tone[other]

    strip = drawn(
        event(Kind.CONNECTED, 20, 8),
        event(Kind.WAITING, 14, reason="tesla_failed"),
        event(Kind.NEEDS_CONSENT, 13, reason="login_required"),
        state="needs_consent",
        refresh_at=None,
    )
    assert [(mark.shape, mark.tone) for mark in strip.marks[1:]] == [
        ("triangle", "waiting"),
        ("square", "ended"),
    ]
    assert strip.marks[1].title == "Waiting: Tesla is not answering, 2026-05-03T00:02:09Z"
    assert strip.next is None
    assert [key.words for key in strip.legend] == ["Signed in", "Waiting", "Ended: consent is needed"]


def test_disconnecting_ends_the_access_token() -> None:
    strip = drawn(event(Kind.CONNECTED, 10, 8), event(Kind.DISCONNECTED, 7), state="disconnected")
    (bar,) = strip.bars
    assert bar.x + bar.width == pytest.approx(strip.marks[-1].x)
    assert not bar.current


def test_an_older_life_ends_where_its_lane_is_taken() -> None:
    strip = drawn(*(event(Kind.REFRESHED, 3 - place, 8) for place in range(3)), refresh_at=hours(5))
    first, _, third, _ = strip.bars
    assert first.lane == third.lane
    assert first.x + first.width == pytest.approx(third.x)


def test_a_retry_is_the_next_refresh() -> None:
    strip = drawn(event(Kind.CONNECTED, 9, 8), refresh_at=hours(-3), retry_at=hours(1))
    assert strip.next == pytest.approx(100 - EDGE)
    overdue = drawn(event(Kind.CONNECTED, 9, 8), refresh_at=hours(-3))
    assert overdue.next is None


def test_many_failures_at_once_are_one_mark() -> None:
    strip = drawn(
        event(Kind.CONNECTED, 30, 8),
        *(event(Kind.WAITING, 20 - place / 60) for place in range(5)),
        event(Kind.REFRESHED, 19, 8),
    )
    assert [(mark.shape, mark.times) for mark in strip.marks] == [
        ("diamond", 1),
        ("triangle", 5),
        ("circle", 1),
    ]
    assert strip.marks[1].title.startswith("5 times, lastly Waiting, ")
    assert len(strip.rows) == 7


def test_nothing_happened_yet() -> None:
    assert timeline(None, [], NOW) is None
    assert timeline(grant(), [event(Kind.SPARE_KEPT, 1)], NOW) is None
    assert timeline(grant(), [event("of another version", 1)], NOW) is None


@given(
    st.lists(
        st.tuples(st.sampled_from(list(Kind)), st.floats(0, 3000), st.none() | st.floats(-1, 3000)),
        max_size=30,
    ),
    st.none() | st.floats(-3000, 3000),
    st.booleans(),
)
def test_whatever_happened_it_stays_on_the_strip(
    happened: list[tuple[str, float, float | None]], due: float | None, small: bool
) -> None:
    oldest_first = [event(kind, ago, life) for kind, ago, life in sorted(happened, key=lambda it: -it[1])]
    strip = timeline(
        grant(refresh_at=None if due is None else hours(due)), oldest_first[::-1], NOW, small=small
    )
    if strip is None:
        return
    places = [strip.now, *(mark.x for mark in strip.marks), *(label.x for label in strip.labels)]
    places += [bar.x for bar in strip.bars] + [bar.x + bar.width for bar in strip.bars]
    places += [strip.next] if strip.next is not None else []
    assert all(EDGE - 1e-6 <= place <= 100 - EDGE + 1e-6 for place in places)
    assert strip.marks[-1].id == max(e.id for e in oldest_first if outcome(e.kind).shape)
    assert len(strip.labels) <= 12
