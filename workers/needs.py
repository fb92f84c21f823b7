"""What needs the operator now, each with its cause and its repair. Nothing is the normal case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from fleet.errors import CAUSES, Actor
from models import pausing, surveys, webhooks
from models.surveys import LATE
from workers.refresh import cause_of
from workers.watch import stall
from workers.webhooks import host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.surveys import Survey
    from workers.parts import Parts

LONG_PAUSE = 60 * 24 * 3600.0
"""Seconds after which a paused grant gets near the end of its refresh token, which lives three months."""


@dataclass(frozen=True, slots=True)
class Need:
    """`owners` is the list in the console that shows whom it concerns; `urgent`: owners get lost by it."""

    code: str
    title: str
    explanation: str
    repair: str
    owners: str = ""
    urgent: bool = True


def needs(parts: Parts) -> list[Need]:
    """The most urgent first. Raises SQLAlchemy's errors."""
    with parts.database.read() as connection:
        survey = surveys.read(connection)
        paused_for = pausing.longest(connection)
        off = webhooks.all_off(connection)
    found = [*_standstill(parts), *_of_grants(survey, parts)]
    if paused_for is not None and paused_for > LONG_PAUSE:
        found.append(
            Need(
                "long_pause",
                f"An owner has been paused for {paused_for / 86400:.0f} days",
                "A refresh token that is not used ends after three months, and the grant with it.",
                "Resume it, or ask the owner whether it should end.",
                owners="paused",
            )
        )
    found += [
        Need(
            f"webhooks_off:{endpoint.id}",
            f"Webhooks to {host(endpoint.url)} are turned off",
            "It answered that it is gone (HTTP 410)."
            if endpoint.off_because == webhooks.GONE
            else "Nothing came through for days. What it misses waits for it, for 30 days.",
            "Repair the receiver and turn it on again on the page of the webhooks, or remove it there.",
            urgent=False,
        )
        for endpoint in off
    ]
    return sorted(found, key=lambda need: not need.urgent)


def _standstill(parts: Parts) -> Iterator[Need]:
    """What keeps refreshes from going on for everybody."""
    try:
        parts.redis.ping()
    except RedisError as error:
        yield Need(
            "redis",
            "Redis does not answer",
            f"No task reaches a worker, so nothing is refreshed ({type(error).__name__}). Grants are kept.",
            "Look at Redis (`REDIS_URL`); workers go on by themselves when it is back.",
        )
    if words := stall(parts.database, parts.breaker, parts.settings):
        yield Need(
            "stall",
            "Refreshes do not go on",
            f"{words[0].upper()}{words[1:]}",
            "See that a worker and beat run (`make up`, or `celery -A workers worker` and "
            "`celery -A workers beat`); their logs say what stops them.",
        )
    look = parts.breaker.look()
    cause = CAUSES.get(look.cause)
    if look.state != "closed" and cause is not None:
        operator = cause.actor is Actor.OPERATOR
        when = f"Refreshes pause for everybody, the next try is in {look.seconds:.0f} s."
        yield Need(
            f"breaker:{cause.code}", cause.title, f"{cause.explanation} {when}", cause.repair, urgent=operator
        )
    if waiting := parts.escrow.count():
        yield Need(
            "escrow",
            f"Answers of Tesla’s wait in the escrow for {_owners(waiting)}",
            "The token table did not take them. They are safe, and go there by themselves, within seconds.",
            "If they stay: the log says why, most often a key that is missing from `ENCRYPTION_KEYS`. "
            "Do not delete the `escrow` folder or wipe Redis meanwhile.",
        )


def _of_grants(survey: Survey | None, parts: Parts) -> Iterator[Need]:
    """What the last survey found."""
    if survey is None:
        return
    everybodys = parts.breaker.look().cause
    for code, number in sorted(survey.failing.items()):
        cause = cause_of(code)
        if cause is not None and cause.actor is Actor.OPERATOR and cause.code != everybodys:
            yield Need(
                f"failing:{code}",
                f"{cause.title}: {_owners(number)}",
                cause.explanation,
                cause.repair,
                owners="failing",
            )
    if survey.run_out:
        yield Need(
            "run_out",
            f"The access token has run out for {_owners(survey.run_out)}",
            "Programs can’t call Tesla in their name until the next refresh; the grants are kept.",
            "See why each was not refreshed in time.",
            owners="run_out",
        )
    if survey.late:
        yield Need(
            "late",
            f"{_owners(survey.late)} should have been refreshed {LATE / 60:.0f} minutes ago",
            "They are due and nothing makes them wait: workers do not keep up, or stand still.",
            "Start more workers, or raise `WORKER_CONCURRENCY` or `REFRESH_RATE`.",
            owners="due",
        )
    if lost := survey.states["needs_consent"]:
        yield Need(
            "needs_consent",
            f"{_owners(lost)} must sign in again",
            "Tesla has rejected every refresh token held: most often the owner withdrew consent.",
            "Ask them to sign in again, or disconnect them.",
            owners="needs_consent",
            urgent=False,
        )


def _owners(number: int) -> str:
    return "1 owner" if number == 1 else f"{number:,} owners"
