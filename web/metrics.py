"""`/metrics` for Prometheus: what all processes have counted, and how all is now.

It is the operator's, as Flower is: HTTP Basic with ``operator`` and OPERATOR_PASSWORD. Any web process gives
the same numbers, so one of them is to be scraped. Nothing here scans the token table: what is said of grants
was counted by the last survey.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, request
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from models import pulses, surveys, webhooks
from web.limits import network_of
from web.operator.session import is_password
from web.operator.signin import TRIES
from web.wiring import wiring
from workers.counts import COUNTERS, HISTOGRAMS, everybodys
from workers.lanes import all_lanes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from workers.parts import Parts

blueprint = Blueprint("metrics", __name__)

TEXT = "text/plain; version=0.0.4; charset=utf-8"


@blueprint.get("/metrics")
def metrics() -> tuple[str, int, dict[str, str]]:
    """All metrics, as text."""
    wired = wiring()
    given = request.authorization
    if given is None or given.type != "basic" or given.username != "operator":
        return "Sign in as operator.\n", 401, {"WWW-Authenticate": 'Basic realm="Evergrant metrics"'}
    network = network_of(request.remote_addr)
    if not is_password(given.password or ""):
        wait = wired.limits.take(TRIES, "operator", network)
        if wait is not None:
            return "Too many wrong passwords.\n", 429, {"Retry-After": str(int(wait) + 1)}
        return "Wrong password.\n", 401, {"WWW-Authenticate": 'Basic realm="Evergrant metrics"'}
    return exposition(wired.parts), 200, {"Content-Type": TEXT}


def exposition(parts: Parts) -> str:
    """All metrics in Prometheus's text format. What can't be had is left out, and `evergrant_up` says so."""
    from prometheus_client import CollectorRegistry, generate_latest  # costs the memory of those who ask

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Everything(parts))
    return generate_latest(registry).decode()


class _Everything:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        up = GaugeMetricFamily("evergrant_up", "Whether SQL and Redis answered this scrape.", labels=["what"])
        for what, collect in (("redis", self._of_redis), ("sql", self._of_sql)):
            try:
                yield from list(collect())
            except (RedisError, SQLAlchemyError):
                up.add_metric([what], 0)
            else:
                up.add_metric([what], 1)
        yield up

    def _of_redis(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        counted, processes = everybodys(self._parts.redis)
        for name, (label, says) in COUNTERS.items():
            counter = CounterMetricFamily(f"evergrant_{name}", says, labels=[label] if label else [])
            if not label:
                counter.add_metric([], counted.get(f"{name}|", 0))
            for field, value in sorted(counted.items()):
                of, _, which = field.partition("|")
                if label and of == name:
                    counter.add_metric([which], value)
            yield counter
        for name, (bounds, says) in HISTOGRAMS.items():
            so_far, buckets = 0.0, []
            for place, bound in enumerate((*map(str, bounds), "+Inf")):
                so_far += counted.get(f"{name}|{place}", 0.0)
                buckets.append((bound, so_far))
            histogram = HistogramMetricFamily(f"evergrant_{name}", says)
            histogram.add_metric([], buckets, counted.get(f"{name}|sum", 0.0))
            yield histogram
        who = ["process", "role"]
        in_flight = GaugeMetricFamily("evergrant_in_flight", "Calls to Tesla under way.", labels=who)
        used = CounterMetricFamily("evergrant_process_cpu_seconds", "CPU time of each process.", labels=who)
        held = GaugeMetricFamily("evergrant_process_resident_bytes", "Memory of each process.", labels=who)
        for process, said in processes.items():
            in_flight.add_metric([process, said["role"]], said["in_flight"])
            used.add_metric([process, said["role"]], said["cpu_seconds"])
            held.add_metric([process, said["role"]], said.get("resident_bytes", 0))
        yield from (in_flight, used, held)
        lanes = all_lanes(self._parts.settings.lanes)
        pipe = self._parts.redis.pipeline(transaction=False)
        for lane in lanes:
            pipe.llen(lane)
        queued = GaugeMetricFamily("evergrant_queued", "Refreshes that wait in each lane.", labels=["lane"])
        for lane, waiting in zip(lanes, pipe.execute(), strict=True):
            queued.add_metric([lane], waiting)
        yield queued
        look = self._parts.breaker.look()
        breaker = GaugeMetricFamily("evergrant_breaker", "1 at the breaker's state.", labels=["state"])
        for state in ("closed", "half_open", "open"):
            breaker.add_metric([state], look.state == state)
        yield breaker
        yield GaugeMetricFamily(
            "evergrant_escrow", "Owners for whom answers wait in the escrow.", self._parts.escrow.count()
        )

    def _of_sql(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        with self._parts.database.read() as connection:
            survey = surveys.read(connection)
            signs, now = pulses.all_signs(connection), surveys.clock(connection)
            waiting, lag = webhooks.lag(connection)
        seen = GaugeMetricFamily(
            "evergrant_seconds_since", "Seconds since this last gave a sign of life.", labels=["what"]
        )
        for what, at in sorted(signs.items()):
            seen.add_metric([what], max((now - at).total_seconds(), 0))
        yield seen
        yield GaugeMetricFamily("evergrant_webhooks_waiting", "Webhooks not delivered yet.", waiting)
        yield GaugeMetricFamily("evergrant_webhook_lag_seconds", "Age of the oldest one that waits.", lag)
        if survey is None:
            return
        grants = GaugeMetricFamily(
            "evergrant_grants", "Owners by the state of their grant.", labels=["state"]
        )
        for state, number in survey.states.items():
            grants.add_metric([state], number)
        yield grants
        failing = GaugeMetricFamily(
            "evergrant_grants_failing",
            "Alive grants whose last attempt failed, by its cause.",
            labels=["cause"],
        )
        for cause, number in survey.failing.items():
            failing.add_metric([cause], number)
        yield failing
        left = GaugeMetricFamily(
            "evergrant_grants_life_left",
            "Alive grants whose access token has less than so many seconds left; 0: it has run out.",
            labels=["less_than"],
        )
        for place, bound in enumerate(surveys.BOUNDS):
            left.add_metric([str(bound)], sum(survey.left[: place + 1]))
        yield left
        for name, says, value in (
            ("grants_paused", "Grants that the operator has paused.", survey.paused),
            ("grants_due", "Grants that are due now.", survey.due),
            ("grants_late", "Grants that are late, though nothing makes them wait.", survey.late),
            ("survey_age_seconds", "Seconds since these grants were counted.", survey.age),
        ):
            yield GaugeMetricFamily(f"evergrant_{name}", says, value)
