"""``evergrant keypair`` and ``evergrant register``: the app's key, and its domain at Tesla."""

from __future__ import annotations

import sys

import click

from evergrant.exits import Exit
from evergrant.refusal import RefusalError
from settings import get_settings


@click.command()
def keypair() -> None:
    """Make the app's key pair, which Tesla wants for registration. An existing one is left alone."""
    from doctor import keypair as work
    from fleet.partner import KEY_PATH, domain_of

    settings = get_settings()
    place = work.Place.of(settings)
    try:
        made = work.make(place)
    except work.BadKey as bad:
        raise RefusalError(f"{bad}. Move {place.private.parent} away to have a new pair made.") from None
    except OSError as error:
        raise RefusalError(
            f"{place.private.parent} can't be written to ({error.strerror}). "
            "Set EVERGRANT_HOME to a folder of yours."
        ) from None
    click.echo(
        f"Made {place.private}. Keep a copy: cars know the app by it."
        if made
        else f"There is a key pair already, {place.private}. It was left alone."
    )
    click.echo(f"The public half is served at {domain_of(settings.public_url)}{KEY_PATH}")
    click.echo("Next: evergrant register")


@click.command()
def register() -> None:
    """Register the domain of PUBLIC_URL in each region, and show the key that Tesla then holds.

    Exit code 1 when that did not work in all of them.
    """
    from doctor.registration import register as work
    from fleet.partner import pairing_link
    from fleet.regions import REGIONS

    done = work(get_settings())
    for each in done:
        name = REGIONS[each.region].name
        if each.error is None:
            click.echo(f"{name}: {each.domain} is registered, with the public key {each.public_key}")
            continue
        cause = each.error.cause
        click.echo(f"{name}: not registered. {each.error}.", err=True)
        click.echo(f"{cause.repair.replace('`', '')} More: {cause.entry}", err=True)
    if any(each.error is None for each in done):
        click.echo(f"Owners add the key to their cars at {pairing_link(done[0].domain)}")
    if any(each.error is not None for each in done):
        sys.exit(Exit.FAILED)
