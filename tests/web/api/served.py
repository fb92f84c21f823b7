"""The pages and the API as gunicorn serves them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from settings import ROOT, Settings
from tests.evergrant.running import free_ports, status_of, wait_until
from tests.web.pages import Site
from workers.parts import build

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.web.odd_tesla import OddTesla


class Served(Site):
    """A gunicorn of its own. `app` is the same app in this process, for its parts only."""

    def __init__(self, home: Path, tesla: OddTesla, **settings: str) -> None:
        from web.app import create_app

        (port,) = free_ports(1)
        given = tesla.settings() | {
            "web_port": port,
            "public_url": f"http://127.0.0.1:{port}",
            "evergrant_home": home,
        }
        given |= settings
        self.parts = build(Settings(_env_file=None, **given))
        super().__init__(f"http://127.0.0.1:{port}", create_app(self.parts), self.parts, tesla)
        self.output = home / "web.log"
        self._process = self._start({name.upper(): str(value) for name, value in given.items()})

    def _start(self, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        command = ["-m", "gunicorn", "--config", "python:evergrant.serving", "web.app:create_app()"]
        with self.output.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=os.environ | environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        wait_until(
            lambda: status_of(f"{self.url}/healthz") == 200, seconds=40, what=f"gunicorn. {self.output}"
        )
        return process

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(15)
        self.parts.database.close()
        self.parts.redis.close()
