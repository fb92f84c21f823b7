"""The settings: all present, of the right shape, and secret where they should be."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from doctor.findings import Check, Look
from doctor.keypair import Place
from models.crypto import BadKeys, Keyring
from settings import ROOT, SettingsError, get_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from doctor.findings import Finding
    from fleet.deadline import Deadline
    from settings import Settings

READ = Check("settings", "The settings are of the right shape", "Evergrant does not start with others.")
APP = Check(
    "settings.app",
    "The app’s credentials are set",
    "Without `TESLA_CLIENT_ID` the sandbox plays Tesla, and nothing is real.",
)
KEYS = Check(
    "settings.keys",
    "The encryption keys open what they should",
    "They encrypt every token. Without them the token table is worthless.",
)
PRIVATE = Check(
    "settings.private",
    "Secrets are this user’s alone",
    "Who reads them on this machine can act as this app, or open every token.",
)
SECRET = Check(
    "settings.secret_key",
    "`SECRET_KEY` is a secret",
    "It signs the cookies that say who is signed in: who guesses it is any owner, and the operator.",
)
PASSWORD = Check(
    "settings.password",
    "`OPERATOR_PASSWORD` is not easily guessed",
    "It opens the console and Flower.",
)
PUBLIC = Check(
    "settings.public_url",
    "`PUBLIC_URL` is https outside of this machine",
    "Sign-in codes and cookies travel on it, and Tesla takes https redirect URIs only.",
)
CHECKS = (READ, APP, KEYS, PRIVATE, SECRET, PASSWORD, PUBLIC)

_DEFAULTS = {"changeme", "secret", "secretkey", "dev", "development", "default", "password", "evergrant"}
_LOCAL = {"localhost", "127.0.0.1", "::1"}
_SHORTEST_KEY = 16
_SHORTEST_PASSWORD = 8


def read() -> tuple[Settings | None, list[str]]:
    """This process's settings, or what is wrong with them, a line each."""
    try:
        return get_settings(), []
    except SettingsError as error:
        return None, str(error).splitlines()


def is_local(url: str) -> bool:
    """Whether a URL names this machine to itself."""
    host = urlsplit(url).hostname or ""
    return host in _LOCAL or host.endswith(".localhost")


def cookie_key(settings: Settings) -> str | None:
    """The key that signs cookies; None where none was ever made: a look makes nothing."""
    if settings.secret_key.get_secret_value() or _made(settings, "secret_key"):
        return settings.cookie_key
    return None


def keyring(settings: Settings) -> Keyring | None:
    """The encryption keys; None where none were ever made. Raises `BadKeys`, `SettingsError` or OSError."""
    given = settings.encryption_keys.get_secret_value() or settings.encryption_keys_file
    if given or _made(settings, "encryption_keys"):
        return Keyring.parse(settings.keys)
    return None


def _made(settings: Settings, secret: str) -> bool:
    return (settings.evergrant_home / "secrets" / secret).exists()


def look(settings: Settings | None, problems: list[str]) -> Look:
    def work(_deadline: Deadline) -> Iterator[Finding]:
        if settings is None:
            yield READ.fails(
                " ".join(problems), "Set these right in the environment or in `.env`, and restart."
            )
            return
        yield READ.passes("All settings read well.")
        yield _app(settings)
        yield _keys(settings)
        yield _private(settings)
        yield _secret(settings)
        yield _password(settings)
        yield _public(settings)

    return Look(CHECKS, work)


def _app(settings: Settings) -> Finding:
    secret = bool(settings.tesla_client_secret.get_secret_value())
    if settings.tesla_client_id:
        how = "and `TESLA_CLIENT_SECRET`" if secret else "without a secret, as open-source apps have none"
        return APP.passes(f"`TESLA_CLIENT_ID` is set, {how}.")
    if not settings.uses_sandbox:
        return APP.fails(
            "Tesla’s endpoints are set, `TESLA_CLIENT_ID` is not.", "Set `TESLA_CLIENT_ID` and restart."
        )
    if secret:
        return APP.fails(
            "`TESLA_CLIENT_SECRET` is set, `TESLA_CLIENT_ID` is not.",
            "Set both to use Tesla, or neither to use the sandbox, and restart.",
        )
    return APP.passes("Neither is set: the sandbox plays Tesla.")


def _keys(settings: Settings) -> Finding:
    try:
        keys = keyring(settings)
    except (BadKeys, SettingsError) as error:
        return KEYS.fails(str(error), "Set `ENCRYPTION_KEYS` right and restart.")
    except OSError as error:
        return KEYS.fails(f"They can’t be read ({error.strerror}).", "Make them readable for this user.")
    if keys is None:
        return KEYS.cant_know("There are none yet: the first start makes them.", "Run `make up` once.")
    if settings.encryption_keys.get_secret_value() or settings.encryption_keys_file:
        return KEYS.passes("They read well.")
    return KEYS.passes(f"They are in {settings.evergrant_home / 'secrets'}. Keep a copy elsewhere.")


def _private(settings: Settings) -> Finding:
    home = settings.evergrant_home
    files = [ROOT / ".env", *_inside(home / "secrets"), Place.of(settings).private]
    if settings.encryption_keys_file is not None:
        files.append(settings.encryption_keys_file)
    open_to_others = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        # A mounted secret belongs to root and is shown to all of its one container.
        if status.st_mode & (stat.S_IROTH | stat.S_IWOTH) and not str(file).startswith("/run/secrets/"):
            open_to_others.append(str(file))
    if open_to_others:
        return PRIVATE.fails(
            f"Everybody on this machine can read {', '.join(open_to_others)}.",
            f"Run `chmod 600 {' '.join(open_to_others)}`, and change what was in there if others use this "
            "machine.",
        )
    return PRIVATE.passes("No file with a secret is readable for everybody.")


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _secret(settings: Settings) -> Finding:
    given = settings.secret_key.get_secret_value()
    repair = "Unset it, so that a random one is made and kept, or set 32 random characters; then restart."
    if not given:
        return SECRET.passes("It is made at random, and kept in EVERGRANT_HOME.")
    if "".join(filter(str.isalnum, given.lower())) in _DEFAULTS:
        return SECRET.fails("It is a word that everybody tries first.", repair)
    if len(given) < _SHORTEST_KEY or len(set(given)) < _SHORTEST_KEY / 2:
        return SECRET.fails(f"It has {len(given)} characters, {len(set(given))} of them different.", repair)
    return SECRET.passes("It is long enough, and no default.")


def _password(settings: Settings) -> Finding:
    given = settings.operator_password.get_secret_value()
    repair = "Set a longer one, or none, so that a random one is made; then restart."
    if not given:
        return PASSWORD.passes("It is made at random, and kept in EVERGRANT_HOME.")
    if given.lower() in _DEFAULTS or len(given) < _SHORTEST_PASSWORD:
        return PASSWORD.fails(
            f"It has {len(given)} characters, or is a word that everybody tries first.", repair
        )
    return PASSWORD.passes("It is long enough, and no default.")


def _public(settings: Settings) -> Finding:
    url = settings.public_url
    if url.startswith("https://"):
        return PUBLIC.passes(f"It is {url}.")
    if is_local(url):
        return PUBLIC.passes(f"It is {url}: this machine only.")
    return PUBLIC.fails(
        f"It is {url}, which is not https.",
        "Put a proxy that speaks https before Evergrant, set `PUBLIC_URL` to its https address, and restart.",
    )
