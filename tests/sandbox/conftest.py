"""A real `python -m sandbox` process, and the few things that an app or an owner does to it."""

from __future__ import annotations

import contextlib
import itertools
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CALLBACK = "http://localhost:8000/callback"
EVERYTHING = "openid offline_access user_data vehicle_device_data vehicle_location"
APP = {"client_id": "evergrant-sandbox", "client_secret": "sandbox-secret"}


class Running:
    """A sandbox process on a free port of loopback."""

    def __init__(self, home: Path, *options: str) -> None:
        self.home = home
        command = [sys.executable, "-m", "sandbox", "--port", "0", "--home", str(home), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r":(\d+)\)$", line.strip())
        assert found, line
        self.port = int(found[1])
        self.url = f"http://localhost:{self.port}"
        self.token_url = f"{self.url}/oauth2/v3/token"
        self.authorize_url = f"{self.url}/oauth2/v3/authorize"
        self.http = requests.Session()
        # The listening socket holds the connection until the worker is there to take it.
        assert self.http.get(f"{self.url}/healthz", timeout=10).json() == {"status": "ok"}

    def stop(self) -> None:
        self.output()

    def output(self) -> str:
        """Ends it; returns what it wrote after its first line."""
        self.http.close()
        assert self.process.stdout is not None
        if self.process.stdout.closed:
            return ""
        self.process.terminate()
        try:
            return self.process.communicate(timeout=10)[0]
        finally:
            self.process.kill()
            self.process.wait()

    # --- the owner ---------------------------------------------------------------------------------

    def ask(self, **changes: str) -> dict[str, str]:
        """The parameters of an authorize request; empty leaves one out."""
        asked = {
            "client_id": APP["client_id"],
            "response_type": "code",
            "redirect_uri": CALLBACK,
            "scope": EVERYTHING,
            "state": "state-1",
        } | changes
        return {name: value for name, value in asked.items() if value}

    def decide(self, ask: dict[str, str] | None = None, **fields: Any) -> requests.Response:
        """What the page's form posts."""
        form = {"owner": "Ada Ampere", "scope": EVERYTHING.split(), "decision": "allow"} | fields
        return self.http.post(
            self.authorize_url, params=ask or self.ask(), data=form, allow_redirects=False, timeout=10
        )

    def code(self, owner: str, ask: dict[str, str] | None = None, **fields: Any) -> str:
        answer = back(self.decide(ask, owner=owner, **fields))
        return answer["code"]

    def withdraw(self, owner: str, what: str = "withdraw") -> requests.Response:
        return self.http.post(f"{self.url}/owners/{self.owner(owner)['sub']}/{what}", timeout=10)

    # --- the app -----------------------------------------------------------------------------------

    def token(self, parameters: dict[str, str], timeout: float = 10) -> requests.Response:
        return self.http.post(self.token_url, data=parameters, timeout=timeout)

    def exchange(self, code: str, **changes: str) -> requests.Response:
        given = {
            **APP,
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "audience": f"{self.url}/na",
        } | changes
        return self.token({name: value for name, value in given.items() if value})

    def sign_in(self, owner: str, **fields: Any) -> dict[str, Any]:
        answer = self.exchange(self.code(owner, **fields))
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def refresh(self, refresh_token: str, timeout: float = 10) -> requests.Response:
        asked = {"grant_type": "refresh_token", "client_id": APP["client_id"], "refresh_token": refresh_token}
        return self.token(asked, timeout)

    def fleet(self, path: str, access_token: str, region: str = "na") -> requests.Response:
        return self.http.get(
            f"{self.url}/{region}/api/1/{path}",
            headers={"Authorization": f"Bearer {access_token}"},
            timeout=10,
        )

    # --- the judge ---------------------------------------------------------------------------------

    def record(self) -> dict[str, Any]:
        return dict(self.http.get(f"{self.url}/record.json", timeout=10).json())

    def owner(self, name: str) -> dict[str, Any]:
        return next(owner for owner in self.record()["owners"] if owner["name"] == name)

    def until(self, owner: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The owner's part of the record as soon as `holds` is true of it."""
        deadline = time.monotonic() + 10
        while not holds(found := self.owner(owner)):
            assert time.monotonic() < deadline, found
            time.sleep(0.01)
        return found

    def fault(self, name: str, **rule: Any) -> dict[str, Any]:
        answer = self.http.post(f"{self.url}/faults", json={"fault": name, **rule}, timeout=10)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


def back(answer: requests.Response) -> dict[str, str]:
    """The query of the redirect to the app."""
    assert answer.status_code == 303, answer.text
    target = urlsplit(answer.headers["Location"])
    assert f"{target.scheme}://{target.netloc}{target.path}" == CALLBACK
    return {name: values[0] for name, values in parse_qs(target.query).items()}


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One process with the defaults, for all tests that take an owner of their own."""
    running = Running(tmp_path_factory.mktemp("sandbox"))
    yield running
    running.stop()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts a process with options; a second call on the same home goes on with its state."""
    with contextlib.ExitStack() as stack:

        def begin(*options: str) -> Running:
            running = Running(tmp_path / "home", *options)
            stack.callback(running.stop)
            return running

        yield begin


_numbers = itertools.count(1)


@pytest.fixture
def owner() -> str:
    """A name that no other test uses."""
    return f"Owner {next(_numbers)}"


@pytest.fixture
def redirected() -> Callable[[requests.Response], dict[str, str]]:
    """The query of a redirect to the app."""
    return back
