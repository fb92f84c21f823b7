"""The outbox: a message is there exactly when the change is, for who wants it, until it is taken."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

from models import attempts, consent, events, webhooks
from models.events import Kind
from models.webhooks import DELIVERED, FAILING, GIVEN_UP, GONE, WAITING, deliveries, endpoints

if TYPE_CHECKING:
    from models.webhooks import Delivery, Endpoint
    from tests.models.conftest import Table

DAY = 24 * 3600.0


class Outbox:
    """What a worker does with the outbox, one step at a time."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.database = table.database

    def add(self, *types: str) -> str:
        with self.database.write() as connection:
            return webhooks.add(connection, self.table.keyring, "https://example.com/hooks", types)[0]

    def held(self, endpoint: str) -> list[Delivery]:
        """Oldest first."""
        with self.database.read() as connection:
            return webhooks.latest(connection, endpoint, 100)[::-1]

    def types(self, endpoint: str) -> list[str]:
        return [delivery.type for delivery in self.held(endpoint)]

    def read(self, endpoint: str) -> Endpoint:
        with self.database.read() as connection:
            found = webhooks.read(connection, endpoint)
        assert found is not None
        return found

    def claim(self, slots: int = 8, seconds: float = 60) -> dict[str, str]:
        with self.database.write() as connection:
            return dict(webhooks.claim_due(connection, slots=slots, seconds=seconds))

    def take(self, endpoint: str, limit: int = 10) -> list[Delivery]:
        claim = self.claim().get(endpoint)
        if claim is None:
            return []
        with self.database.write() as connection:
            batch = webhooks.take(connection, endpoint, claim, limit)[1]
            webhooks.release(connection, endpoint, claim)
        return batch

    def taken(self, delivery: Delivery) -> None:
        to = self.read(delivery.endpoint)
        with self.database.write() as connection:
            webhooks.delivered(connection, to, delivery, 204)

    def fail(self, delivery: Delivery, *, retry_in: float = 60, patience: float = 5 * DAY) -> bool:
        to = self.read(delivery.endpoint)
        with self.database.write() as connection:
            return webhooks.failed(
                connection,
                to,
                delivery,
                status=500,
                error="HTTP 500",
                retry_in=retry_in,
                patience=patience,
            )

    def age(self, seconds: float) -> None:
        """So many seconds pass."""
        earlier = timedelta(seconds=seconds)
        with self.database.write() as connection:
            for table in (deliveries, endpoints):
                for row in connection.execute(select(table)).mappings().all():
                    values = {
                        name: value - earlier for name, value in row.items() if isinstance(value, datetime)
                    }
                    connection.execute(update(table).where(table.c.id == row["id"]).values(**values))


@pytest.fixture
def outbox(table: Table) -> Outbox:
    return Outbox(table)


def test_each_change_that_concerns_programs_is_told_once(outbox: Outbox) -> None:
    endpoint = outbox.add()
    table = outbox.table
    table.connect()
    table.settle(table.answer(table.attempt(), "refresh-1"))
    assert outbox.types(endpoint) == ["grant.connected"], "a plain refresh is no news"
    attempt = table.attempt(stale=99)
    with table.database.write() as connection:
        assert attempts.end_consent(
            connection,
            table.keyring,
            attempt,
            reason="login_required",
            detail="Tesla ended this grant",
            tried=["refresh-0", "refresh-1"],
        )
    consent.disconnect(table.database, "ann", correlation_id="c1")
    consent.disconnect(table.database, "ann", correlation_id="c2")
    assert outbox.types(endpoint) == ["grant.connected", "grant.needs_consent", "grant.disconnected"]
    ended = outbox.held(endpoint)[1]
    assert (ended.owner, ended.reason, ended.detail) == ("ann", "login_required", "Tesla ended this grant")
    assert ended.generation == attempt.generation
    assert ended.correlation_id == attempt.id


@pytest.mark.parametrize("kind", list(Kind))
def test_what_is_told_of_what_happens(outbox: Outbox, kind: Kind) -> None:
    endpoint = outbox.add()
    with outbox.database.write() as connection:
        events.record(connection, kind, owner="ann")
    told = {
        Kind.CONNECTED: "grant.connected",
        Kind.REVIVED: "grant.connected",
        Kind.NEEDS_CONSENT: "grant.needs_consent",
        Kind.ENDING: "grant.ending",
        Kind.DISCONNECTED: "grant.disconnected",
        Kind.OPERATOR_MUST_ACT: "operator.action_needed",
        Kind.WEBHOOKS_OFF: "operator.action_needed",
    }
    assert outbox.types(endpoint) == ([told[kind]] if kind in told else [])


def test_a_change_that_is_rolled_back_is_not_told(outbox: Outbox) -> None:
    endpoint = outbox.add()

    class Undone(Exception):
        pass

    def change() -> None:
        with outbox.database.write() as connection:
            events.record(connection, Kind.CONNECTED, owner="ann")
            raise Undone

    with pytest.raises(Undone):
        change()
    assert outbox.types(endpoint) == []


def test_who_is_erased_is_forgotten_but_for_the_word_of_it(outbox: Outbox) -> None:
    endpoint = outbox.add()
    outbox.table.connect("ann")
    outbox.table.connect("bob")
    consent.disconnect(outbox.database, "ann", correlation_id="c1")
    consent.erase(outbox.database, "ann")
    consent.erase(outbox.database, "nobody")
    assert [(held.type, held.owner, held.reason) for held in outbox.held(endpoint)] == [
        ("grant.connected", "bob", None),
        ("grant.disconnected", "ann", "erased"),
    ]


def test_each_endpoint_gets_what_it_wants_under_the_same_id(outbox: Outbox) -> None:
    everything, some, other = outbox.add(), outbox.add("grant.connected"), outbox.add("grant.disconnected")
    outbox.table.connect()
    assert outbox.types(everything) == outbox.types(some) == ["grant.connected"]
    assert outbox.held(everything)[0].message == outbox.held(some)[0].message
    assert outbox.types(other) == []


def test_what_stops_every_owner_is_told_once_an_hour(outbox: Outbox) -> None:
    endpoint = outbox.add()

    def stop(owner: str | None, reason: str) -> None:
        with outbox.database.write() as connection:
            events.record(connection, Kind.OPERATOR_MUST_ACT, owner=owner, reason=reason)

    for owner in ("ann", "bob", "ann"):
        stop(owner, "encryption_key")
    stop(None, "invalid_client")
    assert [held.reason for held in outbox.held(endpoint)] == ["encryption_key", "invalid_client"]
    outbox.age(3601)
    stop("bob", "encryption_key")
    assert [held.reason for held in outbox.held(endpoint)][-1] == "encryption_key"
    assert len(outbox.held(endpoint)) == 3


def test_an_endpoint_has_one_turn_at_a_time_until_its_claim_runs_out(outbox: Outbox) -> None:
    first, second = outbox.add(), outbox.add()
    assert outbox.claim() == {}, "nothing is due"
    outbox.table.connect()
    claims = outbox.claim(slots=1)
    assert len(claims) == 1
    assert outbox.claim(slots=1) == {}, "no slot is free"
    claims |= outbox.claim()
    assert set(claims) == {first, second}
    assert outbox.claim() == {}
    outbox.age(61)
    again = outbox.claim()
    assert set(again) == {first, second}
    with outbox.database.read() as connection, pytest.raises(LookupError):
        webhooks.take(connection, first, claims[first], 10)
    with outbox.database.write() as connection:
        webhooks.release(connection, first, claims[first])
        assert len(webhooks.take(connection, first, again[first], 10)[1]) == 1


def test_what_is_taken_is_not_due_again(outbox: Outbox) -> None:
    endpoint = outbox.add()
    outbox.table.connect()
    (delivery,) = outbox.take(endpoint)
    outbox.taken(delivery)
    assert outbox.take(endpoint) == []
    (held,) = outbox.held(endpoint)
    assert (held.state, held.attempts, held.status, held.error) == (DELIVERED, 1, 204, None)


def test_what_is_not_taken_is_due_later_and_others_do_not_wait_for_it(outbox: Outbox) -> None:
    endpoint = outbox.add()
    outbox.table.connect("ann")
    (disliked,) = outbox.take(endpoint)
    assert not outbox.fail(disliked)
    assert outbox.take(endpoint) == []
    outbox.table.connect("bob")
    (liked,) = outbox.take(endpoint)
    assert liked.owner == "bob"
    outbox.taken(liked)
    assert outbox.read(endpoint).failing_since is None
    assert outbox.take(endpoint) == [], "one that it does not like keeps its own time"
    outbox.age(61)
    (again,) = outbox.take(endpoint)
    assert (again.message, again.attempts) == (disliked.message, 1)


def test_while_an_endpoint_fails_one_at_a_time_is_tried_and_when_it_is_back_all_at_once(
    outbox: Outbox,
) -> None:
    endpoint = outbox.add()
    for owner in ("ann", "bob", "cat"):
        outbox.table.connect(owner)
    batch = outbox.take(endpoint)
    assert len(batch) == 3
    for delivery, retry_in in zip(batch, (60, 7200, 61), strict=True):
        outbox.fail(delivery, retry_in=retry_in)
    outbox.age(3600)
    outbox.table.connect("dan")
    (only,) = outbox.take(endpoint)
    assert only.owner == "ann"
    outbox.taken(only)
    assert {delivery.owner for delivery in outbox.take(endpoint)} == {"bob", "cat", "dan"}


def test_one_message_that_is_never_taken_is_given_up_after_days(outbox: Outbox) -> None:
    endpoint = outbox.add()
    outbox.table.connect("ann")
    (disliked,) = outbox.take(endpoint)
    outbox.age(6 * DAY)
    (disliked,) = outbox.take(endpoint)
    assert not outbox.fail(disliked)
    assert outbox.read(endpoint).off_because is None
    assert [held.state for held in outbox.held(endpoint)] == [GIVEN_UP]
    assert outbox.take(endpoint) == []


def test_an_endpoint_that_fails_for_days_is_off_and_misses_nothing(outbox: Outbox) -> None:
    endpoint = outbox.add()
    outbox.table.connect("ann")
    outbox.fail(*outbox.take(endpoint))
    outbox.age(6 * DAY)
    (late,) = outbox.take(endpoint)
    assert outbox.fail(late), "said once"
    assert not outbox.fail(late)
    assert outbox.read(endpoint).off_because == FAILING
    outbox.table.connect("bob")
    outbox.age(3600)
    assert outbox.take(endpoint) == []
    assert [held.state for held in outbox.held(endpoint)] == [WAITING, WAITING]
    with outbox.database.write() as connection:
        assert webhooks.replay(connection, endpoint) == 2
    assert [delivery.owner for delivery in outbox.take(endpoint)] == ["ann", "bob"]


def test_an_endpoint_that_says_it_is_gone_gets_nothing_more(outbox: Outbox) -> None:
    endpoint = outbox.add()
    outbox.table.connect("ann")
    (delivery,) = outbox.take(endpoint)
    with outbox.database.write() as connection:
        to = webhooks.read(connection, endpoint)
        assert to is not None
        assert webhooks.gone(connection, to, delivery, status=410, error="HTTP 410")
        assert not webhooks.gone(connection, to, delivery, status=410, error="HTTP 410")
    assert outbox.read(endpoint).off_because == GONE
    outbox.table.connect("bob")
    assert outbox.types(endpoint) == ["grant.connected"]


def test_replay_sends_one_again_or_a_span_or_what_was_not_taken(outbox: Outbox) -> None:
    endpoint = outbox.add()
    for owner in ("ann", "bob"):
        outbox.table.connect(owner)
    for delivery in outbox.take(endpoint):
        outbox.taken(delivery)
    _, bob = outbox.held(endpoint)
    with outbox.database.write() as connection:
        assert webhooks.replay(connection, endpoint) == 0
        assert webhooks.replay(connection, endpoint, message="msg_unknown") == 0
        assert webhooks.replay(connection, endpoint, message=bob.message) == 1
    (again,) = outbox.take(endpoint)
    assert (again.message, again.attempts) == (bob.message, 0)
    with outbox.database.write() as connection:
        assert webhooks.replay(connection, endpoint, since=60) == 2


def test_a_rotated_secret_signs_beside_the_new_one_for_a_while(outbox: Outbox) -> None:
    endpoint = outbox.add()
    keyring = outbox.table.keyring
    (first,) = outbox.read(endpoint).secrets(keyring)
    with outbox.database.write() as connection:
        second = webhooks.rotate(connection, keyring, endpoint, overlap=60)
        assert webhooks.rotate(connection, keyring, "ep_unknown", overlap=60) is None
    assert outbox.read(endpoint).secrets(keyring) == [second, first]
    outbox.age(61)
    assert outbox.read(endpoint).secrets(keyring) == [second]
    with outbox.database.read() as connection:
        row = connection.execute(select(endpoints)).one()
    assert second is not None
    assert second.encode() not in row.secret
    assert first.encode() not in row.previous_secret
    assert second not in repr(outbox.read(endpoint))


def test_what_is_old_is_purged_and_what_is_removed_is_gone(outbox: Outbox) -> None:
    endpoint = outbox.add()
    outbox.table.connect("ann")
    outbox.table.connect("bob")
    outbox.age(webhooks.KEPT - 60)
    with outbox.database.write() as connection:
        assert webhooks.purge(connection) == 0
    outbox.age(120)
    outbox.table.connect("cat")
    with outbox.database.write() as connection:
        assert webhooks.purge(connection, limit=1) == 1
        assert webhooks.purge(connection) == 1
    assert [held.owner for held in outbox.held(endpoint)] == ["cat"]
    with outbox.database.write() as connection:
        assert webhooks.waiting(connection) == {endpoint: 1}
        assert webhooks.remove(connection, endpoint)
        assert not webhooks.remove(connection, endpoint)
        assert webhooks.read_all(connection) == []
        assert connection.execute(select(deliveries.c.id)).all() == []
