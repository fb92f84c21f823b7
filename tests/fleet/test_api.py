from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fleet.api import FleetApi
from fleet.deadline import Deadline
from fleet.errors import Actor, TeslaError
from fleet.regions import Regions

if TYPE_CHECKING:
    from tests.fleet.wire import Request

TOKEN = "eyJ-very-secret-token"


class Tesla:
    """Two regions on one port; the owner lives in EU."""

    def __init__(self, serve: Any) -> None:
        self.wire = serve(self.script)
        self.base = f"http://127.0.0.1:{self.wire.port}"
        self.other = f"{self.base}/eu"
        self.answer: Any = None
        self.api = FleetApi(Regions({"NA": f"{self.base}/na", "EU": f"{self.base}/eu"}))

    def script(self, request: Request) -> None:
        if request.path.startswith("/na"):
            words = f"user out of region, use base URL: {self.other}, see https://developer.tesla.com/docs"
            request.reply(421, {"response": None, "error": words, "error_description": ""})
        elif self.answer is not None:
            request.reply(*self.answer)
        elif request.path.endswith("/region"):
            request.reply(200, {"response": {"region": "eu", "fleet_api_base_url": f"{self.base}/eu"}})
        else:
            request.reply(200, {"response": {"path": request.path}})


@pytest.fixture
def tesla(serve: Any) -> Tesla:
    return Tesla(serve)


def test_where_the_owner_lives(tesla: Tesla) -> None:
    assert tesla.api.region(TOKEN, "EU", Deadline(5)) == ("EU", f"{tesla.base}/eu")
    assert tesla.wire.requests[0].path == "/eu/api/1/users/region"
    assert tesla.wire.requests[0].header("Authorization") == f"Bearer {TOKEN}"


def test_one_421_is_followed(tesla: Tesla) -> None:
    assert tesla.api.region(TOKEN, "NA", Deadline(5)) == ("EU", f"{tesla.base}/eu")
    assert [request.path for request in tesla.wire.requests] == [
        "/na/api/1/users/region",
        "/eu/api/1/users/region",
    ]


@pytest.mark.parametrize("other", ["http://127.0.0.1:9", "https://evil.example", "nowhere"])
def test_a_421_to_elsewhere_gets_no_token(tesla: Tesla, other: str) -> None:
    tesla.other = other
    with pytest.raises(TeslaError) as caught:
        tesla.api.region(TOKEN, "NA", Deadline(5))
    assert caught.value.cause.code == "wrong_region"
    assert len(tesla.wire.requests) == 1


def test_a_421_back_and_forth_ends(tesla: Tesla) -> None:
    tesla.answer = (421, {"error": f"use base URL: {tesla.base}/na"})
    with pytest.raises(TeslaError) as caught:
        tesla.api.me(TOKEN, "NA", Deadline(5))
    assert caught.value.right_base_url == f"{tesla.base}/na"
    assert len(tesla.wire.requests) == 2


def test_a_421_to_where_we_are_is_not_asked_again(tesla: Tesla) -> None:
    tesla.answer = (421, {"error": f"use base URL: {tesla.base}/eu"})
    with pytest.raises(TeslaError):
        tesla.api.me(TOKEN, "EU", Deadline(5))
    assert len(tesla.wire.requests) == 1


def test_a_region_by_name_only(tesla: Tesla) -> None:
    tesla.answer = (200, {"response": {"region": "na", "fleet_api_base_url": None}})
    assert tesla.api.region(TOKEN, "EU", Deadline(5)) == ("NA", f"{tesla.base}/na")


def test_a_region_that_is_not_configured(tesla: Tesla) -> None:
    tesla.answer = (200, {"response": {"region": "cn", "fleet_api_base_url": "https://cn.example"}})
    with pytest.raises(TeslaError) as caught:
        tesla.api.region(TOKEN, "EU", Deadline(5))
    assert caught.value.cause.code == "wrong_region"


def test_an_account_without_a_region(tesla: Tesla) -> None:
    tesla.answer = (200, {"response": {"region": None, "fleet_api_base_url": None}})
    with pytest.raises(TeslaError) as caught:
        tesla.api.region(TOKEN, "EU", Deadline(5))
    assert caught.value.cause.code == "unknown_user"


@pytest.mark.parametrize(
    "content", [{}, {"response": None}, {"response": []}, {"response": {"region": 7}}, [], b"<html>"]
)
def test_answers_that_make_no_sense(tesla: Tesla, content: Any) -> None:
    tesla.answer = (200, content)
    with pytest.raises(TeslaError) as caught:
        tesla.api.region(TOKEN, "EU", Deadline(5))
    assert caught.value.cause.code == "odd_answer"


def test_me_and_vehicles(tesla: Tesla) -> None:
    assert tesla.api.me(TOKEN, "NA", Deadline(5)) == {"response": {"path": "/eu/api/1/users/me"}}
    assert tesla.api.vehicles(TOKEN, "EU", Deadline(5)) == {"response": {"path": "/eu/api/1/vehicles"}}


def test_failures_are_sorted_and_say_no_token(tesla: Tesla) -> None:
    tesla.answer = (401, {"error": f"token {TOKEN} expired (401)"})
    with pytest.raises(TeslaError) as caught:
        tesla.api.me(TOKEN, "EU", Deadline(5))
    assert caught.value.cause.code == "token_not_accepted"
    assert TOKEN not in str(caught.value) + repr(caught.value)


def test_nobody_there(tesla: Tesla) -> None:
    api = FleetApi(Regions({"NA": "http://127.0.0.1:9"}))
    with pytest.raises(TeslaError) as caught:
        api.me(TOKEN, "NA", Deadline(5))
    assert (caught.value.cause.code, caught.value.sent) == ("unreachable", False)


def test_no_answer(serve: Any) -> None:
    wire = serve(lambda request: request.hang())
    api = FleetApi(Regions({"NA": f"http://127.0.0.1:{wire.port}"}))
    with pytest.raises(TeslaError) as caught:
        api.me(TOKEN, "NA", Deadline(0.2))
    assert (caught.value.cause.code, caught.value.sent) == ("tesla_failed", True)
    assert caught.value.actor is Actor.WAIT
