"""What strikes, and when: made from a seed before anything starts. The same seed makes the same plan.

Anything may strike while anything else does, with three exceptions, for which the storm lets an act wait: SQL
and Valkey are struck once at a time each; Tesla's faults and orders to die wait while the breaker is open, or
they would strike nothing but its probes and nothing would ever be refreshed; and Valkey does not lose its
data while SQL refuses and the escrow's disk is full, because then no place is left that could keep an answer,
and the promise ends with the last one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from sandbox.faults import FAULTS
from workers.steps import Step

FULL = 600
"""Seconds of a storm in which each fault strikes at least `OFTEN` times."""

OFTEN = 10

LONGEST = 2.0
"""How many times as long a long storm may take on a slow machine, until every act was carried out."""

LYING = ("login_required", "invalid_grant", "invalid_auth_code")
"""Tesla says of a good refresh token that it is spent. One owner at a time is struck, who holds another one:
else the grant is over, by Tesla's own word. Only before it rotated: afterwards all that is held is spent."""

_UNROTATED = ("no_refresh_token", "same_refresh_token")
"""After these, before Tesla rotated, the previous token is no longer held; so other owners get these."""

FOR_ALL = (
    *("invalid_client", "unauthorized_client", "invalid_request", "invalid_redirect_url"),
    "rate_limit",
)
"""After one of these nobody asks Tesla for a while."""

_ALTERED = ("no_expires_in", "absurd_expires_in", "odd_token_type", "extra_fields")
"""A genuine answer with something odd in it: there is no before or after."""

_SECONDS = {
    "hang": (3.5, 8.0),
    "drip": (3.5, 8.0),
    "slow": (1.0, 4.0),
    "rate_limit": (2.0, 2.0),
    "huge": (1.0, 2.0),
}

TOKEN_FAULTS = tuple(fault.name for fault in FAULTS.values() if fault.endpoint == "token")


@dataclass(frozen=True, order=True)
class Act:
    """At `at` seconds into the storm, something strikes; `kind` is what the table calls it."""

    at: float
    kind: str
    parameters: dict[str, Any] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        words = " ".join(f"{name}={value}" for name, value in self.parameters.items())
        return f"{self.at:7.1f}  {self.kind:<48} {words}".rstrip()


# The lines of the table.
KILL_AT = {step: f"SIGKILL at {step.value}" for step in Step}
KILL_ANYWHERE = "SIGKILL at a random moment"
STOP = "SIGSTOP past the lock's life, SIGCONT"
KILL_BEAT = "beat killed (two run)"
VALKEY_KILL = "Valkey killed and restarted"
VALKEY_FLUSH = "Valkey FLUSHALL"
VALKEY_WIPE = "Valkey killed, restarted without its data"
STOP_FAST = "PostgreSQL stopped (fast) and restarted"
STOP_IMMEDIATE = "PostgreSQL stopped (immediate) and restarted"
REFUSE = "SQL refuses writes"
FULL_ESCROW = "escrow's disk full while SQL refuses writes"
FULL_ESCROW_ALONE = "the same, and Valkey is away"
SQL_AWAY = (STOP_FAST, STOP_IMMEDIATE, REFUSE, FULL_ESCROW)
CLOCK = "a machine's clock jumps"
TESLA = "Tesla: {fault}, {where} it rotated"
TESLA_ALTERS = "Tesla: {fault}"
TESLA_KEEPS = "Tesla: {fault}, and it did not rotate"
TESLA_LIES = "Tesla: {fault} of a good refresh token"
TESLA_REFUSES = "Tesla: wrong client credentials for all, 10 s"
TESLA_DOWN = "Tesla down for longer than a token lives"
WITHDRAW = "owner withdraws consent"
CLICK = "owner presses “Refresh now”"
SIGN_IN = "owner signs in again as SQL goes away"


def plan(
    *, seed: int, seconds: float, owners: int, database: str, strict: bool, token_seconds: int, clocks: bool
) -> list[Act]:
    """The acts in the order of their times; the storm lasts `seconds`."""
    acts: list[Act] = []
    share = min(1.0, seconds / FULL)
    times = round((OFTEN + 1) * share) or 1
    for name, track, spacing in (
        ("workers", _workers(times), 4.2),
        ("stops", _stops(times), 22.0),
        ("valkey", _valkey(times), 9.0),
        ("sql", _sql(times, database, owners, strict=strict), 11.0 if database == "postgresql" else 26.0),
        ("tesla", _tesla(share, owners, strict=strict), 0.5),
        ("clock", _clock(times, database) if clocks else [], 15.0),
        ("owners", _owners(times, owners, strict=strict), 1.0),
    ):
        # Each track has dice of its own, so that a change in one leaves the others as they are.
        dice = random.Random(f"{seed}/{name}")
        acts += _spread(dice, track, seconds, spacing)
    acts += _long_ones(random.Random(f"{seed}/long"), seconds, token_seconds)
    return sorted(acts)


_Track = list[tuple[str, dict[str, Any]]]
"""Kinds and parameters; one that is a pair is a range, of which a number is drawn."""


def _spread(dice: random.Random, track: _Track, seconds: float, spacing: float) -> list[Act]:
    """The track's acts in random order over the storm, not closer to each other than `spacing` on average."""
    dice.shuffle(track)
    track = track[: max(1, int(seconds / spacing))] if track else []
    slot = seconds * 0.96 / max(len(track), 1)
    return [
        Act(round(seconds * 0.01 + (number + dice.random() * 0.8) * slot, 1), kind, _drawn(dice, parameters))
        for number, (kind, parameters) in enumerate(track)
    ]


def _drawn(dice: random.Random, parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        name: round(dice.uniform(*value), 1) if isinstance(value, tuple) else value
        for name, value in parameters.items()
    }


def _workers(times: int) -> _Track:
    # ESCROWED is reached while SQL refuses only: those orders come with that.
    steps = [step for step in Step if step is not Step.ESCROWED]
    acts: _Track = [(KILL_AT[step], {"step": step.value}) for step in steps for _ in range(times)]
    acts += [(KILL_ANYWHERE, {"worker": (0, 99)}) for _ in range(times)]
    return acts + [(KILL_BEAT, {"beat": (0, 99)}) for _ in range(times)]


def _stops(times: int) -> _Track:
    steps = [Step.CONNECTED, Step.ANSWERED, Step.WRITTEN, Step.DRAINED, Step.LOCKED, Step.SETTLED, None]
    return [
        (STOP, {"step": step.value if step else "", "worker": (0, 99)})
        for step in (steps[number % len(steps)] for number in range(times))
    ]


def _valkey(times: int) -> _Track:
    return [
        *((VALKEY_KILL, {"seconds": (0.3, 2.0)}) for _ in range(times)),
        *((VALKEY_FLUSH, {}) for _ in range(times)),
        *((VALKEY_WIPE, {"seconds": (0.3, 2.0)}) for _ in range(times)),
    ]


def _sql(times: int, database: str, owners: int, *, strict: bool) -> _Track:
    # An SQLite writer waits ten seconds for its turn before it is refused, and comes two seconds late.
    length = (1.5, 3.0) if database == "postgresql" else (13.0, 14.5)
    # Who signs in again begins a new family, which would hide how the one before ended in strict mode.
    one = {} if strict else {"owner": (0, owners - _withdrawing(owners, times))}
    acts: _Track = []
    if database == "postgresql":
        acts += [(STOP_FAST, {"seconds": (1.0, 3.0)}) for _ in range(times)]
        acts += [(STOP_IMMEDIATE, {"seconds": (1.0, 3.0)}) for _ in range(times)]
        acts += [(REFUSE, {"seconds": length, "kill": number < times}) for number in range(times)]
    acts += [
        (FULL_ESCROW, {"seconds": length, "kill": True, "valkey_away": number % 4 == 3})
        for number in range(times)
    ]
    return [(kind, {**given, **one}) for kind, given in acts]


def _tesla(share: float, owners: int, *, strict: bool) -> _Track:
    """Most strike the one call that comes next. Those after which nobody asks Tesla for a while strike all
    that are under way, again and again until that was often enough."""
    times = max(1, round((OFTEN + 1) * share))
    one = (0, owners - _withdrawing(owners, times))
    acts: _Track = []
    for number, fault in enumerate(TOKEN_FAULTS):
        if fault in LYING:
            # In strict mode to try an older one ends the family: Tesla lies, and punishes who believes it.
            rule: dict[str, Any] = {"fault": fault, "owner": one, "parity": 0}
            acts += [(TESLA_LIES.format(fault=fault), rule)] * (0 if strict else times)
            continue
        if fault in _UNROTATED:
            rule = {"fault": fault, "owner": one, "parity": 1}
            acts += [(TESLA_KEEPS.format(fault=fault), rule)] * times
            if fault == "same_refresh_token":
                continue
        wheres = ("after",) if fault in _UNROTATED else ("before", "after")
        for where in wheres if fault not in _ALTERED else ("before",):
            kind = (TESLA_ALTERS if fault in _ALTERED else TESLA).format(fault=fault, where=where)
            # In strict mode each answer that is lost ends a grant.
            often = 1 if strict and where == "after" else times
            rule = {"fault": fault, "where": where}
            if fault in _SECONDS:
                rule["seconds"] = _SECONDS[fault][number % 2] if where == "before" else _SECONDS[fault]
            if fault in FOR_ALL:
                acts.append((kind, {**rule, "count": often + (often > 1), "often": often}))
            else:
                acts += [(kind, {**rule, "count": 1})] * often
    return acts


def _clock(times: int, database: str) -> _Track:
    """PostgreSQL's clock is the rows'; a worker's own may be an hour off, either way.

    SQLite's is the machine's, which has one for all its processes: it steps ahead for good (back by an hour
    it would be an hour until anything falls due again), or back a little.
    """
    if database == "postgresql":
        return [
            (CLOCK, {"machine": number // 3 % 2, "to": (3600.0, -3600.0, 0.0)[number % 3]})
            for number in range(times)
        ]
    return [(CLOCK, {"machine": 0, "by": (3600.0, -5.0)[number % 2]}) for number in range(times)]


def _withdrawing(owners: int, times: int) -> int:
    """How many owners, the last ones, withdraw their consent."""
    return min(times, owners // 10)


def _owners(times: int, owners: int, *, strict: bool) -> _Track:
    acts: _Track = [(CLICK, {"owner": (0, owners)}) for _ in range(8 * times)]
    leaving = 0 if strict else _withdrawing(owners, times)
    return acts + [(WITHDRAW, {"owner": owners - 1 - number}) for number in range(leaving)]


def _long_ones(dice: random.Random, seconds: float, token_seconds: int) -> list[Act]:
    """What lasts long comes at set times, once or twice, and not into each other."""
    if seconds < FULL / 2:
        return []
    down = token_seconds + 10
    rule = {"probability": 1.0, "where": "before"}
    return [
        Act(
            round(seconds * 0.2 + dice.uniform(0, 10), 1),
            TESLA_REFUSES,
            {"fault": "invalid_client", "for": 10, **rule},
        ),
        Act(
            round(seconds * 0.5 + dice.uniform(0, 10), 1), TESLA_DOWN, {"fault": "reset", "for": down, **rule}
        ),
        Act(
            round(seconds * 0.8 + dice.uniform(0, 10), 1),
            TESLA_REFUSES,
            {"fault": "invalid_client", "for": 10, **rule},
        ),
    ]
