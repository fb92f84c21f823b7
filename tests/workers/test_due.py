"""When a grant falls due, how long a failure waits, and which lane an owner has."""

from __future__ import annotations

import random
from statistics import fmean

from hypothesis import given
from hypothesis import strategies as st

from workers.due import LONGEST_WAIT, Pacing
from workers.lanes import all_lanes, lane
from workers.refresh import GRACE, lock_life


@given(
    life=st.floats(1, 1e7),
    share=st.floats(0.01, 0.99),
    sweep=st.floats(0.1, 60),
    seed=st.integers(0, 2**32),
)
def test_due_is_within_the_life_and_never_after_its_share(
    life: float, share: float, sweep: float, seed: int
) -> None:
    due = Pacing(share, sweep, random.Random(seed)).due_after(life)
    assert 0 < due <= life * share
    assert due <= max(life - 3 * sweep, life / 2), "there is time for three sweeps before it ends"


def test_an_eight_hour_token_is_refreshed_after_six_hours_or_a_little_earlier() -> None:
    pacing = Pacing(0.75, 5, random.Random(1))
    hours = [pacing.due_after(28800) / 3600 for _ in range(1000)]
    assert 5.4 <= min(hours) < 5.5
    assert 5.9 < max(hours) <= 6
    assert 5.6 < fmean(hours) < 5.8


def test_waits_grow_with_full_jitter_up_to_a_bound() -> None:
    pacing = Pacing(0.75, 5, random.Random(1))
    means = [fmean(pacing.wait_after(failures) for _ in range(2000)) for failures in range(12)]
    assert 0.8 < means[0] < 1.2
    assert means[3] > 6
    assert all(pacing.wait_after(10_000) <= LONGEST_WAIT for _ in range(100))
    assert min(pacing.wait_after(10) for _ in range(2000)) < 3, "full jitter starts at nothing"


def test_an_owner_keeps_its_lane_and_owners_spread() -> None:
    assert lane("26e920d7-ce1f-5f0c-ae72-b8aaf2ab75bb", 8) == "refresh.01"
    lanes = [lane(f"owner-{number}", 8) for number in range(8000)]
    assert set(lanes) == set(all_lanes(8)) == {f"refresh.{number:02d}" for number in range(8)}
    assert all(800 < lanes.count(each) < 1200 for each in all_lanes(8))


@given(deadline=st.floats(0.1, 300))
def test_the_lock_outlives_the_row_and_the_row_outlives_the_call(deadline: float) -> None:
    assert lock_life(deadline) > deadline + GRACE > deadline
