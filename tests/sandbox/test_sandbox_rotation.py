"""Families and rotation under every reading, with a clock that is turned by hand."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.config import DAY, Config
from sandbox.record import Record
from sandbox.store import Store
from sandbox.tesla import Refused, Tesla, sub_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class World:
    """Tesla, one owner and a clock."""

    def __init__(self, home: Path, **config: Any) -> None:
        self.now = 1_000_000.0
        self.config = Config(home=home, **config)
        self.store = Store(home / "sandbox.db")
        self.tesla = Tesla(self.store, self.config, lambda: self.now)

    def sign_in(self, name: str = "Ada") -> str:
        code = self.tesla.allow(
            name=name, region=None, scopes=["openid", "offline_access"], redirect_uri="http://app/cb"
        )
        issued = self.tesla.exchange_code(
            code=code, redirect_uri="http://app/cb", audience="http://fleet/na", verifier=""
        )
        assert issued.refresh_token
        return issued.refresh_token

    def refresh(self, token: str, *, rotate: bool = True) -> str:
        issued = self.tesla.refresh(token, rotate=rotate)
        assert issued.refresh_token
        return issued.refresh_token

    def refused(self, token: str) -> None:
        with pytest.raises(Refused) as refusal:
            self.tesla.refresh(token)
        assert (refusal.value.status, refusal.value.error) == (401, "login_required")
        assert token not in str(refusal.value)

    def seen(self, name: str = "Ada") -> dict[str, Any]:
        owners = Record(self.store, self.config).owners()
        return next(owner for owner in owners if owner["sub"] == sub_of(name))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    worlds = []

    def make(**config: Any) -> World:
        worlds.append(World(tmp_path, **config))
        return worlds[-1]

    yield make
    for each in worlds:
        each.store.close()


def test_each_rotation_is_one_generation(world: Callable[..., World]) -> None:
    tesla = world()
    token = tesla.sign_in()
    assert tesla.seen()["generation"] == 0
    for generation in range(1, 5):
        token = tesla.refresh(token)
        assert tesla.seen()["generation"] == generation
    tesla.sign_in()
    seen = tesla.seen()
    assert (seen["generation"], seen["rotations"], seen["sign_ins"]) == (5, 4, 2)
    assert seen["superseded_presented"] == seen["reused_in_grace"] == 0


def test_the_last_used_token_stays_usable_for_24_hours(world: Callable[..., World]) -> None:
    tesla = world()
    first = tesla.sign_in()
    lost = tesla.refresh(first)
    tesla.now += DAY - 1
    found = tesla.refresh(first)
    assert found != lost
    assert tesla.seen()["reused_in_grace"] == 1
    tesla.now += 2  # counted from its first use: the second did not prolong it
    tesla.refused(first)
    assert tesla.seen()["superseded_presented"] == 1
    assert tesla.seen()["alive"]
    tesla.refresh(found)


def test_anything_older_than_the_last_used_is_superseded(world: Callable[..., World]) -> None:
    tesla = world()
    first = tesla.sign_in()
    second = tesla.refresh(first)
    third = tesla.refresh(second)
    tesla.refused(first)
    tesla.refresh(second)
    tesla.refresh(third)
    seen = tesla.seen()
    assert (seen["superseded_presented"], seen["reused_in_grace"], seen["alive"]) == (1, 1, True)


def test_reading_one_the_lost_answers_token_lives_until_a_newer_one_is_used(
    world: Callable[..., World],
) -> None:
    tesla = world()
    first = tesla.sign_in()
    lost = tesla.refresh(first)
    tesla.refresh(first)
    tesla.refresh(lost)
    tesla.refused(first)

    other = tesla.sign_in()
    lost = tesla.refresh(other)
    tesla.refresh(tesla.refresh(other))
    tesla.refused(lost)


def test_reading_two_using_it_again_kills_the_lost_answers_token(world: Callable[..., World]) -> None:
    tesla = world(reuse_kills_lost_answer=True)
    first = tesla.sign_in()
    lost = tesla.refresh(first)
    found = tesla.refresh(first)
    tesla.refused(lost)
    assert tesla.seen()["superseded_presented"] == 1
    tesla.refresh(found)


def test_strict_revokes_the_family_at_the_first_superseded_token(world: Callable[..., World]) -> None:
    tesla = world(strict=True)
    first = tesla.sign_in()
    second = tesla.refresh(first)
    tesla.refused(first)
    tesla.refused(second)
    seen = tesla.seen()
    assert (seen["superseded_presented"], seen["reused_in_grace"], seen["revoked_presented"]) == (1, 0, 1)
    assert (seen["alive"], seen["revoked_because"]) == (False, "superseded")
    tesla.refresh(tesla.sign_in())
    assert tesla.seen()["alive"]


@pytest.mark.parametrize(("age", "good"), [(90 * DAY - 1, True), (90 * DAY + 1, False)])
def test_an_unused_token_lives_three_months(world: Callable[..., World], age: float, good: bool) -> None:
    tesla = world()
    token = tesla.sign_in()
    tesla.now += age
    if good:
        tesla.refresh(token)
    else:
        tesla.refused(token)
    assert tesla.seen()["expired_presented"] == (not good)


def test_a_code_lives_for_a_minute(world: Callable[..., World]) -> None:
    tesla = world()
    code = tesla.tesla.allow(name="Ada", region=None, scopes=["openid"], redirect_uri="http://app/cb")
    tesla.now += 61
    with pytest.raises(Refused) as refusal:
        tesla.tesla.exchange_code(code=code, redirect_uri="http://app/cb", audience="x", verifier="")
    assert refusal.value.error == "invalid_auth_code"


@pytest.mark.parametrize("because", ["withdrawn", "password"])
def test_revoking_ends_every_family_of_the_owner_and_of_nobody_else(
    world: Callable[..., World], because: str
) -> None:
    tesla = world()
    older, newer, others = tesla.sign_in(), tesla.sign_in(), tesla.sign_in("Volta")
    assert tesla.tesla.revoke(sub_of("Ada"), because)
    assert not tesla.tesla.revoke(sub_of("Nobody"), because)
    tesla.refused(older)
    tesla.refused(newer)
    tesla.refresh(others)
    seen = tesla.seen()
    assert (seen["alive"], seen["revoked_because"], seen["revoked_presented"]) == (False, because, 2)
    tesla.refresh(tesla.sign_in())


def test_a_new_sign_in_leaves_the_earlier_family_as_it_is(world: Callable[..., World]) -> None:
    tesla = world()
    earlier, later = tesla.sign_in(), tesla.sign_in()
    tesla.refresh(tesla.refresh(later))
    tesla.refresh(earlier)
    assert tesla.seen()["superseded_presented"] == 0


def test_an_older_token_tried_after_the_newest_was_refused_is_counted_apart(
    world: Callable[..., World],
) -> None:
    tesla = world()
    first = tesla.sign_in()
    second = tesla.refresh(first)
    third = tesla.refresh(second)
    tesla.tesla.note_refusal(first)  # superseded itself: no excuse
    tesla.refused(first)
    tesla.tesla.note_refusal(third)
    tesla.refused(first)
    seen = tesla.seen()
    assert (seen["superseded_presented"], seen["superseded_after_refusal"]) == (1, 1)
    tesla.refresh(third)
    tesla.refused(first)  # there was a newer answer since
    assert tesla.seen()["superseded_presented"] == 2


def test_without_rotating_the_token_stays_fresh(world: Callable[..., World]) -> None:
    tesla = world()
    token = tesla.sign_in()
    assert tesla.refresh(token, rotate=False) == token
    tesla.refresh(token)
    seen = tesla.seen()
    assert (seen["generation"], seen["rotations"], seen["reused_in_grace"]) == (1, 1, 0)


def test_threads_that_present_one_token_at_once_are_each_noticed(world: Callable[..., World]) -> None:
    tesla = world()
    token = tesla.sign_in()
    gate = threading.Barrier(16)

    def present(_: int) -> str:
        gate.wait(10)
        return tesla.refresh(token)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(present, range(16)))
    seen = tesla.seen()
    assert len(set(answers)) == 16
    assert (seen["rotations"], seen["reused_in_grace"], seen["generation"]) == (16, 15, 16)


def test_strict_lets_one_of_two_at_once_through_and_ends_the_family(world: Callable[..., World]) -> None:
    tesla = world(strict=True)
    token = tesla.sign_in()
    gate = threading.Barrier(8)

    def present(_: int) -> bool:
        gate.wait(10)
        try:
            tesla.refresh(token)
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(present, range(8)))
    assert sum(answers) == 1
    seen = tesla.seen()
    assert (seen["superseded_presented"], seen["revoked_presented"], seen["alive"]) == (1, 6, False)


def test_names_make_subs(tmp_path: Path) -> None:
    assert sub_of("Ada  Ampere ") == sub_of("ada ampere") != sub_of("Ada Amper")
