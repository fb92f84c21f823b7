"""The whole product, as the processes it is: signed in once, refreshed since, and no token to be found."""

from __future__ import annotations

import base64
import os
import re
import signal
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import requests
from redis import Redis
from sqlalchemy import select

from models.crypto import Keyring
from models.grants import grants
from models.session import Database, metadata
from tests.evergrant.running import Running, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

TOKEN_SECONDS = 8


class Product:
    """A running Evergrant, its owners, and every token that was ever seen in its table."""

    def __init__(self, home: Path, database_url: str) -> None:
        self.running = Running(home, SANDBOX_TOKEN_SECONDS=str(TOKEN_SECONDS), DATABASE_URL=database_url)
        self.running.wait_for_banner()
        self.database = Database(database_url or f"sqlite:///{home / 'evergrant.db'}")
        self.keyring = Keyring.parse((home / "secrets" / "encryption_keys").read_text())
        self.tokens: set[str] = set()
        self.sandbox = f"http://localhost:{self.running.sandbox_port}"

    def sign_in(self, name: str) -> None:
        """As a browser without scripts does it."""
        browser = requests.Session()
        page = browser.get(f"http://localhost:{self.running.web_port}/signin", timeout=20)
        form = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
        scopes = re.findall(r'name="scope" value="([^"]+)"', page.text)
        back = browser.post(
            page.url,
            data={**form, "owner": name, "region": "EU", "scope": scopes, "decision": "allow"},
            timeout=20,
        )
        assert back.status_code == 200, back.text
        assert "Alive" in back.text

    def generations(self) -> list[int]:
        """Each owner's generation; what their rows hold is remembered in the clear."""
        columns = ("access_token", "refresh_token", "previous_refresh_token")
        with self.database.read() as connection:
            rows = connection.execute(select(grants)).all()
        for row in rows:
            for column in columns:
                sealed = getattr(row, column)
                if sealed is not None:
                    place = {"owner": row.owner, "column": column, "generation": row.generation}
                    self.tokens.add(self.keyring.open(sealed, **place))
        return [row.generation for row in rows]

    def until_refreshed(self, times: int) -> None:
        target = [generation + times for generation in self.generations()]
        wait_until(
            lambda: all(now >= goal for now, goal in zip(self.generations(), target, strict=True)),
            seconds=60,
            what=f"generations {target}, but {self.generations()}. {self.running.output}",
        )

    def record(self) -> dict[str, Any]:
        return dict(requests.get(f"{self.sandbox}/record.json", timeout=10).json())

    def flower(self, path: str) -> str:
        return requests.get(
            f"http://localhost:{self.running.flower_port}{path}",
            auth=("operator", (self.running.home / "secrets" / "operator_password").read_text()),
            timeout=10,
        ).text

    def valkey(self) -> bytes:
        """All that Valkey holds."""
        redis = Redis(unix_socket_path=str(self.running.home / "valkey" / "valkey.sock"))
        held = [(str(key).encode(), redis.dump(key) or b"") for key in redis.keys("*")]
        return b"".join(key + bytes(value) for key, value in held)


@pytest.fixture(params=["sqlite", "postgresql"])
def product(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Product]:
    url = "" if request.param == "sqlite" else str(request.getfixturevalue("postgresql")())
    started = Product(tmp_path / "home", url)
    yield started
    started.database.close()
    started.running.end()


def test_owners_sign_in_once_and_stay_alive(product: Product) -> None:
    for name in ("Ada Ampere", "Volta Moreau", "Joule Okafor"):
        product.sign_in(name)
    product.until_refreshed(2)

    # The worker is killed in the middle of whatever it does, and the product goes on by itself.
    worker = product.running.find("workers worker")
    os.kill(worker, signal.SIGKILL)
    product.until_refreshed(2)
    assert product.running.find("workers worker") != worker
    tasks = product.flower("/api/tasks?limit=500")
    assert '"workers.refresh"' in tasks
    page = "/tasks/datatable?draw=1&start=0&length=500&search[value]=&order[0][column]=0&order[0][dir]=asc"
    assert re.search(r'"routing_key": "refresh\.\d\d"', product.flower(f"{page}&columns[0][data]=name"))
    assert '"SUCCESS"' in tasks
    assert '"FAILURE"' not in tasks
    shown = tasks + product.flower("/tasks") + product.flower("/api/workers")
    held = product.valkey()

    # Stopped and started again, it goes on with the same owners and without a sign-in.
    generations = product.generations()
    product.running.process.send_signal(signal.SIGTERM)
    assert product.running.process.wait(10) == 0
    product.running.start()
    product.until_refreshed(1)
    totals = product.record()["totals"]
    assert (totals["sign_ins"], totals["alive"]) == (3, 3)
    assert (totals["overlaps"], totals["superseded_presented"]) == (0, 0)
    assert all(now > before for now, before in zip(product.generations(), generations, strict=True))
    both = {owner["sub"]: owner["generation"] for owner in product.record()["owners"]}
    with product.database.read() as connection:
        ours = {row.owner: row.generation for row in connection.execute(select(grants))}
    # Exactly one answer of each owner's may have been lost with the worker that was killed.
    assert all(0 <= both[owner] - generation <= 1 for owner, generation in ours.items())

    # No token is found in any of its forms, anywhere.
    held += product.valkey()
    product.running.process.send_signal(signal.SIGTERM)
    product.running.process.wait(10)
    haystack = {"Flower": shown.encode(), "Valkey's memory": held}
    haystack["what it printed"] = product.running.output.read_bytes()
    for path in product.running.home.rglob("*"):
        if path.is_file():
            haystack[str(path)] = path.read_bytes()
    if product.database.engine.dialect.name == "postgresql":
        with product.database.read() as connection:
            for table in metadata.tables:
                rows = connection.exec_driver_sql(f"SELECT * FROM {table}").all()  # noqa: S608
                haystack[f"table {table}"] = b" ".join(
                    value if isinstance(value, bytes) else str(value).encode()
                    for row in rows
                    for value in row
                )
    assert len(product.tokens) > 3 * 5
    for token in product.tokens:
        for form in forms(token):
            found = [where for where, content in haystack.items() if form in content]
            assert not found, f"a token is in {found}"
    assert forms("needle")[1] in b"..." + base64.b64encode(b"needle"), "the search itself works"


def forms(token: str) -> list[bytes]:
    """How a token may be spelled: as it is, in base64 (apart from its ends), in hex, and quoted."""
    raw = token.encode()
    plain = [raw, base64.b64encode(raw)[:-4], base64.urlsafe_b64encode(raw)[:-4]]
    return [*plain, raw.hex().encode(), quote(token, safe="").encode(), raw[::-1], raw[: len(raw) // 2]]
