"""The gateway passes on what came and what comes, and never more than it should."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import requests

from models import consent
from models.api_keys import Scope
from tests.fleet.wire import Request, Wire, until
from tests.web.api.conftest import Program, connect, problem, row
from tests.web.odd_tesla import json_reply
from web.api.parts import ApiParts, api_parts
from web.gateway import LARGEST_BODY
from web.threads import SEATS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.web.pages import Site

VEHICLES = "/gateway/ann/api/1/vehicles"


class Fleet:
    """A Fleet API of three regions, a site that uses it, and a program with a key."""

    def __init__(self, wire: Wire, site: Site) -> None:
        self.wire = wire
        self.site = site
        self.program = Program(site)
        self.says: Callable[[Request], None] = lambda request: request.reply(200, {"response": []})
        wire.script = lambda request: self.says(request)

    @property
    def asked(self) -> list[str]:
        return [request.path for request in self.wire.requests]

    @property
    def tokens(self) -> list[str | None]:
        return [request.header("Authorization") for request in self.wire.requests]


@pytest.fixture
def fleet(serve: Callable[..., Site], sqlite: Callable[[], str]) -> Iterator[Fleet]:
    with Wire(lambda request: request.reply(500)) as wire:
        base = f"http://127.0.0.1:{wire.port}"
        urls = {f"tesla_fleet_url_{region}": f"{base}/{region}" for region in ("na", "eu", "cn")}
        site = serve(sqlite(), **urls)
        connect(site)
        yield Fleet(wire, site)


def test_a_request_goes_up_as_it_is_with_the_owners_token(fleet: Fleet) -> None:
    response = fleet.program.patch(
        VEHICLES + "/5YJ/x+y?a=1&b=%2F&c",
        data=b"\x00\x01",
        headers={
            "Content-Type": "application/x-thing",
            "X-Library": "a library",
            "User-Agent": "somebody/1",
            "Cookie": "a=b",
            "X-Forwarded-For": "1.2.3.4",
            "X-Api-Key": "secret",
            "Connection": "keep-alive, X-Hop",
            "X-Hop": "for you only",
            "TE": "trailers",
        },
    )
    assert response.json() == {"response": []}
    (request,) = fleet.wire.requests
    assert request.head.startswith(b"PATCH /eu/api/1/vehicles/5YJ/x+y?a=1&b=%2F&c HTTP/1.1\r\n")
    assert request.body == b"\x00\x01"
    assert request.header("Authorization") == "Bearer access-of-ann"
    assert request.header("Content-Type") == "application/x-thing"
    assert request.header("X-Library") == "a library"
    assert request.header("User-Agent") == "somebody/1"
    assert request.header("Host") == f"127.0.0.1:{fleet.wire.port}"
    for name in ("Cookie", "X-Forwarded-For", "X-Api-Key", "X-Hop", "TE", "Connection"):
        assert request.header(name) is None, name
    assert fleet.program.key[23:].encode() not in request.head


def test_an_answer_comes_down_as_it_is(fleet: Fleet) -> None:
    fleet.says = lambda request: request.send(
        b"HTTP/1.1 429 Too many\r\nContent-Type: application/json\r\nContent-Length: 2\r\nRetry-After: 7\r\n"
        b"RateLimit-Reset: 7\r\nX-TXID: abc\r\nVary: a\r\nVary: b\r\nSet-Cookie: a=b\r\nAlt-Svc: h3\r\n"
        b"Connection: X-Hop\r\nX-Hop: no\r\nX-Forwarded-Host: tesla\r\nStrict-Transport-Security: x\r\n"
        b"Authorization: Bearer x\r\n\r\n{}"
    )
    response = fleet.program.get(VEHICLES)
    assert (response.status_code, response.content) == (429, b"{}")
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Retry-After"] == "7"
    assert response.headers["RateLimit-Reset"] == "7"
    assert response.headers["X-TXID"] == "abc"
    assert response.headers["Vary"] == "a, b"
    assert response.headers["Cache-Control"] == "no-store"
    for name in ("Set-Cookie", "Alt-Svc", "X-Hop", "X-Forwarded-Host", "Strict-Transport-Security"):
        assert name not in response.headers
    assert "Authorization" not in response.headers
    assert len(fleet.wire.requests) == 1


def test_a_header_on_two_lines_is_no_way_in_and_no_way_out(fleet: Fleet) -> None:
    fleet.says = lambda request: request.send(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Long: one\r\n  two\r\nX-Bad: a\rb\r\n\r\n{}"
    )
    for _ in range(3):
        response = fleet.program.get(VEHICLES)
        assert response.status_code in {200, 500, 504}
    assert until(lambda: free_seats(fleet.site) == SEATS)
    fleet.says = lambda request: request.send(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Long: one\r\n  two\r\n\r\n{}"
    )
    assert fleet.program.get(VEHICLES).headers["X-Long"].split() == ["one", "two"]


@pytest.mark.parametrize("status", [200, 204, 301, 302, 304, 400, 403, 404, 408, 412, 500, 503])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_every_status_of_every_method(fleet: Fleet, status: int, method: str) -> None:
    bare = method == "HEAD" or status in {204, 304}

    def script(request: Request) -> None:
        head = f"HTTP/1.1 {status} Word\r\nLocation: http://127.0.0.1:{fleet.wire.port}/elsewhere\r\n"
        request.send(head.encode() + (b"\r\n" if bare else b"Content-Length: 2\r\n\r\nab"))

    fleet.says = script
    response = fleet.program.request(method, VEHICLES)
    assert response.status_code == status
    assert response.content == (b"" if bare else b"ab")
    assert response.headers["Location"].endswith("/elsewhere")
    assert "Content-Type" not in response.headers
    assert fleet.asked == ["/eu/api/1/vehicles"], "no redirect is followed"


def test_it_is_streamed(fleet: Fleet) -> None:
    seen = threading.Event()

    def script(request: Request) -> None:
        request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none")
        assert seen.wait(10)
        request.send(b"two")

    fleet.says = script
    with fleet.program.get(VEHICLES, stream=True) as response:
        pieces = response.iter_content(3)
        assert next(pieces) == b"one"
        seen.set()
        assert next(pieces) == b"two"


# --- 401 ----------------------------------------------------------------------------------------------


def only(token: str, fleet: Fleet) -> Callable[[Request], None]:
    """A Fleet API that accepts everything but this token."""

    def script(request: Request) -> None:
        if request.header("Authorization") == f"Bearer {token}":
            request.reply(401, {"error": "invalid bearer token"})
        else:
            request.reply(200, request.body or b"{}")

    return script


def test_a_token_that_was_revoked_behind_our_back(fleet: Fleet) -> None:
    fleet.says = only("access-of-ann", fleet)
    response = fleet.program.post(VEHICLES, data=b"a command")
    assert (response.status_code, response.content) == (200, b"a command")
    assert [request.body for request in fleet.wire.requests] == [b"a command"] * 2
    assert len(fleet.site.tesla.forms) == 1
    assert fleet.program.post(VEHICLES, data=b"another").status_code == 200
    assert len(fleet.wire.requests) == 3
    assert row(fleet.site).generation == 1


def test_many_that_meet_it_at_once_are_one_refresh(fleet: Fleet) -> None:
    fleet.says = only("access-of-ann", fleet)
    with ThreadPoolExecutor(10) as pool:
        statuses = list(pool.map(lambda _: fleet.program.get(VEHICLES).status_code, range(20)))
    assert statuses == [200] * 20
    assert len(fleet.site.tesla.forms) == 1


def test_a_401_that_a_refresh_does_not_help_comes_as_it_is_and_costs_one_refresh(fleet: Fleet) -> None:
    fleet.says = lambda request: request.reply(401, {"error": "User revoked consent"})
    for _ in range(5):
        response = fleet.program.get(VEHICLES)
        assert response.status_code == 401
        assert response.json() == {"error": "User revoked consent"}
    assert len(fleet.site.tesla.forms) == 1
    assert len(fleet.wire.requests) == 6


def test_a_401_while_no_refresh_can_be_had(fleet: Fleet) -> None:
    fleet.says = only("access-of-ann", fleet)
    fleet.site.tesla.token = lambda _: json_reply(503, {})
    problem(response := fleet.program.get(VEHICLES), 503, "tesla_failed")
    assert "Retry-After" in response.headers


def test_consent_that_turns_out_to_be_gone(fleet: Fleet) -> None:
    fleet.says = only("access-of-ann", fleet)
    fleet.site.tesla.token = lambda _: json_reply(401, {"error": "login_required"})
    for _ in range(2):
        content = problem(fleet.program.get(VEHICLES), 409, "needs_consent")
        assert content["reconnect_url"]
    assert fleet.asked.count("/eu/api/1/vehicles") == 1


def test_a_token_that_has_run_out_is_refreshed_before_it_is_sent(fleet: Fleet) -> None:
    connect(fleet.site, expires_in=-1)
    assert fleet.program.get(VEHICLES).status_code == 200
    assert len(fleet.wire.requests) == len(fleet.site.tesla.forms) == 1


# --- 421 ----------------------------------------------------------------------------------------------


def lives_in(region: str, wire: Wire) -> Callable[[Request], None]:
    def script(request: Request) -> None:
        if request.path.startswith(f"/{region}/"):
            request.reply(200, request.body or b"{}")
        else:
            base = f"http://127.0.0.1:{wire.port}/{region}"
            request.reply(421, {"error": f"user out of region, use base URL: {base}"})

    return script


def test_the_wrong_region_is_met_once_and_never_again(fleet: Fleet) -> None:
    fleet.says = lives_in("na", fleet.wire)
    for _ in range(3):
        response = fleet.program.post(VEHICLES, data=b"a command")
        assert (response.status_code, response.content) == (200, b"a command")
    assert fleet.asked == ["/eu/api/1/vehicles"] + ["/na/api/1/vehicles"] * 3
    assert row(fleet.site).region == "NA"
    assert fleet.program.token().json()["fleet_url"].endswith("/na")


def test_the_wrong_region_and_a_revoked_token_together(fleet: Fleet) -> None:
    inner, outer = only("access-of-ann", fleet), lives_in("cn", fleet.wire)
    fleet.says = lambda request: (inner if request.path.startswith("/cn/") else outer)(request)
    assert fleet.program.get(VEHICLES).status_code == 200
    assert len(fleet.wire.requests) == 3


def test_a_region_that_is_not_configured_is_never_called(fleet: Fleet) -> None:
    with Wire(lambda request: request.reply(200)) as other:
        for base in (
            f"http://127.0.0.1:{other.port}/na",
            f"http://127.0.0.1:{other.port}@127.0.0.1:{fleet.wire.port}/na",
            f"http://127.0.0.1:{fleet.wire.port}/eu",
            f"http://127.0.0.1:{fleet.wire.port}/other",
            "file:///etc/passwd",
            "",
        ):
            body = json.dumps({"error": f"use base URL: {base}"}).encode()
            fleet.says = lambda request, body=body: request.reply(421, body)  # type: ignore[misc]
            response = fleet.program.get(VEHICLES)
            assert (response.status_code, response.content) == (421, body)
        assert other.requests == []
    assert {path.split("/")[1] for path in fleet.asked} == {"eu"}
    assert row(fleet.site).region == "EU"


def test_two_regions_that_send_it_to_each_other(fleet: Fleet) -> None:
    def script(request: Request) -> None:
        other = "na" if request.path.startswith("/eu/") else "eu"
        request.reply(421, {"error": f"use base URL: http://127.0.0.1:{fleet.wire.port}/{other}"})

    fleet.says = script
    assert fleet.program.get(VEHICLES).status_code == 421
    assert len(fleet.wire.requests) == 2


# --- what can not be passed on ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/gateway/ann/api/1/../2/x", 400),
        ("/gateway/ann/api/1/%2e%2e/2/x", 400),
        ("/gateway/ann/api/1/%2E./x", 400),
        ("/gateway/ann/api/1/./x", 400),
        ("/gateway/ann/api/1//x", 400),
        ("/gateway/ann/api/1/a%2Fb", 400),
        ("/gateway/ann/api/1/a%2f..%2fb", 400),
        ("/gateway/ann/api/1/a%5C..%5Cb", 400),
        ("/gateway/ann/api/1/a\\b", 400),
        ("/gateway/ann/api/1/%252e%252e/x", 400),
        ("/gateway/ann/api/1/a%0d%0aX-Evil:%20yes", 404),
        ("/gateway/ann/api/1/a%00", 400),
        ("/gateway/ann/api/1/a%20b", 400),
        ("/gateway/ann/api/1", 404),
        ("/gateway/ann/api/2/x", 404),
        ("/gateway/ann/oauth2/v3/token", 404),
        ("/gateway/ann/http://127.0.0.1/api/1/x", 404),
        ("/gateway/ann/", 404),
        ("/gateway/ann", 404),
        ("/gateway//api/1/x", 404),
        ("/gateway/../api/1/x", 404),
    ],
)
def test_a_path_can_not_leave(fleet: Fleet, path: str, status: int) -> None:
    assert raw(fleet, path).startswith(f"HTTP/1.1 {status} ".encode())
    assert fleet.wire.requests == []


@pytest.mark.parametrize(
    "path",
    [
        "/gateway/ann/api/1/vehicles/",
        "/gateway/ann/api/1/a:b@c;d,e=~-._!$&'()*+",
        "/gateway/ann/api/1/%C3%A9",
    ],
)
def test_odd_and_harmless_paths_go_as_they_are(fleet: Fleet, path: str) -> None:
    assert b" 200 " in raw(fleet, path).partition(b"\r\n")[0]
    assert fleet.asked == ["/eu" + path.removeprefix("/gateway/ann")]


def test_an_absolute_url_goes_nowhere_else(fleet: Fleet) -> None:
    with Wire(lambda request: request.reply(200)) as other:
        raw(fleet, f"http://127.0.0.1:{other.port}/gateway/ann/api/1/vehicles")
        assert other.requests == []


def raw(fleet: Fleet, path: str, method: str = "GET", more: str = "") -> bytes:
    """The answer to a request that no well-behaved client would send."""
    host, _, port = fleet.site.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as sock:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {fleet.program.key}"]
        sock.sendall("\r\n".join([*lines, "Connection: close", more, ""]).encode("latin-1"))
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    return answer


def test_a_body_has_a_bound(fleet: Fleet) -> None:
    fleet.says = lambda request: request.reply(200, str(len(request.body)).encode())
    assert fleet.program.post(VEHICLES, data=b"x" * LARGEST_BODY).content == str(LARGEST_BODY).encode()
    with contextlib.suppress(requests.ConnectionError):  # it may be refused before it is all sent
        problem(fleet.program.post(VEHICLES, data=b"x" * (LARGEST_BODY + 1)), 413, "too_large")
    assert len(fleet.wire.requests) == 1


def test_without_the_scope_or_the_owner_nothing_is_passed_on(fleet: Fleet) -> None:
    connect(fleet.site, "bob")
    others = Program(fleet.site, [scope for scope in Scope if scope != Scope.GATEWAY])
    assert problem(others.get(VEHICLES), 403, "scope_missing")["scope"] == "gateway"
    problem(Program(fleet.site, owners=["bob"]).get(VEHICLES), 403, "owner_not_allowed")
    problem(requests.get(fleet.site.url + VEHICLES, timeout=30), 401, "key_missing")
    problem(fleet.program.get("/gateway/nobody/api/1/vehicles"), 404, "no_grant")
    consent.disconnect(fleet.site.parts.database, "ann", correlation_id="c")
    problem(fleet.program.get(VEHICLES), 409, "disconnected")
    assert fleet.wire.requests == []


# --- when it breaks -----------------------------------------------------------------------------------


def test_an_answer_that_breaks_off_breaks_off(fleet: Fleet) -> None:
    def script(request: Request) -> None:
        request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\none")
        request.reset()

    fleet.says = script
    with pytest.raises(requests.RequestException):
        _ = fleet.program.get(VEHICLES).content


def test_no_answer_is_said_and_whether_the_request_was_sent(fleet: Fleet) -> None:
    fleet.says = lambda request: request.reset()
    content = problem(fleet.program.post(VEHICLES), 504, "no_answer")
    assert "was sent" in content["detail"]
    fleet.wire.__exit__()
    until(lambda: fleet.wire.closed)
    content = problem(fleet.program.post(VEHICLES), 502, "unreachable")
    assert "Nothing was sent" in content["detail"]


def test_a_caller_who_leaves_frees_what_was_held(fleet: Fleet) -> None:
    gone = threading.Event()

    def script(request: Request) -> None:
        request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                request.send(b"x" * 65536)
        gone.set()

    fleet.says = script
    with fleet.program.get(VEHICLES, stream=True) as response:
        assert next(response.iter_content(1000))
    assert gone.wait(10), "Tesla is not read on"
    assert until(lambda: free_seats(fleet.site) == SEATS)


def test_when_all_seats_are_taken_the_caller_is_told(fleet: Fleet) -> None:
    seats = parts_of(fleet.site).seats
    for _ in range(SEATS):
        seats.take()
    problem(response := fleet.program.get(VEHICLES), 503, "too_many_waiting")
    assert response.headers["Retry-After"] == "1"
    assert fleet.program.token().status_code == 200, "what need not wait is served"
    seats.leave()
    assert fleet.program.get(VEHICLES).status_code == 200


def free_seats(site: Site) -> int:
    return parts_of(site).seats._free._value


def parts_of(site: Site) -> ApiParts:
    with site.app.app_context():
        return api_parts()


def test_no_key_and_no_token_is_in_the_log(fleet: Fleet) -> None:
    fleet.says = lambda request: request.reset()
    fleet.program.get(VEHICLES)
    fleet.says = only("access-of-ann", fleet)
    fleet.program.get(VEHICLES)
    for line in fleet.site.log:
        assert fleet.program.key[23:] not in line
        assert not any(token in line for token in [*fleet.site.tesla.issued, "access-of-ann"])
