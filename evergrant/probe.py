"""Whether one of the product's processes works, for containers' health checks.

``python -m evergrant.probe NAME`` ends with 0 when it does; else with 1 and the reason in words. For worker
and beat that is more than being up: something of theirs has to have come through the broker, which a worker
can lose without noticing (celery issues 8030, 9054, 10205).
"""

from __future__ import annotations

import http.client
import socket
import sys

from evergrant.programs import WORKER
from settings import Settings, get_settings

TIMEOUT = 4.0
"""Seconds for an answer over HTTP."""


def probe(name: str, settings: Settings) -> str:
    """What is wrong with the process called `name` ("web", "worker", …); empty when nothing is."""
    if name in {"worker", "beat"}:
        return _sign_of_life(name, settings)
    port, path = {
        "web": (settings.web_port, "/healthz"),
        "flower": (settings.flower_port, "/healthcheck"),
        "sandbox": (settings.sandbox_port, "/"),
    }[name]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except OSError as error:
        return f"{name} does not answer on port {port}: {error}"
    finally:
        connection.close()
    return "" if status < 400 else f"{name} answers {status} to {path}"


def _sign_of_life(name: str, settings: Settings) -> str:
    from models import pulses
    from models.session import Database
    from workers.watch import silence

    seconds = silence(settings)
    pulse = f"worker:{WORKER}@{socket.gethostname()}" if name == "worker" else name
    database = Database(settings.database)
    try:
        if pulses.beaten_within(database, pulse, seconds):
            return ""
        return f"no sign of life of this {name} in the last {seconds:.0f} s"
    finally:
        database.close()


if __name__ == "__main__":
    sys.exit(probe(sys.argv[1], get_settings()) or None)
