"""The one sentence on top of a grant's page: state, since when, what happens next by itself, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from markupsafe import Markup

from fleet.errors import Actor, Cause
from models.grants import State
from web.words import day, duration, relative
from workers.refresh import cause_of as cause_of

if TYPE_CHECKING:
    from models.events import Event
    from models.grants import Grant


class Tone(StrEnum):
    """What the colour and the shape beside the sentence say."""

    ALIVE = "alive"
    WAITING = "waiting"
    ENDED = "ended"
    NONE = "none"


@dataclass(frozen=True)
class Sentence:
    """`word` opens the sentence; `why` explains it, where it has to be; `repair` is a button's label and its
    endpoint; `cause` the code of what is behind it."""

    tone: Tone
    word: str
    rest: Markup
    repair: tuple[str, str] | None = None
    cause: str | None = None
    why: str = ""


OVERDUE_SECONDS = 30.0
"""A refresh this late without a failure: nobody is sweeping."""

BY_OPERATOR = "By the operator."
"""The detail of an event that the operator brought about."""

RECONNECT = ("Reconnect", "signin.signin_asking")


def sentence(
    grant: Grant | None,
    *,
    ended: Event | None = None,
    pause: Cause | None,
    swept: bool,
    you: str = "you",
) -> Sentence:
    """About this grant.

    `ended`: its disconnection; `pause`: why attempts stand still for everybody, if they do; `swept`: whether
    the sweep ran lately; `you`: what to call the owner, where somebody else reads it.
    """
    if grant is None:
        return Sentence(
            Tone.NONE,
            "Nothing here.",
            Markup("Evergrant keeps nothing about {}, so nothing is refreshed.").format(you),
            ("Sign in with Tesla", "signin.signin"),
        )
    if grant.state == State.DISCONNECTED:
        when = Markup(" on {}").format(day(ended.at)) if ended else ""
        who = "the operator" if ended and ended.detail == BY_OPERATOR else you
        return Sentence(
            Tone.NONE,
            "Disconnected",
            Markup("by {}{}. The tokens are erased and nothing is refreshed.").format(who, when),
            RECONNECT,
        )
    if grant.state == State.NEEDS_CONSENT:
        cause = cause_of(grant.reason)
        what = cause.title if cause else "Tesla no longer accepts the refresh token"
        when = Markup("on {}").format(day(grant.last_error_at)) if grant.last_error_at else ""
        return Sentence(
            Tone.ENDED,
            "Ended",
            Markup("{}. {}.").format(when, what),
            RECONNECT,
            cause.code if cause else None,
            cause.explanation if cause else "",
        )
    return _alive(grant, pause, swept, you)


def _alive(grant: Grant, pause: Cause | None, swept: bool, you: str) -> Sentence:
    now = grant.read_at
    if grant.paused_at is not None:
        return Sentence(
            Tone.WAITING,
            "Paused",
            Markup("by the operator {}. Nothing is refreshed until that ends or {} in again. {}").format(
                relative(grant.paused_at, now),
                "you sign" if you == "you" else f"{you} signs",
                _good_for(grant),
            ),
        )
    own = cause_of(grant.last_error) if grant.failures else None
    cause = pause if own is None or (pause and pause.actor is Actor.OPERATOR) else own
    if cause is not None and cause.actor is Actor.OPERATOR:
        return Sentence(
            Tone.ENDED,
            "Paused.",
            Markup(
                "{}. That is the operator’s turn; the grant is kept and goes on by itself afterwards. {}"
            ).format(cause.title, _good_for(grant)),
            cause=cause.code,
        )
    if grant.in_flight:
        return Sentence(Tone.ALIVE, "Alive.", Markup("A refresh is under way."))
    if cause is not None and (own is not None or _is_due(grant)):
        return Sentence(
            Tone.WAITING,
            "Waiting for Tesla.",
            Markup("{}. {}{} Nothing to do.").format(cause.title, _tries(grant), _good_for(grant)),
            cause=cause.code,
        )
    refreshed = relative(grant.refreshed_at, now)
    if grant.refresh_at is not None and not _is_due(grant):
        left = duration((grant.refresh_at - now).total_seconds())
        return Sentence(
            Tone.ALIVE, "Alive.", Markup("Refreshed {}; next in {}, by itself.").format(refreshed, left)
        )
    late = (now - grant.refresh_at).total_seconds() if grant.refresh_at else 0.0
    if late > OVERDUE_SECONDS and not swept:
        return Sentence(
            Tone.WAITING,
            "Waiting for Evergrant.",
            Markup("A refresh has been due for {}, and no worker is at it: the operator’s turn. {}").format(
                duration(late), _good_for(grant)
            ),
        )
    return Sentence(
        Tone.ALIVE, "Alive.", Markup("Refreshed {}; the next is due now, by itself.").format(refreshed)
    )


def _is_due(grant: Grant) -> bool:
    return grant.refresh_at is not None and grant.refresh_at <= grant.read_at


def _tries(grant: Grant) -> str:
    if not grant.failures:
        return ""
    times = "once" if grant.failures == 1 else f"{grant.failures} times"
    if grant.retry_at is None or grant.retry_at <= grant.read_at:
        return f"Tried {times}, the next try is due now. "
    return f"Tried {times}, next try in {duration((grant.retry_at - grant.read_at).total_seconds())}. "


def _good_for(grant: Grant) -> str:
    if grant.access_expires_at is None:
        return ""
    seconds = (grant.access_expires_at - grant.read_at).total_seconds()
    if seconds <= 0:
        return "The access token has run out meanwhile; the grant has not."
    return f"The access token is good for {duration(seconds)}."
