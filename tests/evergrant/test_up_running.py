"""What `make up` shows and serves while it runs."""

from __future__ import annotations

import base64
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench import cpu
from models import migrate
from settings import ROOT
from tests.evergrant.running import free_ports, status_of, wait_until

if TYPE_CHECKING:
    from tests.evergrant.running import Running

pytestmark = pytest.mark.processes


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="it is Linux that tells")
def test_all_processes_together_are_small(running: Running) -> None:
    flower = f"http://127.0.0.1:{running.flower_port}/healthcheck"
    wait_until(lambda: status_of(flower) == 200, seconds=60, what="Flower answers")
    assert cpu.memory([running.process.pid]) < 350e6


def test_everything_answers_where_the_banner_says(running: Running) -> None:
    urls = re.findall(r"http://\S+", running.printed[running.printed.index("Evergrant is up.") :])
    page, console, flower, sandbox = urls[:4]
    assert [url.rpartition(":")[2] for url in urls[:4]] == [
        str(running.web_port),
        f"{running.web_port}/operator",
        str(running.flower_port),
        str(running.sandbox_port),
    ]
    password = (running.home / "secrets" / "operator_password").read_text().strip()
    assert (
        f"password {password} (generated, kept in {running.home}/secrets/operator_password)"
        in running.printed
    )
    wait_until(lambda: status_of(flower) == 401, seconds=10, what="Flower asks for the password")
    basic = {"Authorization": "Basic " + base64.b64encode(f"operator:{password}".encode()).decode()}
    assert status_of(flower, basic) == 200
    for url in (page, console, sandbox):
        assert status_of(url) == 200


def test_each_line_has_a_name_and_no_colour_when_nobody_looks(running: Running) -> None:
    # Beat says nothing while all is well; these two always say where they listen.
    assert "web       | " in running.printed
    assert "sandbox   | " in running.printed
    assert "\033" not in running.printed
    log = running.printed.replace("Starting Evergrant.\n", "")
    before, _, rest = log.partition("\n  Evergrant is up.")
    after = rest.partition("To stop")[2].partition("\n\n")[2]
    for line in (before + after).splitlines():
        assert re.match(r"(web|worker|beat|flower|sandbox|valkey|evergrant) +\| ", line), line


def test_state_is_private(running: Running) -> None:
    for path in (running.home, *running.home.rglob("*")):
        if not path.is_symlink():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_all_processes_hold_the_claim(running: Running) -> None:
    commands = list(running.members().values())
    for part in ("manager", "console", "valkey", "serving", "worker", "beat", "flower", "sandbox"):
        assert any(part in command for command in commands), part


def test_no_secret_is_on_a_command_line(running: Running) -> None:
    secrets = [path.read_text().strip() for path in (running.home / "secrets").iterdir()]
    assert len(secrets) == 3
    for command in running.members().values():
        assert not any(secret in command for secret in secrets)


def test_a_query_is_in_no_log(running: Running) -> None:
    assert status_of(f"{running.web}/callback?code=NA_visible1&state=visible2") >= 400
    with socket.create_connection(("127.0.0.1", running.web_port)) as connection:
        connection.sendall(b"GET /callback?code=NA_visible3\r\n\r\n")
        connection.recv(100)
    wait_until(lambda: "GET /callback 4" in running.printed, seconds=5, what="the access log")
    wait_until(lambda: "Invalid request" in running.printed, seconds=5, what="the error log")
    logs = running.printed + "".join(path.read_text() for path in (running.home / "log").iterdir())
    assert "visible" not in logs


def probed(name: str, environment: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "evergrant.probe", name],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("name", ["web", "worker", "beat", "flower", "sandbox"])
def test_the_probe_of_a_process_that_works(running: Running, name: str) -> None:
    wait_until(lambda: probed(name, running.environment) == (0, ""), seconds=20, what=f"the probe of {name}")


def test_the_probe_of_a_process_that_does_not(running: Running, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    status, said = probed("web", running.environment | {"WEB_PORT": str(port)})
    assert (status, said.startswith(f"web does not answer on port {port}")) == (1, True)
    url = f"sqlite:///{tmp_path}/other.db"
    migrate.upgrade(url)
    assert probed("worker", running.environment | {"DATABASE_URL": url}) == (
        1,
        "no sign of life of this worker in the last 60 s\n",
    )


@pytest.mark.parametrize("program", ["valkey-server", "evergrant.serving", "worker", "evergrant.console"])
def test_a_killed_process_comes_back(running: Running, program: str) -> None:
    killed = running.find(program)
    assert killed
    os.kill(killed, signal.SIGKILL)
    wait_until(
        lambda: running.find(program) not in {0, killed},
        seconds=10,
        what=f"another {program} than {killed}",
    )
    wait_until(lambda: status_of(f"{running.web}/readyz") == 200, seconds=20, what="ready again")


def test_a_second_one_in_the_same_folder_is_refused(running: Running) -> None:
    second = subprocess.run(
        running.command,
        cwd=ROOT,
        env=running.environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert second.returncode == 2
    assert second.stderr.startswith(f"Evergrant already runs here, process {running.manager}.")
    assert "Traceback" not in second.stderr
    assert status_of(f"{running.web}/") == 200
