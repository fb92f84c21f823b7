"""How gunicorn serves the pages: ``gunicorn --config python:evergrant.serving "web.app:create_app()"``.

One process with threads: the pages wait for SQL and for Tesla, and a second process would cost 50 MB.
"""

from __future__ import annotations

import logging
import re
import threading
from typing import Any

from gunicorn.glogging import Logger as GunicornLogger
from gunicorn.workers.gthread import ThreadWorker

from settings import get_settings
from web.threads import THREADS
from workers.drain import start_draining
from workers.parts import parts

_settings = get_settings()

_host = f"[{_settings.bind}]" if ":" in _settings.bind else _settings.bind
bind = f"{_host}:{_settings.web_port}"
workers = 1
preload_app = True  # the process that only watches the other shares its memory
threads = THREADS
# Pages answer within the attempt's deadline; a stop waits no longer than its share of the ten seconds.
graceful_timeout = 4
timeout = 60
keepalive = 5
control_socket_disable = True
proc_name = "evergrant-web"
loglevel = _settings.log_level.lower()
accesslog = "-"
# The path without its query: /callback's carries a code. No referrer either, which may repeat it.
access_log_format = "%(h)s %(m)s %(U)s %(s)s %(b)sB %(M)sms"


def post_worker_init(_worker: Any) -> None:
    """A refresh from a page may leave an answer in the escrow; this process takes it out itself."""
    start_draining(threading.Event())
    parts().counts.run("web")


class worker_class(ThreadWorker):  # type: ignore[misc]  # noqa: N801 - gunicorn's name for the setting
    """gunicorn's threads, which close their connections themselves.

    gunicorn closes them in the thread that accepts, and waits up to two seconds there for a client that does
    not close its side: a few such clients would keep everybody waiting.
    """

    def handle(self, conn: Any) -> Any:
        keep = super().handle(conn)
        if not keep:
            conn.close(graceful=True)
            conn.close = _is_closed
        return keep


def _is_closed(graceful: bool = False) -> None:
    """What is closed is not closed again."""


class _NoQuery(logging.Filter):
    """Takes query strings out of what is logged: a request that can't be served is logged with its line."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = re.sub(r"\?[^\s'\"]*", "?…", record.getMessage()), None
        return True


class logger_class(GunicornLogger):  # type: ignore[misc]  # noqa: N801 - gunicorn's name for the setting
    """gunicorn's logger, without query strings and without the health checks that succeed."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.addFilter(_NoQuery())

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> None:
        if environ.get("PATH_INFO") in {"/healthz", "/readyz"} and str(resp.status).startswith("200"):
            return
        super().access(resp, req, environ, request_time)
