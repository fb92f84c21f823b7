"""Programs that are not ours work with the whole product, as docs/clients.md shows them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from sqlalchemy import select, update

from models.grants import grants
from models.session import Database
from settings import ROOT
from tests.evergrant.running import Running

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "clients.md").read_text(), re.DOTALL)
NAME = "Ada Ampere"
APP = "https://app.example.com"


class Product:
    """A running Evergrant with an owner, a key made on the command line, and a program that uses it."""

    def __init__(self, running: Running) -> None:
        running.wait_for_banner()
        self.url = f"http://localhost:{running.web_port}"
        self.sandbox = f"http://localhost:{running.sandbox_port}"
        self.database = Database(f"sqlite:///{running.home / 'evergrant.db'}")
        self.sign_in(f"{self.url}/signin")
        with self.database.read() as connection:
            self.owner = str(connection.execute(select(grants.c.owner)).scalar_one())
        words = ["keys", "create", "tests"]
        for scope in ("tokens:read", "gateway", "owners:write"):
            words += ["--scope", scope]
        made = self.run("-m", "evergrant", *words, environment=running.environment)
        self.environment = os.environ | {
            "EVERGRANT_URL": self.url,
            "EVERGRANT_KEY": made.strip(),
            "OWNER": self.owner,
            "APP_URL": APP,
        }

    def sign_in(self, url: str) -> requests.Response:
        """As a browser does it, until it is sent somewhere else than here."""
        browser = requests.Session()
        page = browser.get(url, timeout=20)
        form = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
        scopes = re.findall(r'name="scope" value="([^"]+)"', page.text)
        given = {**form, "owner": NAME, "region": "EU", "scope": scopes, "decision": "allow"}
        back = browser.post(page.url, data=given, timeout=20, allow_redirects=False)
        return browser.get(back.headers["Location"], timeout=20, allow_redirects=False)

    def run(self, *words: str, environment: dict[str, str] | None = None) -> str:
        """What a program prints."""
        done = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env=environment or self.environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def example(self, part: str) -> str:
        """What the example with this in it prints."""
        (example,) = [example for example in EXAMPLES if part in example]
        return self.run("-c", example)

    def fault(self, name: str, **rule: Any) -> None:
        answer = requests.post(f"{self.sandbox}/faults", json={"fault": name, **rule}, timeout=10)
        assert answer.status_code == 201, answer.text

    def column(self, name: str) -> Any:
        with self.database.read() as connection:
            return connection.execute(select(grants.c[name])).scalar_one()


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    running = Running(
        tmp_path_factory.mktemp("clients") / "home", RETURN_URLS=f"{APP}/tesla", SANDBOX_TOKEN_SECONDS="3600"
    )
    try:
        product = Product(running)
        yield product
        product.database.close()
    finally:
        running.end()


def test_plain_requests_through_the_gateway(product: Product) -> None:
    assert re.fullmatch(r"(SBX\w{14} online\n){2}", product.example("/api/1/vehicles"))


def test_the_tesla_fleet_api_package_through_the_gateway(product: Product) -> None:
    assert product.example("TeslaFleetApi(") == f"{NAME}\neu\n"


def test_a_token_of_its_own(product: Product) -> None:
    assert product.example("min_ttl") == f"EU True {NAME}\n"


def test_a_token_that_was_revoked_behind_our_back_is_not_noticed(product: Product) -> None:
    generation = product.column("generation")
    product.fault("access_revoked", count=1)
    assert product.example("TeslaFleetApi(") == f"{NAME}\neu\n"
    assert product.column("generation") == generation + 1


def test_the_wrong_region_is_not_noticed_and_put_right(product: Product) -> None:
    with product.database.write() as connection:
        connection.execute(update(grants).values(region="NA"))
    assert product.example("TeslaFleetApi(") == f"{NAME}\neu\n"
    assert product.column("region") == "EU"


def test_the_sign_in_of_another_app(product: Product) -> None:
    link = product.example("signin-links").strip()
    back = product.sign_in(link).headers["Location"]
    assert back.startswith(f"{APP}/tesla/back?")
    assert dict(parse_qsl(urlsplit(back).query)) == {
        "session": "4711",
        "status": "connected",
        "owner": product.owner,
    }
    assert requests.get(link, timeout=20).status_code == 410


def test_every_example_is_run() -> None:
    assert len(EXAMPLES) == 4
