"""Celery: the app, the sweep, the refresh protocol, routing to lanes, single flight.

`celery -A workers` finds the app here. It is loaded when it is asked for: the web app uses the
refresh protocol without Celery.
"""

import sys
from pathlib import Path
from typing import Any

# The `celery` command has the project's root on its path only while it imports this package, and takes one
# mention of it away afterwards. The other packages are beside this one, so the root has to stay.
sys.path.append(str(Path(__file__).resolve().parent.parent))


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(name)
    from workers.app import app

    globals()["app"] = app  # in place of the submodule of that name, for `celery -A workers`
    return app
