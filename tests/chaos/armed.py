"""The Celery app with a listener at the protocol's steps: ``celery -A tests.chaos.armed worker``."""

from pathlib import Path

from tests.chaos.listener import install
from workers.app import app
from workers.parts import parts

__all__ = ["app", "ask"]

install(may_stop=True)


@app.task(name="tests.chaos.ask")
def ask(owner: str, stale: int, note: str) -> None:
    """Refreshes like a caller who holds the generation `stale`; writes what came of it to the file `note`."""
    outcome = parts().refresher.refresh(owner, stale=stale, wait=20)
    grant = outcome.grant
    Path(note).write_text(f"{outcome.result} {grant.generation if grant else None}")
