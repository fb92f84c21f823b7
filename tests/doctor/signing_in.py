"""An owner with a browser, and an operator with another."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import requests

if TYPE_CHECKING:
    from tests.doctor.conftest import Installation

EVERYTHING = (
    "openid offline_access user_data vehicle_device_data vehicle_location vehicle_cmds vehicle_charging_cmds"
)


_numbers = itertools.count(1)


class Owner:
    """Follows redirects within Evergrant only."""

    def __init__(self, installation: Installation) -> None:
        self.name = f"Owner {next(_numbers)}"
        self._installation = installation
        self._browser = installation.site.browser()

    @property
    def id(self) -> str:
        return str(self._installation.tesla.owner(self.name)["sub"])

    def decide(self, scope: str = EVERYTHING) -> str:
        """Allows at Tesla; the path of the way back, with its query."""
        where = self._browser.get("/signin").headers["Location"]
        form = {"owner": self.name, "scope": scope, "decision": "allow"}
        allowed = requests.post(where, data=form, allow_redirects=False, timeout=10)
        assert allowed.status_code == 303, allowed.text
        return allowed.headers["Location"].removeprefix(self._installation.url)

    def sign_in(self, scope: str = EVERYTHING) -> None:
        back = self._browser.get(self.decide(scope))
        assert back.status_code == 303, back.text

    def get(self, path: str) -> str:
        return self._browser.get(path).text

    def refresh(self) -> None:
        self._browser.press("/owner", "/owner/refresh")

    def as_operator(self, path: str) -> str:
        operator = self._installation.site.browser()
        page = operator.get("/operator/signin").text
        token = re.search(r'name="csrf_token" value="([^"]+)"', page)
        assert token
        password = self._installation.settings.console_password
        operator.post("/operator/signin", data={"csrf_token": token[1], "password": password})
        return operator.get(path).text
