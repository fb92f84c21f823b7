"""The gate in front of Tesla, kept in Redis and shared by all workers: a breaker and a rate.

The breaker opens when Tesla fails for everybody, asks for a pause, or does not accept the app. When its
time is up, one owner's refresh goes through as a probe; that one closes the breaker, or it opens for longer.
Without Redis the gate is open: SQL's fence still holds, and so do the waits on each grant.
"""

from __future__ import annotations

import logging
import random
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger(__name__)

OWNERS_FAILING = 3
"""So many owners in a row for whom Tesla fails, with no success between, are everybody."""

MARGIN = 0.91
"""Share of the rate that is used: turns are given evenly, but threads wake up a little late or early."""

FIRST_PAUSE = 5.0
LONGEST_PAUSE = 30.0

_BREAKER, _FAILING, _PROBE, _PACE = (
    f"evergrant:breaker{name}" for name in ("", ":failing", ":probe", ":pace")
)

# Redis's own clock, so that hosts whose clocks differ agree.
_NOW = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) "

_ADMIT = (
    _NOW
    + """
local open = redis.call('HMGET', KEYS[1], 'until', 'cause')
if open[1] then
  local left = tonumber(open[1]) - now
  if left > 0 then return {'open', left, open[2]} end
  if redis.call('SET', KEYS[3], '1', 'NX', 'PX', ARGV[2]) then
    redis.call('SET', KEYS[4], string.format('%.3f', now + 1000 / tonumber(ARGV[1])), 'PX', 60000)
    return {'probe', 0, open[2]}
  end
  return {'open', redis.call('PTTL', KEYS[3]), open[2]}
end
local start = math.max(now, tonumber(redis.call('GET', KEYS[4]) or ARGV[4]))
if start - now > tonumber(ARGV[3]) then return {'full', math.floor(start - now), ''} end
local after = string.format('%.3f', start + 1000 / tonumber(ARGV[1]))
redis.call('SET', KEYS[4], after, 'PX', 60000)
return {'go', math.floor(start - now), tostring(redis.call('EXISTS', KEYS[2])), after}
"""
)

_FAIL = (
    _NOW
    + """
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('PEXPIRE', KEYS[2], 120000)
local before = redis.call('HMGET', KEYS[1], 'until', 'trips')
if ARGV[2] == '0' and not before[1] and redis.call('SCARD', KEYS[2]) < tonumber(ARGV[3]) then return 0 end
redis.call('DEL', KEYS[3])
if before[1] and tonumber(before[1]) > now and ARGV[5] == '0' then return 0 end
local trips = tonumber(before[2] or '0')
local pause = tonumber(ARGV[5])
if pause == 0 then pause = math.min(tonumber(ARGV[6]) * 2 ^ trips, tonumber(ARGV[7])) * tonumber(ARGV[8]) end
local ends = math.max(now + pause, tonumber(before[1] or '0'))
redis.call('HSET', KEYS[1], 'until', math.floor(ends), 'cause', ARGV[4], 'trips', math.min(trips + 1, 16))
return before[1] and 0 or 1
"""
)

_LOOK = (
    _NOW
    + """
local open = redis.call('HMGET', KEYS[1], 'until', 'cause')
if not open[1] then return {'closed', 0, ''} end
local left = tonumber(open[1]) - now
if left > 0 then return {'open', left, open[2]} end
return {'half_open', math.max(redis.call('PTTL', KEYS[3]), 0), open[2]}
"""
)


class Gate(StrEnum):
    GO = "go"
    PROBE = "probe"  # go, as the one that tries whether Tesla is back
    OPEN = "open"  # the breaker is: not now
    FULL = "full"  # the rate is used up: not now


@dataclass(frozen=True, slots=True)
class Admission:
    """`seconds`: to wait before going (`GO`), or until it is worth asking again."""

    gate: Gate
    seconds: float
    cause: str = ""  # why the breaker is open
    troubled: bool = False  # a success should be told to the breaker

    @property
    def may_go(self) -> bool:
        return self.gate in {Gate.GO, Gate.PROBE}


@dataclass(frozen=True, slots=True)
class Look:
    """The breaker's state (``closed``, ``open``, ``half_open``) and how many seconds it stays so."""

    state: str
    seconds: float
    cause: str


class Breaker:
    """`rate` is in calls a second, all workers together; `probe_life` how long a probe is waited for, in
    seconds."""

    def __init__(self, redis: Redis, *, rate: float, probe_life: float) -> None:
        self._redis = redis
        self._rate = rate
        self._probe_life = probe_life
        self._admit = redis.register_script(_ADMIT)
        self._fail = redis.register_script(_FAIL)
        self._look = redis.register_script(_LOOK)
        # When Redis is wiped, the turns that this process is still waiting for are not given once more.
        self._after_my_turns = "0"
        self._keys = [_BREAKER, _FAILING, _PROBE, _PACE]

    def admit(self, patience: float) -> Admission:
        """Whether a call may be made, if need be after waiting up to `patience` seconds for its turn."""
        try:
            gate, milliseconds, word, *after = self._admit(
                self._keys,
                [
                    MARGIN * self._rate,
                    int(self._probe_life * 1000),
                    int(patience * 1000),
                    self._after_my_turns,
                ],
            )
        except RedisError:
            return Admission(Gate.GO, 0)
        gate, word = Gate(gate.decode()), word.decode()
        seconds = max(float(milliseconds), 0) / 1000
        if gate is Gate.GO:
            self._after_my_turns = after[0].decode()
            return Admission(gate, seconds, troubled=word != "0")
        return Admission(gate, seconds, cause=word, troubled=gate is Gate.PROBE)

    def failed(self, owner: str, cause: str, *, everybody: bool, pause: float | None = None) -> bool:
        """Tesla failed for this owner. `everybody`: it would for all, so that the breaker opens at once,
        for `pause` seconds when Tesla asked for that. True when this has opened the breaker.
        """
        try:
            return bool(
                self._fail(
                    self._keys,
                    [
                        owner,
                        int(everybody),
                        OWNERS_FAILING,
                        cause,
                        int((pause or 0) * 1000),
                        int(FIRST_PAUSE * 1000),
                        int(LONGEST_PAUSE * 1000),
                        random.uniform(0.5, 1),  # noqa: S311 - jitter
                    ],
                )
            )
        except RedisError:
            return False

    def succeeded(self) -> bool:
        """Tesla works. True when this has closed the breaker."""
        try:
            pipe = self._redis.pipeline(transaction=True)
            pipe.delete(_BREAKER)
            pipe.delete(_FAILING, _PROBE)
            return bool(pipe.execute()[0])
        except RedisError:
            return False

    def give_back(self, admission: Admission) -> None:
        """No call was made: when this was to be the probe, another may be."""
        if admission.gate is Gate.PROBE:
            with suppress(RedisError):
                self._redis.delete(_PROBE)

    def look(self) -> Look:
        try:
            state, milliseconds, cause = self._look(self._keys)
        except RedisError:
            return Look("closed", 0, "")
        return Look(state.decode(), max(float(milliseconds), 0) / 1000, cause.decode())
