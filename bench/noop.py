"""Celery doing nothing, with the product's own settings: ``celery --app bench.noop worker``."""

from __future__ import annotations

from celery import Celery

from bench.fill import owner
from settings import get_settings
from workers.lanes import lane

app = Celery("noop")
app.config_from_object("celeryconfig")


@app.task(name="bench.nothing")
def nothing(owner: str) -> str:  # noqa: ARG001 - as long a message as the product's
    return "refreshed"


@app.task(name="bench.publish")
def publish(first: int, count: int) -> None:
    """Sends so many, as the sweep sends refreshes."""
    lanes = get_settings().lanes
    with app.producer_pool.acquire(block=True) as producer:
        for number in range(first, first + count):
            who = owner(number)
            nothing.apply_async((who,), queue=lane(who, lanes), producer=producer)
