"""Charts: everything stands within its lane, what is not nothing can be seen, and the table has it all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from web.charts import HEAD, LEAST, Point, Series, chart, shares

NEWEST = datetime(2026, 5, 3, 14, 2, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

numbers = st.one_of(st.just(0.0), st.floats(0.001, 1e9))
points = st.lists(
    st.builds(lambda low, more: Point(low, low + more), numbers, numbers), min_size=2, max_size=60
)


@given(st.lists(points, min_size=1, max_size=3))
def test_all_is_within_its_lane(lists: list[list[Point]]) -> None:
    count = min(len(each) for each in lists)
    series = [Series("a", "alive", each[:count], 40) for each in lists]
    drawn = chart("t", "s", series, newest=NEWEST, step=MINUTE)
    tops = [0, *(lane.base for lane in drawn.lanes)]
    for lane, given_, above in zip(drawn.lanes, series, tops, strict=False):
        assert lane.base - above == HEAD + 40
        shown = [point for point in given_.points if point.value or point.peak]
        assert len(lane.columns) == len(shown)
        for column in lane.columns:
            assert 0 <= column.x <= column.x + column.width <= 100.001
            assert LEAST <= column.height <= 40.001
            assert abs(column.y + column.height - lane.base) < 0.001
            assert column.peak is not None
            assert above + HEAD - 0.001 <= column.peak <= lane.base
        assert (lane.top == "none") == (not shown)
    assert drawn.lanes[-1].base < drawn.height


def test_the_table_has_what_was_and_when_newest_first() -> None:
    lanes = [
        Series("Refreshed", "alive", [Point(5), Point(0), Point(1234)], 40),
        Series("Failed", "waiting", [Point(0), Point(0), Point(2)], 20),
    ]
    drawn = chart("t", "s", lanes, newest=NEWEST, step=MINUTE)
    assert [(row.at, row.words) for row in drawn.rows] == [
        (NEWEST, ["1,234", "2"]),
        (NEWEST - 2 * MINUTE, ["5", "0"]),
    ]
    assert [column.is_open for column in drawn.lanes[0].columns] == [False, True]
    assert [label.text for label in drawn.labels] == ["3 min ago", "2 min", "1 min", "45 s", "now"]


def test_bars_compare() -> None:
    assert [(it.label, it.width) for it in shares([("a", 5, "x"), ("b", 10, "x"), ("c", 0, "x")])] == [
        ("a", 50),
        ("b", 100),
        ("c", 0),
    ]
    assert [it.width for it in shares([("a", 0, "x")])] == [0]
