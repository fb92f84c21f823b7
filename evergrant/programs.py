"""The processes of `make up` and how each is run, as supervisor's configuration.

Two groups, so that a stop has an order: the services end first, all at once, while what they lean on (Valkey,
and the sandbox, which plays Tesla) still answers the attempts in flight. The longest way down is the worker's
7 s and then 2 s, which leaves a second of the ten that a stop may take.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from evergrant import console as listener
from evergrant.refusal import RefusalError
from settings import ROOT, Settings, get_settings

if TYPE_CHECKING:
    from pathlib import Path

SERVICES, GROUND = "services", "ground"
WORKER = "up"
"""The worker's name before the host's."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """One process that is started again for ever."""

    name: str
    command: list[str]
    stop_seconds: int
    """How long it may take to end by itself before it is killed, s."""
    group: str = SERVICES


def programs(settings: Settings, *, valkey: list[str] | None) -> list[Program]:
    """What runs with these settings; `valkey` is the embedded one's command, None where REDIS_URL is set."""
    python = sys.executable
    celery = [python, "-m", "workers"]
    level = settings.log_level.lower()
    found = [
        Program(
            name="web",
            command=[
                python,
                *["-m", "gunicorn", "--config", "python:evergrant.serving", "web.app:create_app()"],
            ],
            stop_seconds=5,
        ),
        Program(
            name="worker",
            # Named apart from a plain `celery -A workers worker`, which a person may run besides this one.
            command=[*celery, "worker", "--hostname", f"{WORKER}@%h", "--loglevel", level],
            stop_seconds=7,
        ),
        Program(name="beat", command=[*celery, "beat", "--loglevel", level], stop_seconds=6),
        Program(name="flower", command=[*celery, "flower"], stop_seconds=6),
    ]
    if valkey is not None:
        found.append(Program(name="valkey", command=valkey, stop_seconds=2, group=GROUND))
    if settings.uses_sandbox:
        found.append(
            Program(
                name="sandbox",
                command=[
                    *(python, "-m", "sandbox"),
                    *("--port", str(settings.sandbox_port), "--bind", settings.bind),
                    *("--home", str(settings.evergrant_home / "sandbox")),
                    *("--redirect-uri", settings.redirect_uri),
                    *("--client-id", settings.client_id, "--client-secret", settings.client_secret),
                    *("--token-seconds", str(settings.sandbox_token_seconds)),
                ],
                stop_seconds=2,
                group=GROUND,
            )
        )
    return found


def run(name: str) -> NoReturn:
    """Become the process called `name`.

    Raises `RefusalError` when it has no place with these settings: the sandbox, where Tesla is used.
    """
    for program in programs(get_settings(), valkey=None):
        if program.name == name:
            os.chdir(ROOT)
            os.execv(program.command[0], program.command)  # noqa: S606 - no shell is wanted
    raise RefusalError(
        "No sandbox runs, because TESLA_CLIENT_ID is set. Unset it to try Evergrant without Tesla."
    )


def configuration(found: list[Program], *, home: Path, socket: Path, console: list[str]) -> str:
    """The text of supervisord.conf; supervisorctl reaches it on `socket`, `console` is the log's command."""
    log = home / "log"
    lines = [
        "[supervisord]",
        f"directory={_value(str(ROOT))}",
        f"logfile={_value(str(log / 'manager.log'))}",
        "logfile_maxbytes=1MB",
        "logfile_backups=1",
        f"pidfile={_value(str(home / 'run' / 'manager.pid'))}",
        f"childlogdir={_value(str(log))}",
        "nocleanup=true",
        "silent=true",
        "[unix_http_server]",
        f"file={_value(str(socket))}",
        "chmod=0700",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        "[supervisorctl]",
        f"serverurl=unix://{_value(str(socket))}",
        f"[eventlistener:{listener.PROGRAM}]",
        f"command={_command(console)}",
        "events=PROCESS_LOG,PROCESS_STATE_EXITED,PROCESS_STATE_BACKOFF,PROCESS_STATE_STOPPED,SUPERVISOR_STATE_CHANGE_STOPPING",
        # What is printed late is kept this long; a terminal that blocks (Ctrl-S) then costs lines, not work.
        "buffer_size=10000",
        "startsecs=0",
        "startretries=1000000000",
        "stopwaitsecs=1",
        "stdout_logfile=NONE",
        f"stderr_logfile={_value(str(log / 'console.log'))}",
        "stderr_logfile_maxbytes=1MB",
        "stderr_logfile_backups=1",
    ]
    for program in found:
        lines += [
            f"[program:{program.name}]",
            f"command={_command(program.command)}",
            'environment=PYTHONUNBUFFERED="1"',
            "autorestart=true",
            "startsecs=1",
            "startretries=1000000000",
            f"stopwaitsecs={program.stop_seconds}",
            "killasgroup=true",
            "redirect_stderr=true",
            "stdout_events_enabled=true",
            f"stdout_logfile={_value(str(log / f'{program.name}.log'))}",
            "stdout_logfile_maxbytes=5MB",
            "stdout_logfile_backups=1",
        ]
    # Groups start in the order of their priority and stop against it.
    for priority, group in ((10, GROUND), (20, SERVICES)):
        if names := [program.name for program in found if program.group == group]:
            lines += [f"[group:{group}]", f"programs={','.join(names)}", f"priority={priority}"]
    return "\n".join([*lines, ""])


def _command(words: list[str]) -> str:
    return _value(shlex.join(words))


def _value(text: str) -> str:
    """As supervisor's configuration spells it: a percent sign begins one of its own names."""
    return text.replace("%", "%%")
