"""`evergrant doctor`, `keypair` and `register` as a person at a terminal, or a program, uses them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from settings import ROOT
from tests.evergrant.running import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.evergrant.running import Running

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]


def evergrant(*words: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "evergrant", *words],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_from_a_fresh_start_to_all_is_well(running: Running) -> None:
    env = running.environment
    first = evergrant("doctor", env=env)
    assert first.returncode == 1
    assert "FAIL  There is a key pair" in first.stdout
    assert "Repair: Run evergrant keypair." in first.stdout
    assert "docs/troubleshooting.md#not_registered" in first.stdout

    # In the wrong order: Tesla has no key to fetch.
    early = evergrant("register", env=env)
    assert early.returncode == 1
    assert "key_not_fetched" in early.stderr

    made = evergrant("keypair", env=env)
    assert made.returncode == 0
    private, public = (running.home / "tesla" / f"{half}-key.pem" for half in ("private", "public"))
    assert private.stat().st_mode & 0o777 == 0o600
    openssl = shutil.which("openssl")
    assert openssl
    text = subprocess.run(
        [openssl, "ec", "-pubin", "-in", public, "-noout", "-text"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "ASN1 OID: prime256v1" in text
    again = evergrant("keypair", env=env)
    assert (again.returncode, "left alone" in again.stdout) == (0, True)

    registered = evergrant("register", env=env)
    assert registered.returncode == 0, registered.stderr
    point = "".join(text.split("pub:")[1].split("ASN1")[0].split()).replace(":", "")
    assert registered.stdout.count(point) == 3  # what the sandbox has fetched by itself, in each region
    assert f"https://tesla.com/_ak/localhost:{running.web_port}" in registered.stdout

    found: list[subprocess.CompletedProcess[str]] = []

    def is_well() -> bool:
        found.append(evergrant("doctor", env=env))
        return found[-1].returncode == 0

    wait_until(is_well, seconds=60, what="beat's first tick")
    assert "All is well" in found[-1].stdout
    assert "FAIL" not in found[-1].stdout
    told = json.loads(evergrant("doctor", "--json", env=env).stdout)
    assert told["verdict"] == "pass"
    assert {check["verdict"] for check in told["checks"]} == {"pass"}


def test_an_owner_that_nobody_knows(running: Running) -> None:
    done = evergrant("doctor", "nobody", "--json", env=running.environment)
    assert done.returncode == 1
    assert "There is no grant of owner nobody." in json.loads(done.stdout)["sentence"]


def test_settings_that_do_not_read(tmp_path: Path) -> None:
    env = os.environ | {"EVERGRANT_HOME": str(tmp_path), "SWEEP_SECONDS": "often", "PUBLIC_URL": "nowhere"}
    done = evergrant("doctor", env=env)
    assert done.returncode == 1, done.stderr
    assert "SWEEP_SECONDS" in done.stdout
    assert "PUBLIC_URL" in done.stdout
    assert "Traceback" not in done.stderr
    assert evergrant("doctor", "somebody", env=env).returncode == 2
    assert not list(tmp_path.iterdir())


def test_where_nothing_was_ever_started(tmp_path: Path) -> None:
    home = tmp_path / "home"
    env = os.environ | {"EVERGRANT_HOME": str(home), "WEB_PORT": "9", "FLOWER_PORT": "9", "SANDBOX_PORT": "9"}
    done = evergrant("doctor", env=env | {"DATABASE_URL": "", "REDIS_URL": "", "PUBLIC_URL": ""})
    assert done.returncode == 1, done.stderr
    assert "make up" in done.stdout
    assert not home.exists()


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes a connection or two and never says a word; further ones hang as well."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        yield listener.getsockname()[1]


@pytest.mark.parametrize("owner", [(), ("somebody",)])
def test_it_ends_in_time_even_when_every_host_hangs(
    tmp_path: Path, silent: int, owner: tuple[str, ...]
) -> None:
    host = f"127.0.0.1:{silent}"
    tesla: dict[str, Any] = {
        f"TESLA_{name}": f"http://{host}/{name.lower()}"
        for name in (
            "AUTHORIZE_URL",
            "TOKEN_URL",
            "JWKS_URL",
            "ISSUER",
            "FLEET_URL_NA",
            "FLEET_URL_EU",
            "FLEET_URL_CN",
        )
    }
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "secret_key").write_text("a-secret-of-some-length")
    env = (
        os.environ
        | tesla
        | {
            "EVERGRANT_HOME": str(tmp_path),
            "TESLA_CLIENT_ID": "app",
            "TESLA_CLIENT_SECRET": "secret",
            "PUBLIC_URL": f"http://{host}",
            "FLOWER_PORT": str(silent),
            "DATABASE_URL": f"postgresql://evergrant@{host}/evergrant",
            "REDIS_URL": f"redis://{host}/0",
        }
    )
    began = time.monotonic()
    evergrant("doctor", env=env | {"SWEEP_SECONDS": "often"})  # loads the same, and looks at nothing
    start = time.monotonic() - began
    began = time.monotonic()
    done = evergrant("doctor", *owner, "--json", env=env)
    took = time.monotonic() - began
    # A busy machine may take its time to start; on an idle one that is less than 1 s.
    assert took < 7 + 2 * start, f"{took:.1f} s, of which {start:.1f} s to start"
    assert done.returncode in {1, 7}, done.stderr
    verdicts = {check["check"]: check["verdict"] for check in json.loads(done.stdout)["checks"]}
    if owner:
        assert set(verdicts.values()) == {"can't know"}
    else:
        assert verdicts["settings"] == "pass"
        assert verdicts["app.credentials.na"] == "can't know"
        assert "pass" not in {verdict for name, verdict in verdicts.items() if name.startswith("parts.s")}
