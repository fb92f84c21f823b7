"""``evergrant keys``: API keys for the operator's programs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from evergrant.exits import Exit
from evergrant.terminal import as_json, connected, print_json, print_table

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from models.api_keys import ApiKey

SCOPES = ("tokens:read", "owners:read", "owners:write", "gateway")
"""As `models.api_keys.Scope` has them; that is not loaded to show the help."""


@click.group()
def keys() -> None:
    """Make, list and revoke the API keys of your programs."""


@keys.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(SCOPES),
    help="What it is good for; give it again for more.",
)
@click.option(
    "--owner",
    "owners",
    multiple=True,
    metavar="OWNER",
    help="Good for this owner only; give it again for more.",
)
@click.option(
    "--days",
    type=click.FloatRange(0, 36500, min_open=True),
    help="How long it is good; without it: until revoked.",
)
@click.option("--rate", type=click.IntRange(1, 1_000_000), help="Calls a second that it may make.")
@as_json
def create(
    name: str,
    scopes: tuple[str, ...],
    owners: tuple[str, ...],
    days: float | None,
    rate: int | None,
    as_json: bool,
) -> None:
    """Make a key for the program NAME. It is shown this once."""
    from models import api_keys

    if not api_keys.is_name(name):
        raise click.BadParameter(
            f"at most {api_keys.LONGEST_NAME} characters, all printable", param_hint="NAME"
        )

    with connected(writes=True) as connection:
        key, text = api_keys.create(
            connection,
            name=name,
            scopes=[api_keys.Scope(scope) for scope in scopes],
            owners=owners or None,
            lives=None if days is None else days * 24 * 3600,
            rate=rate or api_keys.RATE,
        )
    if as_json:
        print_json({"id": key, "key": text})
        return
    click.echo(text)
    click.echo(f"Keep it now: it is not shown again. To end it: evergrant keys revoke {key}", err=True)


@keys.command(name="list")
@as_json
def list_(as_json: bool) -> None:
    """List the keys, the newest first."""
    from models import api_keys

    with connected() as connection:
        found = [(key, _owners(connection, key)) for key in api_keys.latest(connection)]
    if as_json:
        for key, owners in found:
            print_json(_described(key, owners))
        return
    if not found:
        click.echo("There are no keys. Make one: evergrant keys create NAME --scope tokens:read")
        return
    print_table(
        ("Id", "Name", "Scopes", "Owners", "State", "Last use"), [_row(key, owners) for key, owners in found]
    )


def _row(key: ApiKey, owners: list[str] | None) -> tuple[str, ...]:
    used = f"{key.last_used_at:%Y-%m-%d %H:%M} UTC" if key.last_used_at else "never"
    good_for = "all" if owners is None else ", ".join(owners[:3]) + (", …" if len(owners) > 3 else "")
    return key.id, key.name, key.scopes, good_for, _state(key), used


@keys.command()
@click.argument("key", metavar="ID")
@as_json
def revoke(key: str, as_json: bool) -> None:
    """End the key with this ID, from its next use on. Exit code 3 when no such key is good."""
    from models import api_keys

    with connected(writes=True) as connection:
        done = api_keys.revoke(connection, key)
    if as_json:
        print_json({"id": key, "revoked": done})
    elif done:
        click.echo("Revoked: it opens nothing any more.")
    else:
        click.echo(f"No key with the id {key} is good; `evergrant keys list` shows all.", err=True)
    if not done:
        sys.exit(Exit.NOT_FOUND)


def _owners(connection: Connection, key: ApiKey) -> list[str] | None:
    from models import api_keys

    return api_keys.owners_of(connection, key.id) if key.restricted else None


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d}"
    if key.ends_at is None:
        return "good"
    return f"{'ended' if key.has_ended else 'good until'} {key.ends_at:%Y-%m-%d %H:%M} UTC"


def _described(key: ApiKey, owners: list[str] | None) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": key.scopes.split(),
        "owners": owners,
        "rate": key.rate,
        "created_at": key.created_at,
        "ends_at": key.ends_at,
        "last_used_at": key.last_used_at,
        "revoked_at": key.revoked_at,
        "good": key.revoked_at is None and not key.has_ended,
    }
