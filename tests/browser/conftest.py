"""The sandbox and the pages as the processes that they are, and a real Chromium in front of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from models.migrate import upgrade
from settings import ROOT, Settings
from workers.parts import Parts, build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

REPORT_VIOLATIONS = """
document.addEventListener('securitypolicyviolation',
  event => console.error('CSP: ' + event.violatedDirective + ' ' + event.blockedURI));
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.browser)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert process.poll() is None, f"{url} did not come up"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):  # noqa: S310
            return
        time.sleep(0.05)
    raise AssertionError(f"{url} did not answer in time")


PASSWORD = "the-operator-of-the-tests"


@dataclass(frozen=True)
class Installation:
    """Pages and a sandbox, as processes. `parts` are what a worker of theirs would have: there is none."""

    url: str
    sandbox: str
    parts: Parts


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Installation]:
    home: Path = tmp_path_factory.mktemp("evergrant")
    web, sandbox = free_port(), free_port()
    url = f"http://localhost:{web}"
    upgrade(f"sqlite:///{home / 'evergrant.db'}")
    environment = os.environ | {
        "EVERGRANT_HOME": str(home),
        "WEB_PORT": str(web),
        "SANDBOX_PORT": str(sandbox),
        "PUBLIC_URL": url,
        "REDIS_URL": redis_url,
        "DATABASE_URL": "",
        "TESLA_CLIENT_ID": "",
        "OPERATOR_PASSWORD": PASSWORD,
    }
    commands = [
        [
            *("-m", "sandbox", "--port", str(sandbox), "--home", str(home / "sandbox")),
            *("--redirect-uri", f"{url}/callback", "--token-seconds", "28800"),
        ],
        ["-m", "gunicorn", "--config", "python:evergrant.serving", "web.app:create_app()"],
    ]
    with (home / "log").open("wb") as log:
        running = [
            subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
            for command in commands
        ]
    try:
        wait_for(f"http://localhost:{sandbox}/healthz", running[0])
        wait_for(f"{url}/healthz", running[1])
        settings = Settings(
            _env_file=None, evergrant_home=home, sandbox_port=sandbox, public_url=url, redis_url=redis_url
        )
        parts = build(settings)
        yield Installation(url, f"http://localhost:{sandbox}", parts)
        parts.database.close()
        parts.redis.close()
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait(15)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Visitor:
    """One person's browser on Evergrant. Complaints are errors of the page: scripts, styles, CSP."""

    installation: Installation
    context: BrowserContext
    page: Page
    complaints: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.installation.url

    def open(self, path: str) -> None:
        self.page.goto(self.url + path)

    def sign_in(self, owner: str = "Ada Ampere") -> None:
        self.open("/")
        self.page.get_by_role("link", name="Sign in with Tesla").click()
        self.allow(owner)

    def sign_in_as_operator(self) -> None:
        self.open("/operator")
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(f"{self.url}/operator")

    def allow(self, owner: str) -> None:
        """On Tesla's page."""
        self.page.get_by_label("Or type a name").fill(owner)
        self.page.get_by_role("button", name="Allow").click()
        self.page.wait_for_url(f"{self.url}/owner")


@pytest.fixture
def visit(chromium: Browser, installation: Installation) -> Iterator[Callable[..., Visitor]]:
    """Opens a browser of somebody new: light or dark, as wide as asked; `how` is Playwright's."""
    visitors: list[Visitor] = []

    def new(scheme: str = "light", width: int = 1100, **how: Any) -> Visitor:
        context = chromium.new_context(
            color_scheme="dark" if scheme == "dark" else "light",
            viewport={"width": width, "height": 800},
            **how,
        )
        context.set_default_timeout(10_000)
        context.add_init_script(REPORT_VIOLATIONS)
        visitor = Visitor(installation, context, context.new_page())
        visitor.page.on("pageerror", lambda error: visitor.complaints.append(str(error)))
        visitor.page.on(
            "console",
            # A page of ours with a status like 403 is reported as a resource that failed to load.
            lambda message: (
                visitor.complaints.append(message.text)
                if message.type in {"error", "warning"} and "responded with a status of" not in message.text
                else None
            ),
        )
        visitors.append(visitor)
        return visitor

    yield new
    for visitor in visitors:
        visitor.context.close()
    for visitor in visitors:
        assert visitor.complaints == []
