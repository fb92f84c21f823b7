"""The sandbox as a process: what survives it, how it ends, and what it keeps to itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.conftest import Running

CALL = """
import sys, requests
requests.post(sys.argv[1], data={"grant_type": "refresh_token", "refresh_token": sys.argv[2]})
"""


def test_a_kill_loses_nothing(start: Callable[..., Running], owner: str) -> None:
    sandbox = start()
    first = sandbox.sign_in(owner, region="EU")["refresh_token"]
    second = sandbox.refresh(first).json()
    keys = sandbox.http.get(f"{sandbox.url}/oauth2/v3/discovery/keys", timeout=10).json()
    seen = sandbox.owner(owner)
    sandbox.process.kill()
    sandbox.process.wait(10)
    again = start()
    assert again.owner(owner) == seen
    assert again.http.get(f"{again.url}/oauth2/v3/discovery/keys", timeout=10).json() == keys
    assert again.fleet("users/me", second["access_token"], "eu").status_code == 200
    assert again.refresh(second["refresh_token"]).status_code == 200
    assert again.refresh(first).json()["error"] == "login_required"
    assert again.owner(owner)["generation"] == 2


def test_sigterm_ends_it_within_two_seconds_even_while_calls_hang(
    start: Callable[..., Running], owner: str
) -> None:
    sandbox = start()
    token = sandbox.sign_in(owner)["refresh_token"]
    sandbox.fault("hang", seconds=60)
    caller = subprocess.Popen(
        [sys.executable, "-c", CALL, sandbox.token_url, token],
        stderr=subprocess.DEVNULL,
    )
    try:
        sandbox.until(owner, lambda seen: seen["under_way"] == 1)
        start_of_end = time.monotonic()
        sandbox.process.send_signal(signal.SIGTERM)
        assert sandbox.process.wait(10) == 0
        assert time.monotonic() - start_of_end < 2
    finally:
        caller.kill()
        caller.wait()


def test_no_token_is_left_in_files_or_output(start: Callable[..., Running], owner: str) -> None:
    sandbox = start()
    code = sandbox.code(owner)
    tokens = sandbox.exchange(code).json()
    refreshed = sandbox.refresh(tokens["refresh_token"]).json()
    sandbox.refresh(tokens["refresh_token"] + "x")
    output = sandbox.output()
    secrets = [code] + [
        answer[name]
        for answer in (tokens, refreshed)
        for name in ("access_token", "refresh_token", "id_token")
    ]
    places = [path.read_bytes() for path in sandbox.home.iterdir()] + [output.encode()]
    for secret in secrets:
        for place in places:
            assert secret.encode() not in place
            assert secret.removeprefix("NA_")[:40].encode() not in place


def test_the_key_is_its_owners_alone(sandbox: Running) -> None:
    assert (sandbox.home / "signing-key.pem").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in sandbox.home.iterdir() if path.name.startswith(".")] == []


def test_a_taken_port_is_named(sandbox: Running, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sandbox", "--port", str(sandbox.port), "--home", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert str(sandbox.port) in ended.stderr
    assert "Traceback" not in ended.stderr


def test_one_worker_process_serves(sandbox: Running) -> None:
    children = Path(f"/proc/{sandbox.process.pid}/task/{sandbox.process.pid}/children")
    if children.exists():
        assert len(children.read_text().split()) == 1


def test_public_url_is_the_issuer(start: Callable[..., Running]) -> None:
    sandbox = start("--public-url", "https://tesla.example/")
    found = sandbox.http.get(f"{sandbox.url}/oauth2/v3/.well-known/openid-configuration", timeout=10).json()
    assert found["issuer"] == "https://tesla.example/oauth2/v3"
    assert found["authorization_endpoint"] == "https://tesla.example/oauth2/v3/authorize"
    assert found["token_endpoint"] == sandbox.token_url
    assert found["code_challenge_methods_supported"] == ["S256"]


def test_it_imports_nothing_of_the_product() -> None:
    script = "import sys, sandbox.app, sandbox.server, sandbox.__main__; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    ).stdout.split()
    product = {
        "settings",
        "fleet",
        "models",
        "workers",
        "web",
        "evergrant",
        "celery",
        "sqlalchemy",
        "pydantic",
    }
    assert product.isdisjoint(loaded)


def test_help_names_every_option() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "sandbox", "--help"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env=os.environ | {"COLUMNS": "100"},
    )
    for option in ("--port", "--redirect-uri", "--strict", "--seed", "--reuse-kills-lost-answer"):
        assert re.search(rf"{option}\b", ended.stdout)
