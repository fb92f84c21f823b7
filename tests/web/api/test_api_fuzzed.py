"""schemathesis runs the OpenAPI document against the real server: no 500, no answer that the document does
not know, nothing invalid accepted, nothing valid refused, nothing without a key that has the scope."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from models.api_keys import Scope
from settings import ROOT
from tests.web.api.conftest import ALL, Program, connect
from tests.web.api.served import Served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis

    from tests.web.odd_tesla import OddTesla

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

EXAMPLES = 15
"""Of each call in each phase, beside those that schemathesis derives from the document."""


@pytest.fixture
def served(
    tmp_path: Path, redis_url: str, redis: Redis, tesla: OddTesla, postgresql: Callable[[], str]
) -> Iterator[Served]:
    allowed = "https://app.example.com"
    served = Served(tmp_path, tesla, database_url=postgresql(), redis_url=redis_url, return_urls=allowed)
    yield served
    served.end()


@pytest.mark.parametrize("scopes", [ALL, (Scope.OWNERS_READ,)], ids=["every scope", "one scope"])
def test_the_api_does_what_its_document_says(
    served: Served, scopes: tuple[Scope, ...], tmp_path: Path
) -> None:
    for owner in ("ann", "bob", "0"):
        connect(served, owner)
    program = Program(served, scopes)
    run = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "run"),
            f"{served.url}/api/v1/openapi.json",
            *("--header", f"Authorization: Bearer {program.key}"),
            *("--checks", "all", "--max-examples", str(EXAMPLES), "--seed", "1"),
            *("--continue-on-failure", "--no-color", "--request-timeout", "30"),
        ],
        cwd=tmp_path,
        env=os.environ
        | {
            "SCHEMATHESIS_HOOKS": "tests.web.api.only_with_scope",
            "KEY_SCOPES": " ".join(scopes),
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Tested: 7" in run.stdout, run.stdout
    log = served.output.read_text()
    assert "Traceback" not in log
    assert program.key[23:] not in log
