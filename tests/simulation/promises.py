"""The protocol's promises, looked at after every step: at Tesla's records, the table, the escrow and what
living processes remember.

1. No refresh token that has reached us is lost: of those that Tesla would accept, the newest is in the table,
   in the escrow, or in the hands of a living process. Excused are tokens whose answer was lost on the way,
   or whose process was killed between receiving it and the first durable write. (Redis is no such place: it
   may be wiped. Only when the process is gone as well, that is nobody's fault.)
2. Of one grant's calls never two are in flight, from the send to the answer or the client's deadline, even
   when the client was killed meanwhile or the answer broke off.
3. No token is presented when one that was got with it was in the escrow, as far as the process could see it,
   as its attempt was committed, or in the table as it looked there after that; unless Tesla had rejected that
   one.
4. A grant is called dead only when Tesla has rejected every token in the table, and it is when none is good.
5. No token in the clear in Redis, in the escrow's files, or anywhere in the bytes of the table.
6. The owner's word wins: nothing of an older consent is ever in the row, and no sign-in overwrites a word
   that the owner said later.
7. (Cheapness, what the lock is for.) As long as Redis keeps what it is told, no second process passes an
   owner's lock.
8. When nothing breaks any more, everything comes to rest.
9. While the operator has paused a grant, it never falls due and no attempt is begun.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from models.grants import State
from tests.simulation.tesla import ACCESS_MARK, REFRESH_MARK, Family, Token
from tests.simulation.world import NEVER, Actor, Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from models.crypto import Keyring
    from tests.simulation.hints import Redis
    from tests.simulation.table import Table
    from tests.simulation.tesla import Call, Tesla
    from tests.simulation.world import World

_GRANTS = (
    "SELECT owner, state, consent_id, generation, refresh_token, previous_refresh_token, previous_until, "
    "attempt_id, failures, access_token, refresh_at, claimed_until, retry_at, attempt_deadline, "
    "paused_at FROM grants"
)
_SPARES = "SELECT owner, attempt_number, refresh_token FROM spares"
_EPOCH = datetime(2030, 1, 1)  # noqa: DTZ001 - as SQLite's text


@dataclass
class Row:
    """A grant as it is in the table, opened."""

    state: str
    consent_id: str
    generation: int
    current: Token | None
    tokens: list[Token]  # all that are held and within their life, the current one first
    quiet: bool  # no attempt, no wait, no failure: as a refresh that went well leaves it
    due: int  # when the next sweep may claim it, in milliseconds
    attempt: str | None
    paused: bool
    family: Family | None = None


@dataclass
class Seen:
    """What a process knew as it began its attempt."""

    files: list[Token] = field(default_factory=list)
    redis: list[Token] = field(default_factory=list)
    table: list[Token] = field(default_factory=list)
    changes: int = 0  # of Redis, as it looked


class Promises:
    def __init__(
        self,
        world: World,
        *,
        tesla: Tesla,
        table: Table,
        redis: Redis,
        folders: dict[str, Path],
        keyring: Keyring,
        lock_life: float,
        hands: Callable[[Actor | None], Iterable[str]],
    ) -> None:
        self.rows: dict[str, Row] = {}
        self.intents: dict[str, list[str]] = defaultdict(list)  # what the owner is about to end
        self.changed = False  # the table has, since whoever wants to know last looked
        self.ended: dict[int, str] = {}  # families that strict Tesla revoked, and why that is excused
        self._world = world
        self._tesla = tesla
        self._table = table
        self._redis = redis
        self._folders = folders
        self._keyring = keyring
        self._hands = hands  # the refresh tokens that a thread's process, or any, keeps until they are safe
        self._lock_life = int(lock_life * 1000)
        self._opened: dict[bytes | str, Token] = {}
        self._names: dict[str, list[str]] = {}  # the escrow's files, by machine
        self._files: dict[str, list[Token]] = {machine: [] for machine in folders}
        self._in_redis: list[Token] = []
        self._calls: dict[str, list[Call]] = {}
        self._consents: dict[str, Family] = {}  # by the consent's id
        self._last_words: dict[str, int] = {}  # when the last one was said of those that have been committed
        self._epochs: dict[str, int] = {}  # how often the owner was erased: each time it is another grant
        self._epoch_of: dict[int, int] = {}  # in which of them a family began
        self._seen: dict[Actor, Seen] = {}
        self._about_to_look: dict[Actor, Seen] = {}
        self._inside: dict[
            str, dict[Actor, tuple[int, int]]
        ] = {}  # past the lock: its end, and Redis's wipes
        tesla.judge = self
        table.committed = self.committed
        redis.written = self.redis_written

    # --- what is where -----------------------------------------------------------------------------

    @property
    def escrow_is_empty(self) -> bool:
        return not self._in_redis and not any(self._files.values())

    def committed(self) -> None:
        """The table has changed."""
        raw = self._table.raw
        now = self._world.text()
        rows: dict[str, Row] = {}
        for row in raw.execute(_GRANTS):
            (
                owner,
                state,
                consent_id,
                generation,
                sealed,
                previous,
                until,
                attempt,
                failures,
                access,
                *times,
                paused_at,
            ) = row
            current = None if sealed is None else self._token(sealed, owner, "refresh_token", generation)
            tokens = [] if current is None else [current]
            if previous is not None and until is not None and until > now:
                tokens.append(self._token(previous, owner, "previous_refresh_token", generation))
            due = NEVER if times[0] is None else max(map(_milliseconds, filter(None, times)))
            quiet = attempt is None and not failures and times[2] is None
            rows[owner] = Row(
                state, consent_id, generation, current, tokens, quiet, due, attempt, paused_at is not None
            )
            if state == State.DISCONNECTED and (sealed or previous or access):
                self._world.breaks(6, f"{owner} disconnected, and tokens are kept")
        for owner, number, sealed in raw.execute(_SPARES):
            token = self._token(sealed, owner, "spare", number)
            if owner in rows:
                rows[owner].tokens.append(token)
                rows[owner].quiet = False
            else:
                self._world.breaks(6, f"{owner} has spares and no grant")
        before, self.rows = self.rows, rows
        self.changed = True
        actor = self._world.current
        if actor is not None and actor in self._seen and actor.owner in rows:
            # What it sends next, it sends by right of its last commit.
            self._seen[actor].table = list(rows[actor.owner].tokens)
        for owner in before.keys() | rows.keys():
            self._changed(owner, before.get(owner), rows.get(owner))
        for owner, intents in self.intents.items():
            if "erase" in intents and owner not in rows:
                # It is a word even where there was nothing to erase.
                digest = hashlib.sha256(owner.encode()).hexdigest()
                for (at,) in raw.execute("SELECT at FROM erasures WHERE owner = ?", (digest,)):
                    self._says(owner, max(_milliseconds(at), self._last_words[owner]))

    def _changed(self, owner: str, before: Row | None, after: Row | None) -> None:
        if after is None:
            if "erase" not in self.intents[owner]:
                self._world.breaks(6, f"the grant of {owner} vanished")
            self._epochs[owner] = self._epochs.get(owner, 0) + 1
            self._says(owner, self._world.ms)
            return
        if before is not None and before.consent_id == after.consent_id:
            after.family = before.family
        elif after.state == State.DISCONNECTED:
            if "disconnect" not in self.intents[owner]:
                self._world.breaks(6, f"{owner} was disconnected by nobody")
            self._says(owner, self._world.ms)
        elif (family := self._consents.get(after.consent_id)) is not None:
            after.family = family
            family.stored = True
            self._epoch_of[family.number] = self._epochs.get(owner, 0)
            self._says(owner, family.said)
        else:
            self._world.breaks(6, f"{owner} was connected by nobody")
        if after.paused:
            begun = before is not None and before.paused and after.attempt not in {None, before.attempt}
            if begun or after.due != NEVER:
                self._world.breaks(9, f"{owner} is paused, and {'an attempt is begun' if begun else 'due'}")
        for token in after.tokens:
            if token.family is not after.family:
                self._world.breaks(6, f"{owner} has token {token.number} of an older consent")
            self._durable(token)
            token.in_table = token.in_table or self._world.tick
        if (
            before is not None
            and before.state == State.ALIVE
            and after.state == State.NEEDS_CONSENT
            and (untried := [token.number for token in before.tokens if not token.rejected])
        ):
            self._world.breaks(4, f"{owner} was called dead, and Tesla has not rejected {untried}")
        self.check(owner)

    def _says(self, owner: str, said: int) -> None:
        """This word of the owner's has been committed."""
        if said < self._last_words.get(owner, 0):
            self._world.breaks(6, f"a sign-in overwrote what {owner} said later")
        self._last_words[owner] = said

    def signed_in(self, actor: Actor | None, token: Token, consent_id: str) -> None:
        """Tesla has given this token for a sign-in, and `actor` has it."""
        token.received = True
        self._consents[consent_id] = token.family
        if actor is not None:
            actor.memory = token

    def in_reach(self, machine: str) -> bool:
        """Whether something waits in the escrow that this machine can take out."""
        return bool(self._in_redis or self._files[machine])

    def files_written(self) -> None:
        """The escrow's folders may have changed."""
        for machine, folder in self._folders.items():
            try:
                names = sorted(name for name in os.listdir(folder) if name.endswith(".sealed"))  # noqa: PTH208
            except OSError:
                names = []
            if names == self._names.get(machine, []):
                continue
            self._names[machine] = names
            found = []
            for name in names:
                text = (folder / name).read_text()
                self._look_for_plain(text, "a file of the escrow")
                found.append(self._from_escrow(text.partition('"answer": "')[2].rstrip('"}')))
            self._files[machine] = found
            for token in found:
                self._durable(token)

    @property
    def has_files(self) -> bool:
        return any(self._files.values())

    def redis_written(self) -> None:
        """Redis has changed."""
        texts = [text for fields in self._redis.hashes.values() for text in fields.values()]
        for text in texts:
            self._look_for_plain(text, "Redis")
        self._in_redis = [self._from_escrow(text) for text in texts]

    def wipe_redis(self) -> None:
        before = self._in_redis
        self._redis.wipe()
        for token in before:
            if token.orphaned and not token.durable:
                self._lose(token, "wiped out of Redis after its process was killed")
        self.check_all()

    def _durable(self, token: Token) -> None:
        if not token.durable:
            token.durable = self._world.tick
            for actor in self._world.actors:
                if isinstance(actor, Actor) and actor.memory is token:
                    actor.memory = None

    def _held(self, token: Token) -> bool:
        row = self.rows.get(token.family.owner)
        return (
            (row is not None and token in row.tokens)
            or any(token in found for found in self._files.values())
            or token in self._in_redis
        )

    def _in_hand(self, token: Token) -> bool:
        """Whether a living process has it."""
        return token.text in self._hands(None) or any(
            isinstance(actor, Actor) and actor.memory is token and not actor.dead
            for actor in self._world.actors
        )

    def _lose(self, token: Token, why: str) -> None:
        if token.lost:
            return
        token.lost = why
        self._world.counts[f"lost: {why}"] += 1

    def _token(self, sealed: bytes, owner: str, column: str, generation: int) -> Token:
        token = self._opened.get(sealed)
        if token is None:
            text = self._keyring.open(sealed, owner=owner, column=column, generation=generation)
            token = self._opened[sealed] = self._tesla.tokens[text]
        return token

    def _from_escrow(self, text: str) -> Token:
        token = self._opened.get(text)
        if token is None:
            kind, _, sealed = text.partition(":")
            for owner in dict.fromkeys(family.owner for family in self._tesla.families):
                try:
                    content = self._keyring.open(
                        base64.b64decode(sealed), owner=owner, column=kind, generation=0
                    )
                except Exception:  # noqa: S112 - another owner's
                    continue
                token = self._opened[text] = self._tesla.tokens[json.loads(content)["refresh_token"]]
                return token
            raise AssertionError("an answer in the escrow does not open")
        return token

    # --- 1: nothing is lost ------------------------------------------------------------------------

    def check(self, owner: str) -> None:
        for family in self._consents.values():
            token = family.tokens[0]
            if (
                family.owner == owner
                and not family.stored
                and family.said > self._last_words.get(owner, 0)
                and not token.lost
                and not self._held(token)
                and not self._in_hand(token)
            ):
                self._world.breaks(1, f"token {token.number}, of the last sign-in of {owner}, is lost")
        row = self.rows.get(owner)
        if row is None or row.family is None or row.family.revoked:
            return
        for token in reversed(row.family.tokens):
            if not token.received or token.lost or not self._tesla.accepts(token):
                continue
            if token in row.tokens or self._held(token) or self._in_hand(token):
                return
            self._world.breaks(1, f"token {token.number} of {owner}, which Tesla would accept, is lost")
            return

    def check_all(self) -> None:
        for owner in self._last_words:
            self.check(owner)

    def usable(self, owner: str) -> bool:
        """Whether Tesla would accept a token that is held in the table."""
        return any(self._tesla.accepts(token) for token in self.rows[owner].tokens)

    def killed(self, actor: Actor) -> None:
        """A process is gone, and what only it knew with it."""
        tokens = [self._tesla.tokens[text] for text in self._hands(actor)]
        if isinstance(actor.memory, Token):
            tokens.append(actor.memory)
        actor.memory = None
        for token in tokens:
            if token.durable:
                continue
            token.orphaned = True
            if token not in self._in_redis:
                self._lose(token, "its process was killed with it in hand")

    def gone(self, actor: Turns) -> None:
        if isinstance(actor, Actor):
            self._seen.pop(actor, None)
            self._about_to_look.pop(actor, None)
            for inside in self._inside.values():
                inside.pop(actor, None)

    def returned(self, actor: Actor) -> None:
        """A refresh has ended, one way or the other."""
        for inside in self._inside.values():
            inside.pop(actor, None)
        if actor.memory is not None:
            actor.memory = None
            self.check_all()

    # --- 2 and 3: what is sent ---------------------------------------------------------------------

    def sent(self, call: Call) -> None:
        world = self._world
        token, owner = call.token, call.owner
        world.say(f"{call.actor} presents token {token.number} of {owner}")
        call.epoch = self._epoch_of.get(token.family.number, 0)
        calls = self._calls.setdefault(owner, [])
        for other in calls:
            in_hand = other.arrived and other.actor.memory is other.issued is not None
            answered = other.ended and not in_hand and not other.may_be_at_work
            if not answered and world.ms < other.deadline and other.epoch == call.epoch:
                world.breaks(2, f"{call.actor} and {other.actor} call Tesla at once for {owner}")
        calls[:] = [other for other in calls if world.ms < other.deadline]
        calls.append(call)
        world.counts["calls"] += 1
        if token.rejected:
            world.counts["presented again after a rejection"] += 1
        seen = self._seen.get(call.actor, Seen())
        for known in (*seen.table, *seen.files, *seen.redis):
            if known.descends_from(token) and not known.rejected and not known.lost:
                world.breaks(
                    3, f"{call.actor} presents token {token.number} of {owner} and knew {known.number}"
                )
        row = self.rows.get(owner)
        now_known = [
            *(row.tokens if row is not None else ()),
            *self._in_redis,
            *self._files[call.actor.machine],
        ]
        if any(known.descends_from(token) and not known.rejected for known in now_known):
            world.counts["overtaken between attempt and send"] += 1

    def written(self, actor: Actor, owner: str) -> None:
        """Its attempt stands; what it looks for in the escrow from now on is there or is not."""
        self._about_to_look[actor] = Seen(
            files=self._of(owner, self._files[actor.machine]),
            redis=self._of(owner, self._in_redis) if self._redis.up else [],
            changes=self._redis.changes,
        )

    def drained(self, actor: Actor, owner: str) -> None:
        """It has looked, into the escrow and then into the table."""
        seen = self._seen[actor] = self._about_to_look.pop(actor, Seen())
        if seen.changes != self._redis.changes:
            seen.redis = []  # it was away or wiped in between
        row = self.rows.get(owner)
        seen.table = [] if row is None else list(row.tokens)

    def _of(self, owner: str, tokens: list[Token]) -> list[Token]:
        return [token for token in tokens if token.family.owner == owner]

    def received(self, call: Call) -> None:
        """The client has the answer in its hands."""
        issued = call.issued
        if issued is not None:
            if call.fate in {"", "cut behind the refresh token"}:
                issued.received = True
                call.actor.memory = issued
            else:
                self._world.counts["lost: on the way"] += 1
        elif getattr(call.result, "status", None) == 401 and call.fate != "invalid_client":
            call.token.rejected = self._world.tick

    def revoked(self, call: Call, family: Family) -> None:
        """Strict Tesla ends a family because of this call: is anybody of ours to blame?"""
        newest = family.tokens[-1]
        seen = self._seen.get(call.actor, Seen())
        if call.ended or call.actor.dead:
            why = "a request came late, when its client had given up"
        elif newest.lost:
            why = newest.lost
        elif not newest.received:
            why = "on the way"
        elif not newest.durable and newest not in self._in_redis:
            why = "its process was stopped with it in hand past the attempt's time"
        elif newest in seen.table or newest in seen.files or newest in seen.redis:
            why = ""
        elif newest in self._in_redis or newest.in_table or newest in self._files[call.actor.machine]:
            why = "it became durable past the attempt's time"
        else:
            why = "it was in reach of another machine only"
        if not why:
            self._world.breaks(3, f"the family of {family.owner} ended, and its newest token was safe")
        self.ended[family.number] = why
        self._world.counts[f"strict, ended: {why}"] += 1

    # --- 5: nothing in the clear -------------------------------------------------------------------

    def _look_for_plain(self, text: str, where: str) -> None:
        if REFRESH_MARK in text or ACCESS_MARK in text:
            self._world.breaks(5, f"a token is in the clear in {where}")

    def look_for_plain_in_the_table(self) -> None:
        content = self._table.bytes()
        if REFRESH_MARK.encode() in content or ACCESS_MARK.encode() in content:
            self._world.breaks(5, "a token is in the clear in the table")

    # --- 7: the lock -------------------------------------------------------------------------------

    def passed_the_lock(self, actor: Actor, owner: str) -> None:
        world, redis = self._world, self._redis
        inside = self._inside.setdefault(owner, {})
        if redis.up:
            for other, (until, wipes) in inside.items():
                if other is not actor and not other.dead and until > world.ms and wipes == redis.wipes:
                    world.breaks(7, f"{actor} passed the lock of {owner}, which {other} holds")
        inside[actor] = (world.ms + self._lock_life if redis.up else 0, redis.wipes)

    def let_go(self, actor: Actor, owner: str) -> None:
        self._inside.get(owner, {}).pop(actor, None)

    # --- the end -----------------------------------------------------------------------------------

    def digest(self) -> str:
        """A hash of all that there is in the end: the same schedule gives the same."""
        world = self._world
        end = (
            world.tick,
            world.ms,
            [
                (
                    owner,
                    row.state,
                    row.consent_id,
                    row.generation,
                    [token.number for token in row.tokens],
                    row.due,
                )
                for owner, row in sorted(self.rows.items())
            ],
            [
                (family.owner, family.used and family.used.number, family.used_at, family.revoked)
                for family in self._tesla.families
            ],
            [
                (token.number, token.received, token.lost, token.durable, token.rejected)
                for token in self._tesla.tokens.values()
            ],
            sorted(world.counts.items()),
        )
        return hashlib.sha256(repr(end).encode()).hexdigest()[:16]


def _milliseconds(text: str) -> int:
    return round((datetime.fromisoformat(text) - _EPOCH).total_seconds() * 1000)
