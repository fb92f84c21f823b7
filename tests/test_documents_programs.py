"""What the documents about webhooks and the command line say is so."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import click
import pytest
from standardwebhooks import Webhook

from evergrant.cli import cli
from evergrant.exits import EXPLAINED
from evergrant.importing import RESULTS
from models import webhooks
from models.webhooks import Delivery
from settings import ROOT, Settings
from workers.webhooks import body, sign

WEBHOOKS = (ROOT / "docs" / "webhooks.md").read_text()
COMMANDS = (ROOT / "docs" / "command-line.md").read_text()


def table(document: str, head: str) -> dict[str, str]:
    """First to second column of the table with this first head."""
    found = re.search(rf"\| {head} \|[^\n]*\n\| --- [^\n]*\n((?:\|[^\n]*\n)+)", document)
    assert found, head
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in found[1].splitlines()]
    return {row[0]: row[1] for row in rows}


def fenced(document: str, language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", document, re.DOTALL)
    assert found
    return found[1]


def test_the_types_are_those_that_are_sent() -> None:
    assert table(WEBHOOKS, "type") == {f"`{name}`": words for name, words in webhooks.TYPES.items()}


def delivery(**values: Any) -> Delivery:
    fields: dict[str, Any] = dict.fromkeys(Delivery.__slots__)
    fields |= {"id": 1, "state": "waiting", "attempts": 0, "message": "msg_1"}
    return Delivery(**fields | values)


def test_the_example_is_what_is_sent() -> None:
    example = json.loads(fenced(WEBHOOKS, "json"))
    told = {
        name: example["data"][name] for name in ("owner", "reason", "detail", "generation", "correlation_id")
    }
    at = datetime.fromisoformat(example["timestamp"])
    assert (
        json.loads(body(delivery(type=example["type"], at=at, **told), "https://consent.example.com"))
        == example
    )


def test_the_receiver_of_the_document_receives() -> None:
    names: dict[str, Any] = {}
    exec(fenced(WEBHOOKS, "python"), names)  # noqa: S102 - the document's own
    secret, text = webhooks.new_secret(), json.dumps(json.loads(fenced(WEBHOOKS, "json")))
    headers = sign([secret], "msg_1", datetime.now(UTC), text)
    seen: set[str] = set()
    assert names["receive"](secret, headers, text.encode(), seen) == 204
    assert names["receive"](secret, headers, text.encode(), seen) == 204
    assert seen == {"msg_1"}
    assert names["receive"](webhooks.new_secret(), headers, text.encode(), seen) == 400
    assert Webhook(secret).verify(text, headers)


@pytest.mark.parametrize("document", [WEBHOOKS, COMMANDS])
def test_the_settings_exist(document: str) -> None:
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", document)) | set(
        re.findall(r"^([A-Z_]+)=", document, re.MULTILINE)
    )
    assert named
    assert named <= {name.upper() for name in Settings.model_fields}


def test_the_numbers_are_the_defaults() -> None:
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    assert f"within {defaults['webhook_deadline']:.0f} seconds" in WEBHOOKS
    assert f"after {defaults['webhook_first_wait']:.0f} seconds" in WEBHOOKS
    assert f"for {defaults['webhook_days']:.0f} days" in WEBHOOKS
    assert f"for {webhooks.KEPT / 86400:.0f} days" in WEBHOOKS


@pytest.mark.parametrize(
    "line",
    sorted(
        set(re.findall(r"venv/bin/evergrant ([^\n`]+)", WEBHOOKS + COMMANDS))
        | {name.strip("`") for name in table(COMMANDS, "command")}
    ),
)
def test_the_commands_exist(line: str) -> None:
    words = line.split()
    command: click.Command = cli
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_the_exit_codes_are_those_of_the_help() -> None:
    explained = dict(re.findall(r"^  (\d)  (.+)$", EXPLAINED, re.MULTILINE))
    assert table(COMMANDS, "code") == explained


def test_the_results_of_an_import_are_those_that_there_are() -> None:
    assert set(table(COMMANDS, "result")) == set(RESULTS) - {"usable"}
