"""The command line, ``python -m evergrant``."""

from __future__ import annotations

import sys

import click

from evergrant.keys import keys
from evergrant.refusal import RefusalError
from settings import SettingsError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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

    changed = bring_up_to_date(get_settings().database)
    click.echo("The database now has the newest schema." if changed else "The schema is the newest already.")


@cli.command()
@click.argument("name", type=click.Choice(["web", "worker", "beat", "flower", "sandbox"]))
def run(name: str) -> None:
    """Run one process of the product, as `up` runs it."""
    from evergrant.programs import run as become

    become(name)


cli.add_command(keys)


@cli.group()
def owners() -> None:
    """Look after owners' grants."""


@owners.command()
@click.argument("owner")
@click.option("--wait", default=30.0, show_default=True, help="Seconds to wait for another process's result.")
def refresh(owner: str, wait: float) -> None:
    """Refresh the grant of OWNER (Tesla's id of the account) now. Exit code 1 when that did not work."""
    from evergrant import owners as work

    outcome = work.refresh(owner, wait=wait)
    click.echo(work.sentence(outcome), err=outcome.result not in work.GOOD)
    if outcome.result not in work.GOOD:
        sys.exit(1)


def main() -> None:
    """Run the command line; what keeps it from running ends as sentences on stderr and exit code 2."""
    try:
        cli.main(prog_name="evergrant", standalone_mode=False)
    except (SettingsError, RefusalError) as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
