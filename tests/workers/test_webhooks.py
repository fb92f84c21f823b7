"""Webhooks over real HTTP: signed, sent until they are taken, and sent nowhere that they must not go."""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib
import json
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, update
from standardwebhooks import Webhook, WebhookVerificationError

from models import consent, events, webhooks
from models.events import Kind
from models.session import now
from models.webhooks import DELIVERED, GIVEN_UP, WAITING, deliveries, endpoints
from tests.fleet.wire import Request, Wire
from workers.webhooks import Deliverer, Places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.webhooks import Delivery, Endpoint
    from workers.parts import Parts

RUNNING = threading.Event()


class Receiver:
    """An endpoint of ours, and the deliverer that sends to it."""

    def __init__(self, parts: Parts, wire: Wire) -> None:
        self.parts = parts
        self.wire = wire
        self.deliverer = Deliverer(parts)
        with parts.database.write() as connection:
            self.id, self.secret = webhooks.add(connection, parts.keyring, wire.url)

    def say(self, owner: str = "ann", kind: Kind = Kind.CONNECTED, **more: Any) -> None:
        with self.parts.database.write() as connection:
            events.record(connection, kind, owner=owner, **more)

    def turn(self) -> None:
        """What the sweep and the task do."""
        for endpoint, claim in self.deliverer.claim():
            self.deliverer.turn(endpoint, claim, RUNNING)

    def due(self) -> None:
        with self.parts.database.write() as connection:
            waiting = deliveries.c.next_at.is_not(None)
            connection.execute(update(deliveries).where(waiting).values(next_at=now()))

    def held(self) -> list[Delivery]:
        with self.parts.database.read() as connection:
            return webhooks.latest(connection, self.id, 100)[::-1]

    def read(self) -> Endpoint:
        with self.parts.database.read() as connection:
            found = webhooks.read(connection, self.id)
        assert found is not None
        return found

    def ids(self) -> list[str | None]:
        return [request.header("webhook-id") for request in self.wire.requests]


def no_content(request: Request) -> None:
    request.reply(204)


@pytest.fixture
def receive(make: Callable[..., Parts]) -> Iterator[Callable[..., Receiver]]:
    """Makes a receiver whose answers are scripted."""
    open_wires: list[Wire] = []

    def start(script: Callable[[Request], None] = no_content, **settings: Any) -> Receiver:
        values: dict[str, Any] = {"webhook_networks": "127.0.0.0/8", "webhook_deadline": 5}
        open_wires.append(Wire(script).__enter__())
        return Receiver(make(**values | settings), open_wires[-1])

    yield start
    for wire in open_wires:
        wire.__exit__()


def headers(request: Request) -> dict[str, str]:
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    return {name: request.header(name) or "" for name in names}


def test_a_strangers_verifier_accepts_what_is_sent(receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    receiver.say(
        kind=Kind.NEEDS_CONSENT,
        reason="login_required",
        detail="said by Tesla",
        generation=7,
        correlation_id="c",
    )
    receiver.turn()
    (request,) = receiver.wire.requests
    said = Webhook(receiver.secret).verify(request.body, headers(request))
    assert request.header("Content-Type") == "application/json"
    assert said["type"] == "grant.needs_consent"
    assert said["data"] == {
        "owner": "ann",
        "reason": "login_required",
        "title": "Tesla ended this grant",
        "repair": "Sign in with Tesla again to reconnect.",
        "detail": "said by Tesla",
        "generation": 7,
        "correlation_id": "c",
        "reconnect_url": "http://localhost:8000/signin",
    }
    # By the convention's own words, without anybody's library.
    signed = (
        f"{headers(request)['webhook-id']}.{headers(request)['webhook-timestamp']}.{request.body.decode()}"
    )
    key = base64.b64decode(receiver.secret.removeprefix("whsec_"))
    mac = base64.b64encode(hmac.new(key, signed.encode(), hashlib.sha256).digest()).decode()
    assert headers(request)["webhook-signature"] == f"v1,{mac}"
    assert abs(int(headers(request)["webhook-timestamp"]) - time.time()) < 60
    with pytest.raises(WebhookVerificationError):
        Webhook(webhooks.new_secret()).verify(request.body, headers(request))
    assert receiver.held()[0].state == DELIVERED


def test_after_a_rotation_both_secrets_verify(receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    with receiver.parts.database.write() as connection:
        new = webhooks.rotate(connection, receiver.parts.keyring, receiver.id, overlap=60)
    assert new is not None
    receiver.say()
    receiver.turn()
    (request,) = receiver.wire.requests
    for secret in (receiver.secret, new):
        assert Webhook(secret).verify(request.body, headers(request))


def test_no_token_is_in_a_webhook(receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    parts = receiver.parts
    consent.connect(
        parts.database,
        parts.keyring,
        owner="ann",
        access_token="the-access-token",
        refresh_token="the-refresh-token",
        expires_in=60,
        due_in=60,
        requested_scopes="openid",
        scopes="openid",
        region="NA",
        fleet_url="http://localhost/na",
        correlation_id=secrets.token_hex(8),
    )
    receiver.turn()
    (request,) = receiver.wire.requests
    assert b"token" not in request.body
    assert json.loads(request.body)["data"]["generation"] == 0


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_good_status_means_taken_whatever_follows(receive: Callable[..., Receiver], status: int) -> None:
    def endless(request: Request) -> None:
        request.send(f"HTTP/1.1 {status} Word\r\nContent-Length: 100000000\r\n\r\n".encode() + bytes(100_000))

    receiver = receive(endless)
    receiver.say()
    receiver.turn()
    assert receiver.held()[0].state == DELIVERED


@pytest.mark.parametrize("status", [301, 307, 400, 404, 500, 503])
def test_any_other_means_again_later(receive: Callable[..., Receiver], status: int) -> None:
    receiver = receive(
        lambda request: request.reply(status, headers={"Location": f"{request.wire.url}/other"})
    )
    receiver.say()
    receiver.turn()
    receiver.turn()
    (held,) = receiver.held()
    assert len(receiver.wire.requests) == 1, "neither followed nor sent again at once"
    assert (held.state, held.status, held.attempts) == (WAITING, status, 1)
    assert str(status) in (held.error or "")


def test_it_waits_longer_each_time_and_as_long_as_it_is_told(receive: Callable[..., Receiver]) -> None:
    receiver = receive(lambda request: request.reply(500), webhook_first_wait=5)
    receiver.say()
    waits = []
    for _ in range(4):
        receiver.turn()
        (held,) = receiver.held()
        assert held.next_at is not None
        assert held.tried_at is not None
        waits.append((held.next_at - held.tried_at).total_seconds())
        receiver.due()
    assert [5 * 2**at / 2 <= wait <= 5 * 2**at for at, wait in enumerate(waits)] == [True] * 4, waits
    receiver.wire.script = lambda request: request.reply(503, headers={"Retry-After": "1800"})
    receiver.turn()
    (held,) = receiver.held()
    assert held.next_at is not None
    assert held.tried_at is not None
    assert (held.next_at - held.tried_at).total_seconds() >= 1799


def test_410_turns_it_off_and_the_others_are_told(receive: Callable[..., Receiver]) -> None:
    receiver = receive(lambda request: request.reply(410))
    with receiver.parts.database.write() as connection:
        other, _ = webhooks.add(
            connection, receiver.parts.keyring, "https://example.com/", ["operator.action_needed"]
        )
    receiver.say("ann")
    receiver.turn()
    receiver.say("bob")
    receiver.due()
    receiver.turn()
    assert len(receiver.wire.requests) == 1
    assert [held.state for held in receiver.held()] == [GIVEN_UP]
    with receiver.parts.database.read() as connection:
        (told,) = webhooks.latest(connection, other, 10)
        event = connection.execute(select(events.events).where(events.events.c.owner.is_(None))).one()
    assert told.reason == "webhooks_off"
    assert receiver.id in (told.detail or "")
    assert event.kind == Kind.WEBHOOKS_OFF


def test_days_of_failing_turn_it_off_with_an_event(receive: Callable[..., Receiver]) -> None:
    receiver = receive(lambda request: request.reply(500), webhook_days=5)
    receiver.say()
    receiver.turn()
    with receiver.parts.database.write() as connection:
        connection.execute(update(endpoints).values(failing_since=now(-6 * 24 * 3600)))
    receiver.due()
    receiver.turn()
    assert receiver.read().off_because == webhooks.FAILING
    with receiver.parts.database.read() as connection:
        event = connection.execute(select(events.events).where(events.events.c.owner.is_(None))).one()
    assert (event.kind, receiver.id in (event.detail or "")) == (Kind.WEBHOOKS_OFF, True)


def test_a_receiver_that_drips_is_left_at_the_deadline(receive: Callable[..., Receiver]) -> None:
    receiver = receive(lambda request: request.drip(b"HTTP/1.1 200 OK\r\n" * 100), webhook_deadline=0.5)
    receiver.say()
    began = time.monotonic()
    receiver.turn()
    assert time.monotonic() - began < 5
    (held,) = receiver.held()
    assert (held.state, held.status) == (WAITING, None)
    assert "deadline" in (held.error or "")


def test_some_are_under_way_at_once_and_no_more(receive: Callable[..., Receiver]) -> None:
    gate = threading.Barrier(4)
    under_way = threading.Semaphore(4)

    def together(request: Request) -> None:
        assert under_way.acquire(blocking=False), "a fifth at once"
        gate.wait(20)
        under_way.release()
        request.reply(204)

    receiver = receive(together, webhook_deadline=30)
    for number in range(8):
        receiver.say(f"owner {number}")
    receiver.turn()
    assert len(receiver.wire.requests) == 8
    assert {held.state for held in receiver.held()} == {DELIVERED}


def test_who_stalls_past_its_claim_disturbs_nobody(receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    receiver.say()
    ((endpoint, claim),) = receiver.deliverer.claim()
    with receiver.parts.database.write() as connection:
        connection.execute(update(endpoints).values(claimed_until=now(-1)))
    receiver.turn()
    receiver.deliverer.turn(endpoint, claim, RUNNING)
    assert len(receiver.wire.requests) == 1
    receiver.say("bob")
    receiver.turn()
    assert len(set(receiver.ids())) == 2


def test_a_slow_receiver_keeps_no_task_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    app = importlib.import_module("workers.app")
    release, entered = threading.Event(), threading.Event()

    class Slow:
        def turn(self, *_: object) -> None:
            entered.set()
            release.wait(60)

    monkeypatch.setattr("workers.work.deliverer", Slow)
    app.deliver_task("ep_1", "claim")
    assert entered.wait(20)
    release.set()


# --- where to -----------------------------------------------------------------------------------------

PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",  # Teredo around 127.0.0.1
]
PUBLIC = ["1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]


@pytest.mark.parametrize("address", PRIVATE)
def test_no_address_of_a_private_network_is_called(address: str) -> None:
    assert not Places("").admits(address)
    assert not Places("192.168.178.0/24").admits(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_called(address: str) -> None:
    assert Places("").admits(address)
    assert not Places("").is_ours(address)


def test_allowed_networks_are_called() -> None:
    places = Places("192.168.1.0/24, fd12::/16")
    assert places.admits("192.168.1.7")
    assert places.admits("fd12::1")
    assert not places.admits("192.168.2.7")


@pytest.mark.parametrize(
    ("url", "networks", "word"),
    [
        ("https://example.com/hooks", "", None),
        ("https://example.com:8443/hooks?key=1", "", None),
        ("https://1.1.1.1/", "", None),
        ("http://example.com/", "", "https"),
        ("http://1.1.1.1/", "10.0.0.0/8", "https"),
        ("http://10.0.0.1/", "10.0.0.0/8", None),
        ("http://nas.lan/", "10.0.0.0/8", None),
        ("https://10.0.0.1/", "", "WEBHOOK_NETWORKS"),
        ("https://[::1]/", "", "WEBHOOK_NETWORKS"),
        ("ftp://example.com/", "", "must look like"),
        ("https://user:password@example.com/", "", "must look like"),
        ("https://example.com:port/", "", "must look like"),
        ("https:///hooks", "", "must look like"),
        ("example.com", "", "must look like"),
    ],
)
def test_a_url_is_refused_in_words(url: str, networks: str, word: str | None) -> None:
    refusal = Places(networks).refusal(url)
    assert refusal is None if word is None else word in (refusal or "")


def test_a_name_is_judged_by_the_address_that_is_called(receive: Callable[..., Receiver]) -> None:
    receiver = receive(webhook_networks="10.0.0.0/8")
    with receiver.parts.database.write() as connection:
        url = f"http://localhost:{receiver.wire.port}/"
        connection.execute(update(endpoints).values(url=url))
    receiver.say()
    receiver.turn()
    assert receiver.wire.connections == 0
    assert "may be called" in (receiver.held()[0].error or "")


def test_no_proxy_gets_between(receive: Callable[..., Receiver], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    receiver = receive()
    receiver.say()
    receiver.turn()
    assert receiver.held()[0].state == DELIVERED
