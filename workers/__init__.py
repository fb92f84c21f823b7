"""Celery: the app, the sweep, the refresh protocol, routing to lanes, single flight.

`celery -A workers` finds the app here. It is loaded when it is asked for: the web app uses the
refresh protocol without Celery.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(name)
    from workers.app import app

    globals()["app"] = app  # in place of the submodule of that name, for `celery -A workers`
    return app
