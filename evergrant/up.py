"""`make up`: makes everything ready, then becomes the manager of all processes."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

from evergrant import ports, valkey
from evergrant.claim import claim
from evergrant.programs import configuration, programs
from evergrant.refusal import RefusalError
from evergrant.schema import bring_up_to_date
from settings import ROOT, Settings, get_settings

if TYPE_CHECKING:
    from pathlib import Path

_SOCKET_BYTES = 90
"""The room for a Unix socket's path is about 100 bytes; supervisor first binds it with a suffix."""


def up() -> NoReturn:
    """Start the product in this process's place; it ends with the product.

    Raises `RefusalError` or `settings.SettingsError` before anything was started.
    """
    settings = get_settings()
    _check(settings)
    home = settings.evergrant_home
    os.umask(0o077)  # for all processes: what they write is this user's alone
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        run, log = home / "run", home / "log"
        for folder in (run, log):
            folder.mkdir(mode=0o700, exist_ok=True)
        lock = claim(home)
    except OSError as error:
        raise RefusalError(
            f"EVERGRANT_HOME={home} can't be written to ({error.strerror}). Set it to a folder of yours."
        ) from None
    for setting, port, purpose in _listeners(settings):
        ports.require_free(bind=settings.bind, port=port, setting=setting, purpose=purpose)

    _ = settings.keys, settings.cookie_key  # made here, once, so that no two processes have to
    kept_password = not settings.operator_password.get_secret_value()
    _ = settings.console_password
    bring_up_to_date(settings.database)

    socket = run / "manager.sock"
    if len(str(socket).encode()) > _SOCKET_BYTES:
        socket = settings.valkey_socket.with_name("manager.sock")
        _private(socket.parent)
    socket.unlink(missing_ok=True)  # a killed manager's; the lock says that nobody uses it
    banner = run / "banner"
    banner.write_text(_banner(settings, kept_password=kept_password))
    config = run / "supervisord.conf"
    config.touch(mode=0o600)
    config.write_text(
        configuration(
            programs(settings, valkey=_valkey(settings, run)),
            home=home,
            socket=socket,
            console=[
                *(sys.executable, "-m", "evergrant.console", "--banner", str(banner)),
                *("--web", _reachable(settings.bind), str(settings.web_port)),
                *(("--password", str(home / "secrets" / "operator_password")) if kept_password else ()),
                "--terminal",
            ],
        )
    )
    print("Starting Evergrant.", flush=True)  # noqa: T201 - the first line of the terminal's log
    os.chdir(ROOT)
    os.execv(  # noqa: S606 - no shell is wanted
        sys.executable, [sys.executable, "-m", "evergrant.manager", str(config), str(lock)]
    )


def _check(settings: Settings) -> None:
    if settings.uses_sandbox and settings.tesla_client_secret.get_secret_value():
        raise RefusalError(
            "TESLA_CLIENT_SECRET is set, TESLA_CLIENT_ID is not. "
            "Set both to use Tesla, or neither to use the sandbox."
        )
    seen: dict[int, str] = {}
    for setting, port, _ in _listeners(settings):
        if port in seen:
            raise RefusalError(f"{seen[port]} and {setting} are both {port}. Give each its own port.")
        seen[port] = setting


def _listeners(settings: Settings) -> list[tuple[str, int, str]]:
    """(the setting that moves it, port, what it is for)"""
    found = [
        ("WEB_PORT", settings.web_port, "the web app"),
        ("FLOWER_PORT", settings.flower_port, "Flower"),
    ]
    if settings.uses_sandbox:
        found.append(("SANDBOX_PORT", settings.sandbox_port, "the sandbox"))
    return found


def _valkey(settings: Settings, run: Path) -> list[str] | None:
    """The embedded Valkey's command, its configuration written; None where REDIS_URL is set."""
    if settings.redis_url.get_secret_value():
        return None
    server = valkey.find_server(run)
    folder = settings.evergrant_home / "valkey"
    folder.mkdir(mode=0o700, exist_ok=True)
    if settings.valkey_socket.parent != folder:
        _private(settings.valkey_socket.parent)
    config = run / "valkey.conf"
    config.touch(mode=0o600)
    config.write_text(valkey.configuration(socket=settings.valkey_socket, folder=folder))
    return [str(server), str(config)]


def _private(folder: Path) -> None:
    """Make `folder` under the shared temporary folder, or see that it is this user's alone."""
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise RefusalError(f"{folder} belongs to somebody else. Set EVERGRANT_HOME to a shorter path.")


def _reachable(bind: str) -> str:
    """The address at which this machine reaches what listens on `bind`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(bind, bind)  # noqa: S104


def _banner(settings: Settings, *, kept_password: bool) -> str:
    """What is said once all is up; ``{password}`` is filled in where it is printed and nowhere kept."""
    host = _reachable(settings.bind)
    host = "localhost" if host in {"127.0.0.1", "::1"} else f"[{host}]" if ":" in host else host
    secret = settings.evergrant_home / "secrets" / "operator_password"
    password = (
        f"password {{password}} (generated, kept in {secret})"
        if kept_password
        else "password as in OPERATOR_PASSWORD"
    )
    rows = [
        ("Sign-in page", settings.public_url),
        ("Console", f"{settings.public_url}/operator   {password}"),
        ("Flower", f"http://{host}:{settings.flower_port}   user operator, the same password"),
    ]
    if settings.uses_sandbox:
        rows.append(
            (
                "Sandbox",
                f"http://{host}:{settings.sandbox_port}   in Tesla's place, until TESLA_CLIENT_ID is set",
            )
        )
    rows += [
        ("State", str(settings.evergrant_home)),
        ("To stop", f"Ctrl-C, or kill {os.getpid()}"),
    ]
    body = "\n".join(f"  {name:<13} {value}" for name, value in rows)
    return f"\n  Evergrant is up.\n\n{body}\n\n"
