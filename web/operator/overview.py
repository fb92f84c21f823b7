"""The overview: what needs the operator now, and how everything is."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from flask import Blueprint, render_template
from redis.exceptions import RedisError

from doctor.first_run import is_unproven
from models import pulses, surveys, tallies
from models.surveys import BOUNDS
from web.charts import Point, Series, chart, shares
from web.operator.session import operator_signed_in
from web.wiring import wiring
from web.words import duration
from workers.lanes import all_lanes
from workers.needs import needs
from workers.refresh import cause_of
from workers.survey import QUIET
from workers.watch import silence

if TYPE_CHECKING:
    from models.surveys import Survey
    from models.tallies import Tally
    from web.charts import Chart, Share
    from workers.parts import Parts

blueprint = Blueprint("overview", __name__)

MINUTES = 60
"""That the charts go back."""

_MINUTE = timedelta(minutes=1)


class Pulse(NamedTuple):
    """Somebody at work, and when there was a sign of it. A `tone` of none: nothing has to be at work."""

    name: str
    tone: str
    at: datetime | None
    words: str = ""


@blueprint.get("", strict_slashes=False)
@operator_signed_in
def page() -> str:
    """The page."""

    parts = wiring().parts
    with parts.database.read() as connection:
        now = surveys.clock(connection)
        survey = surveys.read(connection)
        happened = tallies.since(connection, (MINUTES + 1) * 60)
        signs = pulses.all_signs(connection)
        unproven = is_unproven(parts.settings, connection)
        quiet_since = (surveys.noted(connection, QUIET) or {}).get("since")
    return render_template(
        "operator/overview.html",
        now=now,
        needs=needs(parts),
        unproven=unproven,
        quiet_since=datetime.fromisoformat(quiet_since) if quiet_since else None,
        survey=survey,
        refreshes=_refreshes(happened, now),
        lateness=_lateness(happened, now),
        left=_left(survey) if survey else None,
        lanes=_lanes(parts),
        at_work=_at_work(parts, signs, now),
    )


# --- the charts ---------------------------------------------------------------------------------------


def _by_minute(happened: list[Tally], now: datetime) -> tuple[datetime, list[Tally | None]]:
    """The minute that is not over, and each of the last ones' tally, oldest first."""
    newest = now.replace(second=0, microsecond=0)
    by_minute = {tally.minute: tally for tally in happened}
    return newest, [by_minute.get(newest - _MINUTE * ago) for ago in reversed(range(MINUTES))]


def _refreshes(happened: list[Tally], now: datetime) -> Chart:
    newest, minutes = _by_minute(happened, now)
    refreshed = [Point(tally.refreshed if tally else 0) for tally in minutes]
    failed = [Point(tally.failed if tally else 0) for tally in minutes]
    last = minutes[-2]
    ended = sum(tally.ended for tally in minutes if tally)
    summary = (
        f"{last.refreshed if last else 0:,} in the last whole minute, {last.failed if last else 0:,} failed. "
        f"{sum(point.value for point in refreshed):,} in the last hour, "
        f"{sum(point.value for point in failed):,} failed, {ended:,} ended."
    )
    lanes = [Series("Refreshed", "alive", refreshed, 72), Series("Failed", "waiting", failed, 24)]
    return chart("Refreshes a minute", summary, lanes, newest=newest, step=_MINUTE)


def _lateness(happened: list[Tally], now: datetime) -> Chart:
    newest, minutes = _by_minute(happened, now)
    points = [
        Point(tally.late_sum / tally.timed, tally.late_max) if tally and tally.timed else Point(0)
        for tally in minutes
    ]
    timed = sum(tally.timed for tally in minutes if tally)
    mean = sum(tally.late_sum for tally in minutes if tally) / max(timed, 1)
    most = max((tally.late_max for tally in minutes if tally), default=0.0)
    summary = (
        f"{_seconds(mean)} after they fell due in the last hour, at most {_seconds(most)}."
        if timed
        else "No refresh fell due in the last hour."
    )
    lane = Series("On average, and at most", "none", points, 112, _seconds)
    return chart("How late refreshes began", summary, [lane], newest=newest, step=_MINUTE)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def _left(survey: Survey) -> list[Share]:
    """The histogram of the life left, as bars."""
    labels = ["run out", f"under {duration(BOUNDS[1])}"]
    labels += [f"{duration(low)} – {duration(high)}" for low, high in pairwise(BOUNDS[1:])]
    labels.append(f"{duration(BOUNDS[-1])} or more")
    tones = ["ended", "waiting", *["alive"] * len(BOUNDS)]
    return shares(list(zip(labels, survey.left, tones, strict=False)))


# --- who is at work -----------------------------------------------------------------------------------


def _lanes(parts: Parts) -> list[Share] | None:
    """How many tasks wait in each lane; None when Redis does not answer."""
    names = ["sweep", *all_lanes(parts.settings.lanes)]
    pipe = parts.redis.pipeline(transaction=False)
    for name in names:
        pipe.llen(name)
    try:
        return shares([(name, depth, "none") for name, depth in zip(names, pipe.execute(), strict=True)])
    except RedisError:
        return None


def _at_work(parts: Parts, signs: dict[str, datetime], now: datetime) -> list[Pulse]:
    alive = timedelta(seconds=silence(parts.settings))

    def pulse(name: str, sign: str) -> Pulse:
        at = signs.get(sign)
        return Pulse(name, "alive" if at is not None and now - at < alive else "ended", at)

    workers = sorted(sign for sign in signs if sign.startswith("worker:"))
    refresh = signs.get("refresh")
    return [
        pulse("Beat", "beat"),
        pulse("Sweep", "sweep"),
        *(pulse(f"Worker {sign.removeprefix('worker:')}", sign) for sign in workers),
        *([] if workers else [Pulse("Workers", "ended", None, "none has given a sign of life")]),
        Pulse("Last refresh", "none", refresh, "" if refresh else "none yet"),
        _breaker(parts),
    ]


def _breaker(parts: Parts) -> Pulse:
    look = parts.breaker.look()
    cause = cause_of(look.cause)
    why = cause.title if cause else "Tesla fails for everybody"
    match look.state:
        case "open":
            words = f"open: {why}; the next try is in {duration(look.seconds)}"
            return Pulse(
                "Breaker", "ended" if cause and cause.actor == "operator" else "waiting", None, words
            )
        case "half_open":
            return Pulse("Breaker", "waiting", None, f"{why}; one refresh tries whether that is over")
        case _:
            return Pulse("Breaker", "alive", None, "closed: calls to Tesla go through")
