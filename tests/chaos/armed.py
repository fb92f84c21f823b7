"""The Celery app with a listener at the protocol's steps: ``celery -A tests.chaos.armed worker``."""

from tests.chaos.listener import install
from workers.app import app

__all__ = ["app"]

install(may_stop=True)
