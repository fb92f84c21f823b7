"""The one sentence, for each state that a grant can be in."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet.errors import CAUSES, Cause
from models.events import Event
from models.grants import Grant
from web.sentence import BY_OPERATOR, Tone, sentence
from web.words import duration, relative, ticks

NOW = datetime(2026, 5, 3, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


ALIVE = Grant(
    owner="owner-1",
    state="alive",
    reason=None,
    consent_id="c",
    generation=3,
    requested_scopes="openid",
    scopes="openid",
    region="EU",
    fleet_url="https://eu",
    connected_at=at(-9000),
    refreshed_at=at(-185),
    access_expires_at=at(28615),
    refresh_at=at(21420),
    retry_at=None,
    failures=0,
    last_error=None,
    last_error_at=None,
    attempt_id=None,
    attempt_number=3,
    attempt_started_at=None,
    attempt_deadline=None,
    paused_at=None,
    client_id="app",
    read_at=NOW,
    sealed_access_token=None,
)


def said(
    grant: Grant | None,
    *,
    pause: Cause | None = None,
    swept: bool = True,
    ended: Event | None = None,
    **more: str,
) -> tuple[Tone, str]:
    import re

    made = sentence(grant, ended=ended, pause=pause, swept=swept, **more)
    return made.tone, re.sub(r"<[^>]+>", "", f"{made.word} {made.rest}")


FAILING: dict[str, Any] = {"failures": 3, "last_error": "tesla_failed", "retry_at": at(40.9)}


@pytest.mark.parametrize(
    ("changes", "tone", "words"),
    [
        ({}, Tone.ALIVE, "Alive. Refreshed 3 min ago; next in 5 h 57 min, by itself."),
        ({"refresh_at": at(-5)}, Tone.ALIVE, "Alive. Refreshed 3 min ago; the next is due now, by itself."),
        ({"attempt_deadline": at(5)}, Tone.ALIVE, "Alive. A refresh is under way."),
        (
            FAILING,
            Tone.WAITING,
            (
                "Waiting for Tesla. Tesla is not answering. Tried 3 times, next try in 40 s. "
                "The access token is good for 7 h 56 min. Nothing to do."
            ),
        ),
        (
            FAILING | {"access_expires_at": at(-1), "retry_at": at(-1)},
            Tone.WAITING,
            (
                "Waiting for Tesla. Tesla is not answering. Tried 3 times, the next try is due now. "
                "The access token has run out meanwhile; the grant has not. Nothing to do."
            ),
        ),
        (
            {"failures": 1, "last_error": "encryption_key", "retry_at": at(50)},
            Tone.ENDED,
            (
                "Paused. A token in the table does not open. That is the operator’s turn; the grant is kept "
                "and goes on by itself afterwards. The access token is good for 7 h 56 min."
            ),
        ),
        (
            {"paused_at": at(-200), "refresh_at": None},
            Tone.WAITING,
            (
                "Paused by the operator 3 min ago. Nothing is refreshed until that ends or you sign in "
                "again. The access token is good for 7 h 56 min."
            ),
        ),
        (
            {"state": "needs_consent", "reason": "login_required", "last_error_at": at(-100)},
            Tone.ENDED,
            "Ended on 3 May 2026. Tesla ended this grant.",
        ),
    ],
)
def test_the_sentence(changes: dict[str, Any], tone: Tone, words: str) -> None:
    assert said(replace(ALIVE, **changes)) == (tone, words)


def test_a_pause_for_everybody_is_told() -> None:
    tone, words = said(ALIVE, pause=CAUSES["invalid_client"])
    assert tone is Tone.ENDED
    assert words.startswith("Paused. Tesla does not know this client id and secret.")


def test_an_outage_that_does_not_concern_this_grant_yet_is_not() -> None:
    assert said(ALIVE, pause=CAUSES["tesla_failed"])[0] is Tone.ALIVE
    due = replace(ALIVE, refresh_at=at(-1))
    assert said(due, pause=CAUSES["tesla_failed"])[1].startswith("Waiting for Tesla. Tesla is not answering.")


def test_nobody_sweeps() -> None:
    late = replace(ALIVE, refresh_at=at(-3 * 60))
    assert said(late, swept=False)[0] is Tone.WAITING
    assert said(late, swept=True)[0] is Tone.ALIVE
    assert said(ALIVE, swept=False)[0] is Tone.ALIVE  # it is not due


def test_what_is_not_there() -> None:
    assert said(None)[0] is Tone.NONE
    gone = replace(ALIVE, state="disconnected")
    ended = Event(1, at(-60), "owner-1", "disconnected", None, None, 3, None, None, None)
    assert said(gone, ended=ended)[1].startswith("Disconnected by you on 3 May 2026.")
    ended = replace(ended, detail=BY_OPERATOR)
    assert said(gone, ended=ended)[1].startswith("Disconnected by the operator on 3 May 2026.")


def test_to_somebody_else_it_speaks_of_the_owner() -> None:
    assert said(None, you="the owner")[1].startswith("Nothing here. Evergrant keeps nothing about the owner")
    assert said(replace(ALIVE, state="disconnected"), you="the owner")[1].startswith(
        "Disconnected by the owner."
    )
    paused = said(replace(ALIVE, paused_at=at(-200), refresh_at=None), you="the owner")[1]
    assert "until that ends or the owner signs in again." in paused


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0 s"),
        (0.9, "0 s"),
        (59.99, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (21479, "5 h 57 min"),
        (86399, "23 h 59 min"),
        (86400, "1 d"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_round_down(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("hours", "words"), [(0.7, "42 min"), (5.9, "5 h"), (36.5, "36 h"), (48, "2 d"), (71, "2 d")]
)
def test_in_one_unit(hours: float, words: str) -> None:
    assert duration(hours * 3600, brief=True) == words


def test_a_moment_carries_its_exact_time() -> None:
    assert relative(at(-185.7), NOW) == (
        '<time datetime="2026-05-03T11:56:54Z" title="2026-05-03 11:56:54 UTC">3 min ago</time>'
    )
    assert ">in 1 min<" in relative(at(119), NOW)
    assert ">just now<" in relative(at(0.5), NOW)


def test_words_from_elsewhere_are_escaped() -> None:
    assert ticks("<b> `<i>`") == "&lt;b&gt; <code>&lt;i&gt;</code>"
