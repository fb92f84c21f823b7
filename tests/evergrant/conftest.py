from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.evergrant.running import Running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """Starts a whole Evergrant, as often as it is called; all have ended after the test."""
    started: list[Running] = []

    def start(**kwargs: object) -> Running:
        started.append(Running(tmp_path_factory.mktemp("up") / "home", **kwargs))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for running in started:
        running.end()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One Evergrant that is up, for the tests of a module that leave it so."""
    running = Running(tmp_path_factory.mktemp("running") / "home")
    try:
        running.wait_for_banner()
        yield running
    finally:
        running.end()
