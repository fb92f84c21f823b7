"""The command line, ``python -m evergrant``."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from evergrant.doctor import doctor
from evergrant.exits import EXPLAINED, Exit
from evergrant.export import export
from evergrant.importing import import_
from evergrant.keypair import keypair, register
from evergrant.keys import keys
from evergrant.owners import owners, token
from evergrant.refusal import RefusalError
from evergrant.webhooks import webhooks
from settings import SettingsError


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXPLAINED)
def cli() -> None:
    """Keeps Tesla owners' consent alive."""


@cli.command()
def up() -> None:
    """Run the whole product here, in the foreground, until Ctrl-C."""
    # Imported late, as each command's own parts are: `up` is measured in tenths of a second.
    from evergrant import up as running

    running.up()


@cli.command()
def migrate() -> None:
    """Bring the database to the newest schema."""
    from evergrant.schema import bring_up_to_date
    from settings import get_settings

    settings = get_settings()
    if not settings.database_url.get_secret_value():
        settings.evergrant_home.mkdir(mode=0o700, parents=True, exist_ok=True)
    changed = bring_up_to_date(settings.database)
    click.echo("The database now has the newest schema." if changed else "The schema is the newest already.")


@cli.command()
@click.argument("name", type=click.Choice(["web", "worker", "beat", "flower", "sandbox"]))
def run(name: str) -> None:
    """Run one process of the product, as `up` runs it."""
    from evergrant.programs import run as become

    become(name)


for command in (doctor, keypair, register, owners, token, keys, webhooks, import_, export):
    cli.add_command(command)


def main() -> None:
    """Run the command line; what keeps it from running ends as sentences on stderr and exit code 2."""
    try:
        cli.main(prog_name="evergrant", standalone_mode=False)
    except (SettingsError, RefusalError) as error:
        _refuse(error)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:  # who read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.FAILED)
    except ValueError as error:
        from models.crypto import BadKeys

        if not isinstance(error, BadKeys):
            raise
        _refuse(error)


def _refuse(error: Exception) -> NoReturn:
    click.echo(str(error), err=True)
    sys.exit(Exit.REFUSED)
