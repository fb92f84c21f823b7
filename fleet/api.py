"""The few Fleet API calls that keeping a grant needs: where the owner lives, who it is, which cars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleet.errors import CAUSES, TeslaError, odd, sort_fleet_answer
from fleet.transport import NotSent, OutcomeUnknown, call, session

if TYPE_CHECKING:
    from requests import Session

    from fleet.deadline import Deadline
    from fleet.regions import Regions


class FleetApi:
    """Reads from the Fleet API with an owner's access token, at configured base URLs only.

    Each method raises `TeslaError`. `start` is the region code that is asked first; one 421 is followed.
    """

    def __init__(self, regions: Regions, pool_size: int = 4) -> None:
        self._regions = regions
        self._session = session(pool_size=pool_size)

    def region(self, access_token: str, start: str, deadline: Deadline) -> tuple[str, str]:
        """The owner's region code and its configured base URL (`GET /api/1/users/region`)."""
        content, asked = self._get("/api/1/users/region", access_token, start, deadline)
        response = content.get("response")
        if isinstance(response, dict):
            base, name = response.get("fleet_api_base_url"), response.get("region")
            region = self._regions.region_of_url(base) if isinstance(base, str) else None
            if region is None and isinstance(name, str) and name.upper() in self._regions:
                region = name.upper()
            if region is not None:
                return region, self._regions.url(region)
            if isinstance(base, str):
                raise TeslaError(
                    CAUSES["wrong_region"], status=200, description="the region's URL is not configured"
                )
            if (
                "region" in response and name is None and base is None
            ):  # seen: an account that Tesla's app has never opened
                raise TeslaError(CAUSES["unknown_user"], status=200, description="Tesla names no region")
        raise TeslaError(
            CAUSES["odd_answer"], status=200, description=f"Tesla's {asked} did not say where the owner lives"
        )

    def me(self, access_token: str, start: str, deadline: Deadline) -> dict[str, Any]:
        """The parsed answer of `GET /api/1/users/me`."""
        return self._get("/api/1/users/me", access_token, start, deadline)[0]

    def vehicles(self, access_token: str, start: str, deadline: Deadline) -> dict[str, Any]:
        """The parsed answer of `GET /api/1/vehicles`: its first page."""
        return self._get("/api/1/vehicles", access_token, start, deadline)[0]

    def _get(
        self, path: str, access_token: str, start: str, deadline: Deadline
    ) -> tuple[dict[str, Any], str]:
        """The parsed object, and the region that gave it."""
        try:
            return self._get_once(path, access_token, start, deadline), start
        except TeslaError as error:
            region = self._regions.region_of_url(error.right_base_url or "")
            if region is None or region == start.upper():
                raise
        return self._get_once(path, access_token, region, deadline), region

    def _get_once(self, path: str, access_token: str, region: str, deadline: Deadline) -> dict[str, Any]:
        return ask(self._session, "GET", self._regions.url(region) + path, access_token, deadline)


def ask(
    session: Session,
    method: str,
    url: str,
    access_token: str,
    deadline: Deadline,
    content: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The parsed object of one call to the Fleet API; `content` is sent as JSON. Raises `TeslaError`."""
    headers = {"Authorization": f"Bearer {access_token}"}
    try:
        answer = call(session, method, url, deadline=deadline, headers=headers, json=content)
    except NotSent as error:
        raise TeslaError(CAUSES["unreachable"], description=str(error), sent=False) from None
    except OutcomeUnknown as error:  # whether it took effect is of no interest: asking again does no harm
        raise TeslaError(CAUSES["tesla_failed"], status=error.status, description=str(error)) from None
    if answer.status != 200:
        raise sort_fleet_answer(answer, secrets=(access_token,))
    try:
        found = answer.json()
    except ValueError:
        raise odd(answer, "the answer is not JSON") from None
    if not isinstance(found, dict):
        raise odd(answer, "the answer is not a JSON object")
    return found
