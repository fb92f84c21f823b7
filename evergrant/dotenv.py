"""Writes `.env` from `.env.example`, with secrets of its own: ``python -m evergrant.dotenv``.

It needs nothing but Python, so that who only has Docker can use it as well. Secrets that `make up` made
earlier are taken over: with other keys the tokens that are stored could not be opened.
"""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


SECRETS = ("POSTGRES_PASSWORD", "ENCRYPTION_KEYS", "SECRET_KEY", "OPERATOR_PASSWORD")


def fresh(name: str) -> str:
    """A new value for the secret called `name`, without characters that a URL or a shell would change."""
    if name == "ENCRYPTION_KEYS":
        return "k1:" + base64.b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_urlsafe(12 if name == "OPERATOR_PASSWORD" else 32)


def filled(example: str, kept: Path) -> str:
    """The text of `example` with each secret's empty line filled in; `kept` is the folder of made secrets."""
    lines = []
    for line in example.splitlines():
        name, separator, value = line.partition("=")
        if separator and not value and name in SECRETS:
            try:
                # The file may hold several keys on lines of their own; in .env commas separate them.
                line = f"{name}={','.join((kept / name.lower()).read_text().split())}"
            except OSError:
                line = f"{name}={fresh(name)}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def main(root: Path = ROOT) -> None:
    """Write the file; an existing one is left as it is."""
    target = root / ".env"
    text = filled((root / ".env.example").read_text(), root / "var" / "secrets")
    try:
        target.touch(mode=0o600, exist_ok=False)
    except FileExistsError:
        _say(f".env exists and stays as it is. It lacks, of .env.example's names: {_missing(target, text)}.")
        return
    target.write_text(text)
    _say("Wrote .env with its own secrets. Keep a copy: without ENCRYPTION_KEYS no stored token opens.")


def _missing(target: Path, text: str) -> str:
    have = {line.partition("=")[0].lstrip("# ") for line in target.read_text().splitlines()}
    want = [line.partition("=")[0] for line in text.splitlines() if "=" in line and not line.startswith("#")]
    return ", ".join(name for name in want if name not in have) or "none"


def _say(sentence: str) -> None:
    print(sentence)  # noqa: T201 - this is the command line speaking


if __name__ == "__main__":
    main()
