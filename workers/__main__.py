"""``python -m workers worker|beat|flower``: what ``celery -A workers …`` does, in 20 MB less each.

Celery's command line loads every command that is installed, a shell among them, whichever is run.
"""

from __future__ import annotations

import argparse
import sys

from workers.app import app


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    parser.add_argument("program", choices=["worker", "beat", "flower"])
    parser.add_argument("--hostname", help="a worker's name, of which %%h is the host's")
    parser.add_argument("--loglevel", default="info")
    given = parser.parse_args()
    if given.program == "worker":
        from celery.utils.nodenames import default_nodename, host_format

        worker = app.Worker(
            hostname=host_format(default_nodename(given.hostname)),
            loglevel=given.loglevel.upper(),
            without_gossip=True,
            without_mingle=True,
            quiet=True,
        )
        worker.start()
        sys.exit(worker.exitcode)
    elif given.program == "beat":
        app.Beat(loglevel=given.loglevel.upper(), quiet=True).run()
    else:
        import click
        from celery.bin.base import CLIContext
        from flower.command import flower

        # Flower looks at the command line that it believes to be part of.
        celery = click.Context(click.Group("celery"), obj=CLIContext(app, no_color=True, workdir=None))
        flower.invoke(flower.make_context("flower", [], parent=celery))


if __name__ == "__main__":
    main()
