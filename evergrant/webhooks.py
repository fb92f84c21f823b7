"""``evergrant webhooks``: who is told what happens to grants."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from evergrant.exits import Exit
from evergrant.refusal import RefusalError
from evergrant.terminal import as_json, connected, fail, print_json, print_table, when

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from models.webhooks import Delivery, Endpoint

TYPES = (
    "grant.connected",
    "grant.needs_consent",
    "grant.ending",
    "grant.disconnected",
    "operator.action_needed",
)
"""As `models.webhooks.TYPES` has them; that is not loaded to show the help."""


@click.group()
def webhooks() -> None:
    """Tell your programs what happens to grants. ID is an endpoint's, as `webhooks list` shows it."""


@webhooks.command()
@click.argument("url")
@click.option(
    "--type", "types", multiple=True, type=click.Choice(TYPES), help="Only these; give it again for more."
)
@as_json
def add(url: str, types: tuple[str, ...], as_json: bool) -> None:
    """Send webhooks to URL from now on. Its secret, which signs them, is shown this once."""
    from models import webhooks as outbox
    from workers.parts import parts
    from workers.webhooks import Places, host

    if (refusal := Places(parts().settings.webhook_networks).refusal(url)) is not None:
        raise RefusalError(refusal)
    with connected(writes=True) as connection:
        endpoint, secret = outbox.add(connection, parts().keyring, url, types)
        _note(connection, f"Webhooks go to {host(url)} now ({endpoint}).")
    _show_secret(endpoint, secret, as_json=as_json)
    if not as_json:
        click.echo(f"Try it: evergrant webhooks test {endpoint}", err=True)


@webhooks.command(name="list")
@click.option("--deliveries", default=0, type=click.IntRange(0), help="So many of each one's last messages.")
@as_json
def list_(deliveries: int, as_json: bool) -> None:
    """List the endpoints, and how many messages wait for each."""
    from models import webhooks as outbox

    with connected() as connection:
        waiting = outbox.waiting(connection)
        found = [
            (each, outbox.latest(connection, each.id, deliveries)) for each in outbox.read_all(connection)
        ]
    if as_json:
        print_json([_described(each, waiting.get(each.id, 0), last) for each, last in found])
        return
    if not found:
        click.echo("There are no endpoints. Add one: evergrant webhooks add URL")
        return
    print_table(
        ("Id", "URL", "Types", "State", "Waiting"),
        [
            (each.id, each.url, each.types or "all", _state(each), str(waiting.get(each.id, 0)))
            for each, _ in found
        ],
    )
    for each, last in found:
        if last:
            click.echo(f"\nTo {each.id}:")
            print_table(("Message", "Type", "Owner", "State", "Tries", "Last answer"), map(_row, last))


@webhooks.command()
@click.argument("endpoint", metavar="ID")
def remove(endpoint: str) -> None:
    """Send nothing more to an endpoint, and forget what waits for it."""
    from models import webhooks as outbox

    with connected(writes=True) as connection:
        if not outbox.remove(connection, endpoint):
            _unknown(endpoint)
        _note(connection, f"No webhooks go to {endpoint} any more.")
    click.echo("Removed.")


@webhooks.command()
@click.argument("endpoint", metavar="ID")
@click.option(
    "--overlap",
    default=24.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Hours for which the old secret signs beside the new one.",
)
@as_json
def rotate(endpoint: str, overlap: float, as_json: bool) -> None:
    """Give an endpoint a new secret. For a while both sign, so that nothing is missed meanwhile."""
    from models import webhooks as outbox
    from models.crypto import Unopenable
    from workers.parts import parts

    try:
        with connected(writes=True) as connection:
            secret = outbox.rotate(connection, parts().keyring, endpoint, overlap * 3600)
            if secret is not None:
                _note(connection, f"The webhooks' endpoint {endpoint} has a new secret.")
    except Unopenable as error:
        fail(Exit.OPERATOR, f"Its secret does not open: {error}.")
    if secret is None:
        _unknown(endpoint)
    _show_secret(endpoint, secret, as_json=as_json)


@webhooks.command()
@click.argument("endpoint", metavar="ID")
@as_json
def test(endpoint: str, as_json: bool) -> None:
    """Send one message of the type `webhook.test` now, and say what came back."""
    from models import webhooks as outbox
    from workers.parts import parts
    from workers.webhooks import Deliverer

    with connected() as connection:
        to = outbox.read(connection, endpoint)
    if to is None:
        _unknown(endpoint)
    reply = Deliverer(parts()).test(to)
    if as_json:
        print_json({"good": reply.good, "status": reply.status, "error": reply.error or None})
    elif reply.good:
        click.echo(f"It was taken: HTTP {reply.status}.")
    else:
        click.echo(f"It was not taken: {reply.error}.", err=True)
    sys.exit(Exit.DONE if reply.good else Exit.FAILED)


@webhooks.command()
@click.argument("endpoint", metavar="ID")
@click.option("--message", metavar="MESSAGE", help="This one, by its webhook-id, taken or not.")
@click.option("--hours", type=click.FloatRange(0, min_open=True), help="All of the last hours, taken or not.")
def replay(endpoint: str, message: str | None, hours: float | None) -> None:
    """Send again what an endpoint has not taken. One that was turned off is turned on by it."""
    from models import webhooks as outbox

    if message is not None and hours is not None:
        raise click.UsageError("Say --message or --hours, not both.")
    since = None if hours is None else hours * 3600
    with connected(writes=True) as connection:
        if outbox.read(connection, endpoint) is None:
            _unknown(endpoint)
        count = outbox.replay(connection, endpoint, message=message, since=since)
        if count:
            _note(connection, f"The operator had {count} webhooks sent to {endpoint} again.")
    if message is not None and not count:
        fail(Exit.NOT_FOUND, f"No message {message} was ever for it, or it was too long ago.")
    click.echo(f"{count} {'message is' if count == 1 else 'messages are'} sent with the next sweep.")


def _note(connection: Connection, detail: str) -> None:
    from models.events import Kind, record

    record(connection, Kind.BY_OPERATOR, detail=detail)


def _unknown(endpoint: str) -> NoReturn:
    fail(Exit.NOT_FOUND, f"There is no endpoint {endpoint}. `evergrant webhooks list` shows all.")


def _show_secret(endpoint: str, secret: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"id": endpoint, "secret": secret})
        return
    click.echo(secret)
    click.echo(f"That is the secret of {endpoint}. Keep it now: it is not shown again.", err=True)


def _state(endpoint: Endpoint) -> str:
    if endpoint.off_because is not None:
        return f"off: {endpoint.off_because}"
    if endpoint.failing_since is not None:
        return f"failing since {when(endpoint.failing_since, endpoint.read_at)}"
    return "on"


def _row(delivery: Delivery) -> tuple[str, ...]:
    answer = delivery.error or (f"HTTP {delivery.status}" if delivery.status else "")
    return (
        delivery.message,
        delivery.type,
        delivery.owner or "",
        delivery.state.replace("_", " "),
        str(delivery.attempts),
        answer,
    )


def _described(endpoint: Endpoint, waiting: int, last: list[Delivery]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "id": endpoint.id,
        "url": endpoint.url,
        "types": endpoint.types.split(),
        "created_at": endpoint.created_at,
        "off_because": endpoint.off_because,
        "failing_since": endpoint.failing_since,
        "waiting": waiting,
    }
    names = ("message", "type", "at", "owner", "state", "attempts", "status", "error", "next_at")
    if last:
        described["deliveries"] = [{name: getattr(each, name) for name in names} for each in last]
    return described
