"""`/metrics`: for the operator alone, in Prometheus's own format, and it says when something is away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from models import surveys

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.web.pages import Site

PASSWORD = "a long operator's password"
OPERATOR = ("operator", PASSWORD)


@pytest.fixture
def site(serve: Callable[..., Site], database_url: str) -> Site:
    return serve(database_url, operator_password=PASSWORD)


def read(site: Site) -> dict[tuple[str, str], float]:
    """By name and the first label's value."""
    answer = requests.get(f"{site.url}/metrics", auth=OPERATOR, timeout=10)
    assert answer.status_code == 200
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_only_the_operator_reads_them(site: Site) -> None:
    for auth in (None, ("operator", "wrong"), ("somebody", PASSWORD)):
        answer = requests.get(f"{site.url}/metrics", auth=auth, timeout=10)
        assert answer.status_code == 401
        assert "evergrant_" not in answer.text
        assert answer.headers["WWW-Authenticate"].startswith("Basic")


def test_guessing_ends_and_does_not_shut_out_the_operator(site: Site) -> None:
    for _ in range(12):
        last = requests.get(f"{site.url}/metrics", auth=("operator", "wrong"), timeout=10)
    assert last.status_code == 429
    assert read(site)


def test_they_say_how_all_is(site: Site) -> None:
    site.browser().sign_in()
    (owner,) = [row[0] for row in site.table()]
    surveys.take(site.parts.database)
    site.parts.refresher.refresh(owner, stale=1)
    site.parts.counts.flush()
    metrics = read(site)
    assert metrics["evergrant_up", "sql"] == metrics["evergrant_up", "redis"] == 1
    assert metrics["evergrant_grants", "alive"] == 1
    assert metrics["evergrant_attempts_total", "refreshed"] == 1
    assert metrics["evergrant_call_seconds_count", ""] == 1
    assert metrics["evergrant_spares_used_total", ""] == 0
    assert metrics["evergrant_breaker", "closed"] == 1
    assert metrics["evergrant_queued", "refresh.00"] == 0
    assert metrics["evergrant_escrow", ""] == 0
    assert metrics["evergrant_webhook_lag_seconds", ""] == 0


def test_without_redis_the_rest_is_said(serve: Callable[..., Site], sqlite: Callable[[], str]) -> None:
    site = serve(sqlite(), operator_password=PASSWORD, redis_url="redis://127.0.0.1:1/0")
    metrics = read(site)
    assert metrics["evergrant_up", "redis"] == 0
    assert metrics["evergrant_up", "sql"] == 1
