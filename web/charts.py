"""Charts of numbers over time, drawn on the server: columns side by side, in lanes one above the other.

All is laid out here, along the width in percent, so that a chart fits any width and its letters keep their
size; the template only draws (`templates/chart.html`). What it shows is in a table beneath, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from web.words import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta

GAP = 0.18
"""Share of a column's place that stays free."""

LEAST = 2.0
"""Pixels: what is not nothing can be seen."""

HEAD = 20
"""Pixels above each lane, for its name and its highest number."""

FOOT = 20
"""Pixels beneath the lowest lane, for the time."""

_PARTS = 4
"""Into which the time is divided by labels."""


class Point(NamedTuple):
    """One column: a number, and a higher one that was reached at times."""

    value: float
    peak: float | None = None


class Series(NamedTuple):
    """What a lane shows, oldest first. `words` say one of its numbers; `height` is the lane's, in pixels."""

    name: str
    tone: str
    points: Sequence[Point]
    height: int
    words: Callable[[float], str] = "{:,.0f}".format


class Column(NamedTuple):
    """`is_open`: its time is not over."""

    x: float
    width: float
    y: float
    height: float
    peak: float | None  # its y
    title: str
    is_open: bool


class Lane(NamedTuple):
    """`base` is the y of the line that its columns stand on, `top` its highest number in words."""

    name: str
    tone: str
    columns: list[Column]
    base: int
    top: str


class Label(NamedTuple):
    x: float
    text: str
    anchor: str


class Row(NamedTuple):
    at: datetime
    words: list[str]


@dataclass(frozen=True)
class Chart:
    """`height` is in pixels. `rows` are for the table: newest first, those in which something was."""

    title: str
    summary: str
    height: int
    lanes: list[Lane]
    labels: list[Label]
    rows: list[Row]


def chart(title: str, summary: str, series: Sequence[Series], *, newest: datetime, step: timedelta) -> Chart:
    """These series. Their last points are of the time since `newest`, the others each a `step` earlier."""
    count = len(series[0].points)
    lanes, y = [], 0
    for each in series:
        y += HEAD + each.height
        lanes.append(_lane(each, y))
    rows = [
        Row(newest - step * (count - 1 - place), [each.words(each.points[place].value) for each in series])
        for place in reversed(range(count))
        if any(each.points[place].value for each in series)
    ]
    return Chart(title, summary, y + FOOT, lanes, _labels((step * count).total_seconds()), rows)


def _lane(series: Series, base: int) -> Lane:
    reached = [max(point.value, point.peak or 0) for point in series.points]
    highest = max(reached, default=0)
    wide = 100 / max(len(series.points), 1)
    columns = [
        Column(
            x=wide * (place + GAP / 2),
            width=wide * (1 - GAP),
            y=base - tall,
            height=tall,
            peak=None if point.peak is None else base - series.height * point.peak / highest,
            title=_title(series, point),
            is_open=place == len(series.points) - 1,
        )
        for place, point in enumerate(series.points)
        if reached[place] and (tall := max(series.height * point.value / highest, LEAST))
    ]
    top = f"at most {series.words(highest)}" if highest else "none"
    return Lane(series.name, series.tone, columns, base, top)


def _title(series: Series, point: Point) -> str:
    peak = "" if point.peak is None else f", at most {series.words(point.peak)}"
    return f"{series.words(point.value)}{peak}"


def _labels(seconds: float) -> list[Label]:
    first = Label(0, f"{duration(seconds)} ago", "start")
    between = [
        Label(100 * part / _PARTS, duration(seconds * (_PARTS - part) / _PARTS), "middle")
        for part in range(1, _PARTS)
    ]
    return [first, *between, Label(100, "now", "end")]


class Share(NamedTuple):
    """One of several numbers to compare; `width` is in percent of the greatest."""

    label: str
    number: int
    width: float
    tone: str


def shares(numbers: Sequence[tuple[str, int, str]]) -> list[Share]:
    """Bars one beneath the other, for these labels, numbers and tones."""
    most = max((number for _, number, _ in numbers), default=0) or 1
    return [Share(label, number, 100 * number / most, tone) for label, number, tone in numbers]
