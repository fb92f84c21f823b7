"""The timeline: a strip of what happened to a grant, newest right.

Marks stand on a line, one for each attempt, with a shape and a colour by outcome. Beneath it lies the life
of each access token as a bar; where a bar begins before the one above it ends, the owner was never without.
The line marked "now" parts what was from what comes: the rest of the current bar, and the next refresh as
an outline.

All is laid out here, in percent of the width; the template only draws (`templates/timeline.html`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from models.events import Kind
from models.grants import State
from web.sentence import cause_of
from web.words import duration, exact

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from models.events import Event
    from models.grants import Grant


class Outcome(NamedTuple):
    """`words` say it to the owner; what has no `shape` is not drawn."""

    words: str
    shape: str | None = None
    tone: str = "none"


OUTCOMES: dict[str, Outcome] = {
    Kind.CONNECTED: Outcome("Signed in", "diamond", "alive"),
    Kind.REFRESHED: Outcome("Refreshed", "circle", "alive"),
    Kind.SPARE_KEPT: Outcome("A spare was kept"),
    Kind.SPARE_USED: Outcome("Refreshed with a spare", "ring", "alive"),
    Kind.WAITING: Outcome("Waiting", "triangle", "waiting"),
    Kind.NEEDS_CONSENT: Outcome("Ended: consent is needed", "square", "ended"),
    Kind.REVIVED: Outcome("Alive again", "ring", "alive"),
    Kind.DISCONNECTED: Outcome("Disconnected", "box", "none"),
    Kind.OPERATOR_MUST_ACT: Outcome("Paused: the operator must act", "cross", "ended"),
    Kind.NOTICED: Outcome("Noticed at Tesla"),
    Kind.GOES_ON: Outcome("Goes on"),
    Kind.ENDING: Outcome("Tesla will end it soon"),
    Kind.WEBHOOKS_OFF: Outcome("Webhooks are off"),
    Kind.PAUSED: Outcome("Paused by the operator", "pause", "waiting"),
    Kind.RESUMED: Outcome("Resumed", "play", "alive"),
    Kind.BY_OPERATOR: Outcome("By the operator"),
    Kind.KEY_MADE: Outcome("A key was made"),
    Kind.KEY_REVOKED: Outcome("A key was revoked"),
}
"""Each kind of event: its words, and how it looks on the strip."""

LIVES = 9
"""How many access tokens' lives the strip goes back."""

LIVES_SMALL = 5

EVENTS = 60
"""How many events to read for a strip: enough for its lives with some failures between."""

EVENTS_SMALL = 16

EDGE = 1.5
"""Percent of the width that stays free on both sides, so that no mark is cut."""

TOGETHER = 1.3
"""Percent of the width: marks of the same outcome that are closer are drawn as one."""

SMALL_TOGETHER = 4.0

CLOSE = 9.0
"""Percent of the width that a label needs."""

_STEPS = tuple(
    timedelta(seconds=seconds)
    for seconds in (5, 15, 30, 60, 300, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600)
) + tuple(timedelta(days=days) for days in (1, 2, 7, 14, 28))
_MOST_LABELS = 4


class Mark(NamedTuple):
    """One attempt, or `times` as many that stand too close to be told apart."""

    id: int
    x: float
    shape: str
    tone: str
    title: str
    times: int = 1


class Bar(NamedTuple):
    """One access token's life; `current`: it is the last one and good; `left`: that part is yet to come."""

    x: float
    width: float
    lane: int
    current: bool
    left: bool
    title: str


class Label(NamedTuple):
    x: float
    text: str
    anchor: str = "middle"


class Row(NamedTuple):
    """The table for who can't see the strip."""

    at: datetime
    words: str
    until: datetime | None


class Key(NamedTuple):
    """One line of the legend."""

    words: str
    shape: str | None
    tone: str


@dataclass(frozen=True)
class Timeline:
    """Where things stand, in percent of the width. `next` is where the next refresh is due; None when that is
    now, or when none comes by itself."""

    now: float
    next: float | None
    marks: list[Mark]
    bars: list[Bar]
    labels: list[Label]
    summary: str
    rows: list[Row]
    legend: list[Key]


def timeline(
    grant: Grant | None, events: Sequence[Event], now: datetime, *, small: bool = False
) -> Timeline | None:
    """The strip of this grant; `events` are its last ones, newest first. None when nothing happened yet."""
    return lay_out(events, _due(grant), now, small=small)


def lay_out(
    events: Sequence[Event], due: datetime | None, now: datetime, *, small: bool = False
) -> Timeline | None:
    """The same for a grant whose next refresh is `due`."""
    oldest_first = list(reversed(events))
    drawn = [event for event in oldest_first if outcome(event.kind).shape]
    if not drawn:
        return None
    lives = _lives(oldest_first)[-(LIVES_SMALL if small else LIVES) :]
    start = min(drawn[-1].at, *(life.born for life in lives)) if lives else drawn[0].at
    drawn = [event for event in drawn if event.at >= start]
    ends = [now, *(life.ends for life in lives[-1:]), *([due] if due else [])]
    scale = _Scale(start, max(ends))
    return Timeline(
        now=scale.x(now),
        next=scale.x(due) if due else None,
        marks=_marks(drawn, scale, SMALL_TOGETHER if small else TOGETHER),
        bars=_bars(lives, now, scale),
        labels=[] if small else _labels(now, scale),
        summary=_summary(drawn, now, due),
        rows=[] if small else [Row(e.at, said(e), e.access_expires_at) for e in reversed(drawn)],
        legend=list(dict.fromkeys(Key(*outcome(event.kind)) for event in drawn)),
    )


def outcome(kind: str) -> Outcome:
    """How this kind of event looks and reads."""
    return OUTCOMES.get(kind) or Outcome(kind.replace("_", " ").capitalize())


def said(event: Event) -> str:
    """The event in a line: what happened and, where it has one, why."""
    cause = cause_of(event.reason)
    words = outcome(event.kind).words
    return f"{words}: {cause.title}" if cause else words


def _due(grant: Grant | None) -> datetime | None:
    """When the next refresh is due; None when it is due now or never comes by itself."""
    if grant is None or grant.state != State.ALIVE or grant.paused_at or grant.refresh_at is None:
        return None
    due = max(grant.refresh_at, grant.retry_at or grant.refresh_at)
    return due if due > grant.read_at else None


class _Scale:
    def __init__(self, start: datetime, end: datetime) -> None:
        self.start, self.end = start, max(end, start + timedelta(seconds=1))
        self._per_second = (100 - 2 * EDGE) / (self.end - start).total_seconds()

    def x(self, at: datetime) -> float:
        at = min(max(at, self.start), self.end)
        return EDGE + (at - self.start).total_seconds() * self._per_second


# --- the bars -----------------------------------------------------------------------------------------


class _Life(NamedTuple):
    born: datetime
    ends: datetime


def _lives(oldest_first: Iterable[Event]) -> list[_Life]:
    """Each access token's life. Disconnecting ends the last one: the tokens are erased."""
    lives: list[_Life] = []
    for event in oldest_first:
        if event.access_expires_at is not None and event.access_expires_at > event.at:
            lives.append(_Life(event.at, event.access_expires_at))
        elif event.kind == Kind.DISCONNECTED and lives and lives[-1].ends > event.at:
            lives[-1] = lives[-1]._replace(ends=event.at)
    return lives


def _bars(lives: list[_Life], now: datetime, scale: _Scale) -> list[Bar]:
    """In two lanes, so that one sees a life and the next overlap. After refreshes in quick succession a lane
    is still taken; then the older life is drawn to where the new one begins, as nobody needed it longer."""
    bars = []
    for place, life in enumerate(lives):
        is_last = place == len(lives) - 1
        ends = life.ends if is_last else min(life.ends, now)
        if place + 2 < len(lives):
            ends = min(ends, lives[place + 2].born)
        title = f"Access token of {exact(life.born)}, good until {exact(life.ends)}"
        pieces = [(life.born, min(ends, now), False), (max(life.born, now), ends, True)]
        bars += [
            Bar(scale.x(begin), scale.x(end) - scale.x(begin), place % 2, is_last and ends > now, left, title)
            for begin, end, left in pieces
            if end > begin
        ]
    return bars


# --- the marks ----------------------------------------------------------------------------------------


def _marks(drawn: list[Event], scale: _Scale, together: float) -> list[Mark]:
    marks: list[Mark] = []
    first_x = 0.0
    for event in drawn:
        look, x = outcome(event.kind), scale.x(event.at)
        mark = Mark(event.id, x, look.shape or "", look.tone, f"{said(event)}, {exact(event.at)}")
        last = marks[-1] if marks else None
        if last and (last.shape, last.tone) == (mark.shape, mark.tone) and x - first_x < together:
            times = last.times + 1
            marks[-1] = mark._replace(times=times, title=f"{times} times, lastly {mark.title}")
        else:
            marks.append(mark)
            first_x = x
    return marks


def _labels(now: datetime, scale: _Scale) -> list[Label]:
    """ "now", and on both sides of it a few round distances; none that would run into another."""
    here = scale.x(now)
    labels = [_label(here, "now")]
    span = scale.end - scale.start
    step = next((step for step in _STEPS if span / step <= _MOST_LABELS), _STEPS[-1])
    for sign, words in ((-1, "{} ago"), (1, "in {}")):
        at = now + sign * step
        while scale.start <= at <= scale.end and len(labels) < 3 * _MOST_LABELS:
            text = words.format(_round(abs(at - now)))
            x = scale.x(at)
            if abs(x - here) > CLOSE:
                labels.append(_label(x, text))
            at += sign * step
    return labels


def _round(distance: timedelta) -> str:
    """In one unit; 36 h rather than 1 d 12 h."""
    hours, rest = divmod(int(distance.total_seconds()), 3600)
    return f"{hours} h" if hours > 24 and hours % 24 and not rest else duration(distance.total_seconds())


def _label(x: float, text: str) -> Label:
    return Label(x, text, "start" if x < CLOSE / 2 else "end" if x > 100 - CLOSE / 2 else "middle")


def _summary(drawn: list[Event], now: datetime, due: datetime | None) -> str:
    counted = Counter(outcome(event.kind).words for event in drawn)
    happened = ", ".join(f"{words.lower()} {_times(count)}" for words, count in counted.items())
    since = duration((now - drawn[0].at).total_seconds())
    following = f" Next refresh in {duration((due - now).total_seconds())}." if due else ""
    return f"The last {since}: {happened}.{following}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
