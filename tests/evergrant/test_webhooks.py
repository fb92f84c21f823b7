"""``evergrant webhooks``, as a person and as a program use it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from standardwebhooks import Webhook

from evergrant.exits import Exit
from evergrant.webhooks import TYPES
from models import webhooks
from tests.fleet.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.evergrant.line import Line


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire(lambda request: request.reply(204)) as wire:
        yield wire


@pytest.fixture
def ours(line: Line) -> Line:
    line.environment["WEBHOOK_NETWORKS"] = "127.0.0.0/8"
    return line


def test_the_types_are_those_that_there_are() -> None:
    assert tuple(webhooks.TYPES) == TYPES


def test_an_endpoint_is_added_tested_listed_and_removed(ours: Line, wire: Wire) -> None:
    assert "webhooks add" in ours.run("webhooks", "list").stdout
    made = json.loads(ours.run("webhooks", "add", wire.url, "--type", "grant.needs_consent", "--json").stdout)
    assert made["secret"].startswith("whsec_")
    assert "HTTP 204" in ours.run("webhooks", "test", made["id"]).stdout
    (request,) = wire.requests
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    said = Webhook(made["secret"]).verify(request.body, {name: request.header(name) or "" for name in names})
    assert said["type"] == "webhook.test"
    listed = ours.run("webhooks", "list").stdout
    assert made["id"] in listed
    assert "grant.needs_consent" in listed
    assert made["secret"] not in listed
    ours.run("webhooks", "remove", made["id"])
    assert made["id"] in ours.run("webhooks", "remove", made["id"], code=Exit.NOT_FOUND).stderr
    assert json.loads(ours.run("webhooks", "list", "--json").stdout) == []


def test_a_test_says_what_came_back(ours: Line, wire: Wire) -> None:
    endpoint = json.loads(ours.run("webhooks", "add", wire.url, "--json").stdout)["id"]
    wire.script = lambda request: request.reply(500)
    assert "HTTP 500" in ours.run("webhooks", "test", endpoint, code=Exit.FAILED).stderr
    failed = json.loads(ours.run("webhooks", "test", endpoint, "--json", code=Exit.FAILED).stdout)
    assert (failed["good"], failed["status"]) == (False, 500)


def test_a_secret_is_rotated(ours: Line, wire: Wire) -> None:
    made = json.loads(ours.run("webhooks", "add", wire.url, "--json").stdout)
    new = ours.run("webhooks", "rotate", made["id"])
    assert "not shown again" in new.stderr
    ours.run("webhooks", "test", made["id"])
    (request,) = wire.requests
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    headers = {name: request.header(name) or "" for name in names}
    for secret in (made["secret"], new.stdout.strip()):
        Webhook(secret).verify(request.body, headers)
    ours.run("webhooks", "rotate", "ep_unknown", code=Exit.NOT_FOUND)


def test_what_was_sent_is_shown_and_sent_again(ours: Line, wire: Wire) -> None:
    endpoint = json.loads(ours.run("webhooks", "add", wire.url, "--json").stdout)["id"]
    ours.connect("ann")
    ours.connect("bob")
    (listed,) = json.loads(ours.run("webhooks", "list", "--deliveries", "5", "--json").stdout)
    assert listed["waiting"] == 2
    message = listed["deliveries"][0]["message"]
    assert message in ours.run("webhooks", "list", "--deliveries", "5").stdout
    assert "2 messages" in ours.run("webhooks", "replay", endpoint).stdout
    assert "1 message is" in ours.run("webhooks", "replay", endpoint, "--message", message).stdout
    assert "2 messages" in ours.run("webhooks", "replay", endpoint, "--hours", "1").stdout
    ours.run("webhooks", "replay", endpoint, "--message", "msg_unknown", code=Exit.NOT_FOUND)
    ours.run("webhooks", "replay", "ep_unknown", code=Exit.NOT_FOUND)
    ours.run("webhooks", "replay", endpoint, "--message", message, "--hours", "1", code=Exit.REFUSED)


def test_what_may_not_be_called_is_refused_in_words(line: Line) -> None:
    for url in ("http://example.com/", "https://127.0.0.1/", "http://169.254.169.254/"):
        assert "WEBHOOK_NETWORKS" in line.run("webhooks", "add", url, code=Exit.REFUSED).stderr
    assert "https://" in line.run("webhooks", "add", "nonsense", code=Exit.REFUSED).stderr
    assert line.run("webhooks", "list", "--json").stdout.strip() == "[]"
