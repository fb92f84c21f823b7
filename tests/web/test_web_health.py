"""`/healthz` and `/readyz`: true, in words, and soon."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text, update

from models import pulses
from models.grants import grants
from models.session import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.web.pages import Site


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def closed() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def checks(site: Site, status: int) -> dict[str, str]:
    response = site.browser().get("/readyz")
    assert response.status_code == status, response.text
    assert response.elapsed.total_seconds() < 3
    content = response.json()
    assert content["ready"] is (status == 200)
    answers: dict[str, str] = content["checks"]
    return answers


def alive(site: Site) -> None:
    for name in ("beat", "sweep"):
        pulses.beat(site.parts.database, name)


def test_ready_while_refreshes_go_on(site: Site) -> None:
    answers = checks(site, 503)
    assert (answers["sql"], answers["redis"]) == ("ok", "ok")
    assert "no beat in the last 30 s" in answers["refreshes"]
    pulses.beat(site.parts.database, "beat")
    assert "no sweep in the last 30 s" in checks(site, 503)["refreshes"]
    alive(site)
    assert checks(site, 200) == {"sql": "ok", "redis": "ok", "refreshes": "ok"}
    with site.parts.database.write() as connection:
        connection.execute(update(pulses.pulses).values(at=now(-31)))
    assert "no beat" in checks(site, 503)["refreshes"]


def test_processes_that_are_up_and_refresh_nothing(site: Site) -> None:
    site.browser().sign_in()
    alive(site)
    assert checks(site, 200)["refreshes"] == "ok"
    with site.parts.database.write() as connection:
        connection.execute(update(grants).values(refresh_at=now(-31)))
    assert "no refresh has ended" in checks(site, 503)["refreshes"]


def test_a_table_of_another_version(site: Site) -> None:
    with site.parts.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000_older'"))
    assert "not migrated" in checks(site, 503)["sql"]


def test_redis_is_away(serve: Callable[..., Site], sqlite: Callable[[], str], closed: int) -> None:
    site = serve(sqlite(), redis_url=f"redis://:the-redis-password@127.0.0.1:{closed}/0")
    alive(site)
    answers = checks(site, 503)
    assert "Redis can't be reached" in answers["redis"]
    assert (answers["sql"], answers["refreshes"]) == ("ok", "ok")
    assert "password" not in str(answers)


def test_sql_is_away_and_says_no_more_than_that(serve: Callable[..., Site], closed: int) -> None:
    site = serve(f"postgresql://me:the-database-password@127.0.0.1:{closed}/evergrant")
    answers = checks(site, 503)
    assert "can't be reached" in answers["sql"]
    assert "unknown" in answers["refreshes"]
    assert "password" not in str(answers)


def test_what_hangs_does_not_make_it_hang(serve: Callable[..., Site], silent: int) -> None:
    site = serve(
        f"postgresql://me:p@127.0.0.1:{silent}/evergrant",
        redis_url=f"redis://127.0.0.1:{silent}/0",
    )
    assert checks(site, 503)["sql"] == "does not answer"
    assert checks(site, 503)["sql"] != "ok"
    assert site.browser().get("/healthz").text == "ok"


def test_healthz_touches_nothing(serve: Callable[..., Site], closed: int) -> None:
    site = serve(f"postgresql://me:p@127.0.0.1:{closed}/evergrant", redis_url=f"redis://127.0.0.1:{closed}/0")
    response = site.browser().get("/healthz")
    assert (response.status_code, response.text) == (200, "ok")
