"""A token that moves here, whatever Tesla answers to its one refresh."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from fleet.claims import unverified_claims
from models import grants, imports, spares
from models.consent import SignIn
from models.grants import State
from models.imports import Fate
from models.session import now
from workers import importer as importing
from workers.importer import ALIVE, Importer, OperatorMustAct

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.workers.conftest import World
    from workers.parts import Parts

_numbers = itertools.count()


class Elsewhere:
    """Another program, and what moves here from it."""

    def __init__(self, world: World, make: Callable[..., Parts]) -> None:
        self.world = world
        self.tesla = world.tesla
        urls = {f"tesla_fleet_url_{region}": f"{self.tesla.url}/{region}" for region in ("na", "eu", "cn")}
        self.parts = make(attempt_deadline=1, **urls)
        self.stopping = threading.Event()
        self.importer = Importer(self.parts, rate=1000, stopping=self.stopping)

    def sign_in(self, **fields: Any) -> tuple[str, str, str]:
        """A name, the owner's id and a refresh token."""
        name = f"Elsewhere {next(_numbers)}"
        tokens = self.tesla.sign_in(name, **fields)
        return name, str(unverified_claims(tokens["access_token"])["sub"]), tokens["refresh_token"]

    def row(self, token: str) -> imports.Import:
        with self.parts.database.read() as connection:
            found = imports.read(connection, imports.digest(token))
        assert found is not None
        return found

    def current(self, owner: str) -> str:
        with self.parts.database.read() as connection:
            row = connection.execute(select(grants.grants).where(grants.grants.c.owner == owner)).one()
        place = {"owner": owner, "column": "refresh_token", "generation": row.generation}
        return self.parts.keyring.open(row.refresh_token, **place)

    def is_newest(self, owner: str) -> bool:
        """Whether the token that is held is the newest that Tesla has given: fresh, not in its grace."""
        before = self.world.seen(owner)["reused_in_grace"]
        fine = self.tesla.refresh(self.current(owner)).status_code == 200
        return fine and self.world.seen(owner)["reused_in_grace"] == before


@pytest.fixture
def elsewhere(world: World, make: Callable[..., Parts]) -> Elsewhere:
    return Elsewhere(world, make)


def test_its_owner_is_alive_here_by_one_refresh(elsewhere: Elsewhere) -> None:
    _, owner, token = elsewhere.sign_in(region="EU")
    moved = elsewhere.importer.move(token)
    assert (moved.fate, moved.owner, moved.before) == (Fate.IMPORTED, owner, False)
    grant = elsewhere.world.grant(owner)
    assert (grant.state, grant.region) == (State.ALIVE, "EU")
    assert grant.fleet_url.endswith("/eu")
    assert elsewhere.world.seen(owner)["rotations"] == 1
    again = elsewhere.importer.move(token)
    assert (again.fate, again.owner, again.before) == (Fate.IMPORTED, owner, True)
    assert elsewhere.world.seen(owner)["calls"] == elsewhere.world.seen(owner)["rotations"] + 1
    assert elsewhere.is_newest(owner)


def test_the_region_is_what_tesla_says_and_not_what_the_token_looks_like(elsewhere: Elsewhere) -> None:
    name, owner, token = elsewhere.sign_in(region="NA")
    elsewhere.tesla.code(name, region="EU")  # the owner has moved
    elsewhere.importer.move(token)
    assert elsewhere.world.grant(owner).region == "EU"


def test_a_dead_one_is_tried_once_and_never_again(elsewhere: Elsewhere) -> None:
    name, owner, token = elsewhere.sign_in()
    elsewhere.tesla.withdraw(name)
    moved = elsewhere.importer.move(token)
    assert (moved.fate, moved.reason) == (Fate.DEAD, "login_required")
    assert elsewhere.importer.move(token) == importing.Moved(
        Fate.DEAD, None, moved.reason, moved.detail, before=True
    )
    assert elsewhere.world.seen(owner)["revoked_presented"] == 1


def test_an_owner_who_is_known_to_be_alive_here_is_left_alone(elsewhere: Elsewhere) -> None:
    _, owner, token = elsewhere.sign_in()
    elsewhere.world.connect(owner, elsewhere.tesla.sign_in("Somebody Else"))
    calls = elsewhere.world.seen(owner)["calls"]
    assert elsewhere.importer.move(token, owner=owner).reason == ALIVE
    assert elsewhere.world.seen(owner)["calls"] == calls


def test_a_live_grant_is_not_harmed_even_when_both_are_of_one_family(
    elsewhere: Elsewhere, at_step: Any
) -> None:
    _, owner, token = elsewhere.sign_in()
    tokens = elsewhere.tesla.refresh(token).json()
    elsewhere.world.connect(owner, tokens)
    held = elsewhere.current(owner)
    assert elsewhere.importer.move(token).fate is Fate.BESIDE
    assert elsewhere.current(owner) == held
    with elsewhere.parts.database.read() as connection:
        assert len(spares.held(connection, elsewhere.parts.keyring, owner)) == 1
    elsewhere.world.parts.refresher.refresh(owner)
    assert elsewhere.world.grant(owner).generation == 1


@pytest.mark.parametrize("fault", ["hang", "cut_body", "reset", "truncated_json"])
def test_an_answer_that_is_lost_is_had_with_the_same_token_again(elsewhere: Elsewhere, fault: str) -> None:
    name, owner, token = elsewhere.sign_in()
    elsewhere.tesla.fault(fault, owner=name, where="after", count=1)
    assert elsewhere.importer.move(token).fate is Fate.IMPORTED
    seen = elsewhere.world.seen(owner)
    assert (seen["superseded_presented"], seen["overlaps_live"]) == (0, 0)
    assert elsewhere.is_newest(owner)


def test_while_tesla_may_still_be_at_it_the_token_is_not_sent_again(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _, token = elsewhere.sign_in()
    monkeypatch.setattr(importing, "TRIES", 1)
    monkeypatch.setattr(importing, "GRACE", 600.0)
    elsewhere.tesla.fault("reset", owner=name, where="after", count=1)
    assert elsewhere.importer.move(token).fate is Fate.WAITING
    row = elsewhere.row(token)
    assert (row.fate, row.wait > 0) == (Fate.SENT, True)
    assert imports.begin(elsewhere.parts.database, imports.digest(token), seconds=60) is None


@pytest.mark.parametrize("fault", ["down_503", "waf_403", "server_error_400"])
def test_it_waits_for_tesla(elsewhere: Elsewhere, fault: str) -> None:
    name, owner, token = elsewhere.sign_in()
    elsewhere.tesla.fault(fault, owner=name, count=2)
    assert elsewhere.importer.move(token).fate is Fate.IMPORTED
    assert elsewhere.world.seen(owner)["rotations"] == 1


def test_it_stops_when_tesla_does_not_know_the_app_and_nothing_is_lost(elsewhere: Elsewhere) -> None:
    _, owner, token = elsewhere.sign_in()
    elsewhere.tesla.fault("invalid_client", count=1)
    with pytest.raises(OperatorMustAct, match="invalid_client"):
        elsewhere.importer.move(token)
    assert elsewhere.row(token).fate is Fate.WAITING
    with pytest.raises(OperatorMustAct):
        elsewhere.importer.move(token)
    elsewhere.parts.redis.flushall()
    assert elsewhere.importer.move(token).fate is Fate.IMPORTED
    assert elsewhere.world.seen(owner)["rotations"] == 1


def test_who_is_told_to_stop_begins_nothing(elsewhere: Elsewhere) -> None:
    _, owner, token = elsewhere.sign_in()
    elsewhere.stopping.set()
    assert elsewhere.importer.move(token).fate is Fate.WAITING
    assert elsewhere.world.seen(owner)["rotations"] == 0


def test_an_attempt_of_a_run_that_was_killed_is_waited_for(elsewhere: Elsewhere) -> None:
    _, owner, token = elsewhere.sign_in()
    begun = imports.begin(elsewhere.parts.database, imports.digest(token), seconds=60)
    assert begun is not None
    mover = threading.Thread(target=elsewhere.importer.move, args=(token,))
    mover.start()
    mover.join(1.5)
    assert mover.is_alive()
    assert elsewhere.world.seen(owner)["rotations"] == 0
    with elsewhere.parts.database.write() as connection:
        connection.execute(update(imports.imports).values(attempt_deadline=now(-1)))
    mover.join(30)
    assert elsewhere.row(token).fate is Fate.IMPORTED


def test_what_sql_does_not_take_waits_in_the_escrow(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, owner, token = elsewhere.sign_in()
    connect = SignIn.store
    away = threading.Event()
    away.set()

    def store(self: Any, *given: Any) -> Any:
        if away.is_set():
            raise OperationalError("no", None, Exception())
        return connect(self, *given)

    monkeypatch.setattr(SignIn, "store", store)
    monkeypatch.setattr(importing, "STORE_SECONDS", 0.1)
    moved = elsewhere.importer.move(token)
    assert (moved.fate, moved.owner, moved.reason) == (Fate.IMPORTED, owner, "escrow")
    assert elsewhere.row(token).fate is Fate.SENT
    away.clear()
    # The next run finds it there, and spends nothing.
    assert elsewhere.importer.move(token).before
    assert elsewhere.world.seen(owner)["rotations"] == 1
    assert elsewhere.is_newest(owner)


def test_a_token_of_nobody_is_kept_until_its_owner_is_named(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, owner, token = elsewhere.sign_in()
    monkeypatch.setattr(importing, "_owner", lambda _: None)
    monkeypatch.setattr(importing, "TRIES", 1)
    moved = elsewhere.importer.move(token)
    assert (moved.fate, moved.reason) == (Fate.WAITING, "no_owner")
    assert elsewhere.importer.move(token, owner=owner).fate is Fate.IMPORTED
    seen = elsewhere.world.seen(owner)
    assert (seen["rotations"], seen["reused_in_grace"], seen["superseded_presented"]) == (2, 0, 0)
    assert elsewhere.is_newest(owner)


def test_turns_are_spread_evenly() -> None:
    pace = importing._Pace(10)
    turns = [pace.turn() for _ in range(5)]
    assert turns[0] == 0
    assert [0.05 < later - earlier <= 0.11 for earlier, later in itertools.pairwise(turns)] == [True] * 4
