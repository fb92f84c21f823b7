"""A short storm over few owners: all promises hold, on both databases and in strict mode."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.chaos.plan import FULL, KILL_AT, OFTEN, plan
from tests.chaos.run import Chaos, run
from workers.steps import Step


def _plan(seed: int, **given: object) -> list[str]:
    asked = {"seconds": 600.0, "owners": 200, "database": "postgresql", "strict": False, **given}
    acts = plan(seed=seed, token_seconds=20, clocks=True, **asked)  # type: ignore[arg-type]
    return [str(act) for act in acts]


def test_the_same_seed_makes_the_same_plan() -> None:
    assert _plan(1) == _plan(1)
    assert _plan(1) != _plan(2)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_full_plan_strikes_often_enough(database: str) -> None:
    acts = plan(
        seed=1, seconds=FULL, owners=200, database=database, strict=False, token_seconds=20, clocks=True
    )
    meant = Counter(act.kind for act in acts)
    for step in Step:
        if step is not Step.ESCROWED:  # those come with SQL's refusals
            assert meant[KILL_AT[step]] > OFTEN
    tesla = {act.kind for act in acts if act.kind.startswith("Tesla: ") and "for" not in act.parameters}
    assert len(tesla) > 40
    for kind in tesla:
        assert sum(act.parameters.get("often", 1) for act in acts if act.kind == kind) >= OFTEN


@pytest.mark.processes
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("database", "strict"), [("sqlite", False), ("postgresql", False), ("postgresql", True)]
)
def test_a_short_storm_breaks_no_promise(database: str, strict: bool) -> None:
    chaos = Chaos(owners=12, seconds=20, seed=5, database=database, strict=strict, token_seconds=10)
    verdict = run(chaos, lambda _line: None)
    assert not verdict.broken, str(verdict)
