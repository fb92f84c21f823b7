"""One schedule: three workers on two machines, two owners, sweeps, and what befalls them; then calm, and the
proof that whoever can be alive is."""

from __future__ import annotations

import base64
import errno
import logging
import os
import shutil
import tempfile
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

import fleet.tokens
import models.answers
import models.attempts
import models.consent
import models.events
import models.grants
import models.pausing
import models.session
import models.spares
import workers.escrow
import workers.refresh
import workers.steps
import workers.sweep
from fleet.tokens import TokenEndpoint
from models import consent, grants, pausing
from models.consent import SignIn
from models.crypto import Keyring
from models.grants import State
from tests.simulation.choices import MOST, Choices
from tests.simulation.hints import Breaker, Redis
from tests.simulation.mutations import replaced
from tests.simulation.promises import Promises
from tests.simulation.table import Table
from tests.simulation.tesla import ACCESS_MARK, Tesla, Token
from tests.simulation.weather import Weather
from tests.simulation.world import NEVER, Actor, BrokenPromise, Turns, World
from workers.due import Pacing
from workers.escrow import Escrow
from workers.lock import OwnerLocks
from workers.refresh import Refresher, Result, lock_life
from workers.steps import Step
from workers.sweep import sweep

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

OWNERS = ("ada", "ben")
MACHINES = ("A", "B")
DEADLINE = 15.0
SWEEP_SECONDS = 5.0
STORE_SECONDS = 10.0
"""How long a sign-in waits for the table, as `web.signin` does."""

LONGEST_CALM = 3000
"""Ticks within which everything has to come to rest."""


@dataclass(frozen=True)
class Run:
    """How a schedule ended."""

    seed: int
    broken: BrokenPromise | None
    digest: str
    decisions: list[int]
    trace: list[str]


class Stage:
    """What schedules share, made once a process: the table's file, the keys, the folder. `with` it."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")  # noqa: S108 - quicker where there is one; a folder of our own is made in it
        self.folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None, prefix="simulation-"))
        self.table = Table(self.folder / "table.sqlite3")
        self.keyring = Keyring.parse("key:" + base64.b64encode(os.urandom(32)).decode())
        self.endpoint = TokenEndpoint(url="https://tesla.invalid/token", client_id="app", client_secret="")
        self.folders = {machine: self.folder / machine for machine in MACHINES}
        self.schedule: Schedule | None = None
        self.first_rows: dict[str, dict[str, Any]] = {}
        self._undo = ExitStack()

    def __enter__(self) -> Stage:
        self._undo.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._undo.callback(self.table.close)
        self._undo.callback(self.table.raw.close)
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        self._undo.callback(logging.disable, before)
        ids = SimpleNamespace(
            token_hex=lambda count: self._now().ids.getrandbits(8 * count).to_bytes(count).hex()
        )
        for module, name, stand_in in (
            (workers.sweep, "pulses", _Nothing()),  # signs of life, no part of the protocol
            (workers.sweep, "spares", _Nothing()),  # none of them gets 90 days old here
            (workers.sweep, "retention", _Nothing()),  # nor do events
            (workers.refresh, "time", SimpleNamespace(monotonic=lambda: self._now().world.ms / 1000)),
            (workers.steps, "listener", lambda step, owner: self._now().reached(step, owner)),
            (fleet.tokens, "call", lambda *args, **kw: self._now().tesla.call(*args, **kw)),
            (workers.escrow, "os", _Os(self)),
            (workers.escrow, "secrets", ids),
            (models.attempts, "secrets", ids),
            (models.consent, "secrets", ids),
        ):
            self._undo.enter_context(replaced(module, name, stand_in))
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    @property
    def reading(self) -> str:
        """Which reading of Tesla the last schedule had."""
        return self._now().weather.reading()

    def _now(self) -> Schedule:
        assert self.schedule is not None
        return self.schedule

    def run(
        self,
        seed: int,
        counts: Counter[str] | None = None,
        *,
        decisions: Sequence[int] | None = None,
        traced: bool = False,
    ) -> Run:
        """Plays one schedule: the seed's, or the seed's with these decisions instead of its own."""
        self.schedule = schedule = Schedule(self, seed, Choices(seed, decisions), traced=traced)
        broken = None
        try:
            schedule.play()
        except BrokenPromise as error:
            broken = error
        finally:
            schedule.world.clear()
            self._empty_folders()
        if counts is not None:
            counts.update(schedule.world.counts)
            counts["schedules"] += 1
            counts["steps"] += schedule.world.tick
            counts[f"reading: {schedule.weather.reading()}"] += 1
        return Run(
            seed, broken, schedule.promises.digest(), schedule.world.choices.taken, schedule.world.trace or []
        )

    def _empty_folders(self) -> None:
        for folder in self.folders.values():
            try:
                names = os.listdir(folder)  # noqa: PTH208
            except OSError:
                continue
            for name in names:
                (folder / name).unlink()


class _Os:
    """The escrow's `os`: a write to the disk is a place to pause, and fails when the disk is full."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fsync(self, _file: int) -> None:
        schedule = self._stage.schedule
        assert schedule is not None
        schedule.promises.files_written()
        schedule.world.pause("fsync")
        actor = schedule.world.current
        if actor is not None and schedule.world.ms < schedule.full_until[actor.machine]:
            raise OSError(errno.ENOSPC, "No space left on device")


class _Nothing:
    def __getattr__(self, name: str) -> Any:
        return lambda *_args, **_kw: None


class _Escrow(Escrow):
    """With its owners in an order that does not hang on Python's hash seed."""

    def owners(self) -> set[str]:
        in_order: Any = dict.fromkeys(sorted(super().owners()))
        return in_order  # type: ignore[no-any-return]


class Schedule:
    def __init__(self, stage: Stage, seed: int, choices: Choices, *, traced: bool) -> None:
        counts: Counter[str] = Counter()
        self.world = world = World(choices, counts, traced=traced)
        self.weather = weather = Weather(seed, choices, counts)
        self.tesla = tesla = Tesla(world, weather)
        self.table = stage.table
        self.table.open(world, weather)
        self.redis = redis = Redis(world)
        self.full_until = dict.fromkeys(MACHINES, 0)
        self.ids = weather.ids
        self._stage = stage
        self._seed = seed
        self._keyring = stage.keyring
        self._pacing = Pacing(0.75, SWEEP_SECONDS, weather.pacing)
        self._life = lock_life(DEADLINE)
        self._client: Any = redis
        self._folders = stage.folders
        self._endpoint = stage.endpoint
        self._breaker: Any = Breaker(
            world, redis, weather.pacing, probe_life=self._life, always_open=weather.without_breaker
        )
        self._refreshers: dict[str, Refresher] = {}  # by process
        self._parts: Any = SimpleNamespace(
            database=self.table,
            redis=redis,
            breaker=self._breaker,
            settings=SimpleNamespace(
                sweep_seconds=SWEEP_SECONDS, refresh_rate=100, lanes=1, event_days=90, refreshed_days=7
            ),
        )
        self.promises = Promises(
            world,
            tesla=tesla,
            table=self.table,
            redis=redis,
            folders=stage.folders,
            keyring=stage.keyring,
            lock_life=self._life,
            hands=self._hands,
        )
        world.ended = self.promises.killed

    def _refresher(self, machine: str) -> Refresher:
        return Refresher(
            database=self.table,
            keyring=self._keyring,
            tesla=self._endpoint,
            locks=OwnerLocks(self._client, life=self._life),
            breaker=self._breaker,
            escrow=_Escrow(keyring=self._keyring, redis=self._client, folder=self._folders[machine]),
            pacing=self._pacing,
            attempt_deadline=DEADLINE,
            sleep=self.world.sleep,
            deadline=self.world.deadline,
        )

    # --- the steps --------------------------------------------------------------------------------

    def reached(self, step: Step, owner: str) -> None:
        """The protocol's listener."""
        actor = self.world.current
        if actor is None:
            return
        promises = self.promises
        match step:
            case Step.LOCKED:
                promises.passed_the_lock(actor, owner)
            case Step.DRAINED:
                promises.drained(actor, owner)
            case Step.UNLOCKED:
                promises.let_go(actor, owner)
            case _:
                pass
        self.world.pause(str(step))
        if step is Step.WRITTEN:
            promises.written(actor, owner)

    def _hands(self, actor: Actor | None) -> list[str]:
        """The refresh tokens that this thread's process keeps until they are safe, or all living ones do."""
        processes = dict.fromkeys(
            other.process
            for other in ([actor] if actor is not None else self.world.actors)
            if isinstance(other, Actor) and other.machine and (actor is not None or not other.dead)
        )
        return [
            unsettled.answer.refresh_token
            for process in processes
            for unsettled in self._refreshers[process]._unsettled.values()
            if not unsettled.safe
        ]

    # --- the actors -------------------------------------------------------------------------------

    def _work(self, actor: Actor) -> None:
        """A worker: takes a task, refreshes, takes the next."""
        while True:
            owner = self._take_task(actor)
            if owner is not None:
                self._refresh(actor, owner)

    def _take_task(self, actor: Actor) -> str | None:
        queue = self.redis.queue
        ready = [task for task in queue if task[0] <= self.world.ms]
        if ready and self.redis.up:
            queue.remove(ready[0])
            return ready[0][1]
        soonest = min((task[0] for task in queue), default=NEVER)
        self.world.pause("idle", until=max(soonest, self.redis.away_until if queue else 0))
        return None

    def _refresh(self, actor: Actor, owner: str, stale: int | None = None, wait: float = 0) -> None:
        actor.owner = owner
        try:
            outcome = self._refreshers[actor.process].refresh(owner, stale=stale, wait=wait)
        except SQLAlchemyError:
            self.world.counts["refresh: the table was away"] += 1
        else:
            self.world.counts[f"refresh: {outcome.result}"] += 1
        self.promises.returned(actor)
        actor.owner = ""

    def _sweep(self, actor: Actor) -> None:
        """A sweep every few seconds. Those that would find nothing are left out, which changes nothing."""
        while True:
            self.world.pause("idle", until=self._next_sweep(actor))
            if self._next_sweep(actor) > self.world.ms:
                continue
            actor.last = self.world.ms
            try:
                sweep(self._parts, self._send)
            except (SQLAlchemyError, RedisError):
                self.world.counts["a sweep failed"] += 1

    def _due(self) -> int:
        return min((row.due for row in self.promises.rows.values()), default=NEVER)

    def _next_sweep(self, actor: Actor) -> int:
        due = self._due() if self.redis.knows_its_epoch or not self.redis.up else 0
        return max(due, actor.last + int(SWEEP_SECONDS * 1000))

    def _send(self, owners: Iterable[str]) -> None:
        for owner in owners:
            self.redis.touch()
            fate = self.weather.task()
            if fate == "lost":
                continue
            later = (1, 500, 20_000)[self.world.choices.below(3)] if fate == "late" else 1
            self.redis.queue.append((self.world.ms + later, owner))
            if fate == "twice":
                self.redis.queue.append((self.world.ms + 1, owner))
        self._wake("worker")

    def _wake(self, kind: str) -> None:
        for actor in self.world.actors:
            if actor.kind == kind and actor.at == "idle":
                self.world.wake(actor)

    def _drain(self, actor: Actor) -> None:
        """The thread of a worker or of the web app that takes answers out of the escrow."""
        while True:
            self.world.pause("idle", until=NEVER)
            seconds = 1.0 if self.weather.over else self.weather.slow_drain
            self.world.sleep(seconds)
            try:
                self._refreshers[actor.process].drain_all()
            except SQLAlchemyError:
                self.world.counts["a drain failed"] += 1

    def _act(self, actor: Actor) -> None:
        """An owner signs in again, disconnects or erases."""
        owner, below = actor.name.partition("'")[0], self.world.choices.below
        for _ in range(self.weather.owner_acts):
            self._idle_until(1 + below(30))
            what = ("sign in", "sign in", "sign in", "disconnect", "erase")[below(5)]
            self.world.counts[f"owner: {what}"] += 1
            self.world.say(f"{actor} wants to {what}")
            if what == "sign in":
                self._sign_in(actor, owner)
                continue
            self.promises.intents[owner].append(what)
            try:
                if what == "erase":
                    consent.erase(self.table, owner)
                else:
                    consent.disconnect(self.table, owner, correlation_id="")
            except SQLAlchemyError:
                pass  # a page of apology
            self.promises.intents[owner].remove(what)
            if below(2):
                self._idle_until(1 + below(10))
                self._sign_in(actor, owner)

    def _idle_until(self, seconds: int) -> None:
        if not self.weather.over:
            self.world.pause("idle", until=self.world.ms + seconds * 1000)

    def _sign_in(self, actor: Actor, owner: str) -> None:
        """As `web.signin` does it."""
        deadline = self.world.deadline(DEADLINE)
        self.world.pause("coming back")
        said = self.world.ms
        if said < self.table.away_until:
            return  # a page of apology
        self.world.pause("exchanging")
        if deadline.passed:
            return
        token = self.tesla.sign_in(owner, said)
        signin = self._brought(owner, token)
        self.promises.signed_in(actor, token, signin.correlation_id)
        self.world.pause("signed in")
        stored = self._refreshers[actor.process].keep_signin(signin, patience=STORE_SECONDS)
        self.world.counts["a sign-in is in the escrow"] += not stored
        self.promises.returned(actor)

    def _brought(self, owner: str, token: Token) -> SignIn:
        """What a sign-in brought."""
        return SignIn(
            owner=owner,
            access_token=ACCESS_MARK + "0",
            refresh_token=token.text,
            expires_in=self.weather.token_life,
            due_in=self._pacing.due_after(self.weather.token_life),
            requested_scopes="",
            scopes="",
            region="NA",
            fleet_url="",
            correlation_id=f"sign-in {token.number}",
            said_at=self.world.moment(token.family.said).replace(tzinfo=UTC),
        )

    def _click(self, actor: Actor) -> None:
        """Somebody on the owner's page wants a fresh token now."""
        owner, below = actor.name.removeprefix("page of "), self.world.choices.below
        for _ in range(self.weather.owner_clicks):
            self._idle_until(1 + below(30))
            try:
                with self.table.read() as connection:
                    grant = grants.read(connection, owner)
            except SQLAlchemyError:
                continue
            if grant is not None:
                self._refresh(actor, owner, grant.generation, (0, 0, 0, 0, 2, 2, 2, 20)[below(8)])

    def _pause(self, actor: Actor) -> None:
        """The operator pauses an owner's grant, and resumes it some time later."""
        below = self.world.choices.below
        for _ in range(self.weather.operator_acts):
            self._idle_until(1 + below(20))
            owner = OWNERS[below(2)]
            self.world.say(f"the operator pauses {owner}")
            with suppress(SQLAlchemyError):
                paused = pausing.pause(self.table, owner, correlation_id="")
                self.world.counts[f"operator: {'pauses' if paused else 'has nothing to pause'}"] += 1
            self._idle_until(1 + below(MOST))
            self.world.say(f"the operator resumes {owner}")
            while True:
                try:
                    pausing.resume(self.table, owner, due_after=self._pacing.due_after, correlation_id="")
                except SQLAlchemyError:
                    self.world.sleep(1)
                else:
                    break

    def _ask_until_it_is_clear(self, actor: Actor) -> None:
        """Somebody who holds the grant's newest generation wants the next one, and does not give up."""
        owner = actor.owner = actor.name
        stale = self.promises.rows[owner].generation
        for _ in range(20):
            outcome = self._refreshers[actor.process].refresh(owner, stale=stale)
            self.promises.returned(actor)
            if outcome.result not in {Result.WAITING, Result.IN_FLIGHT, Result.OPERATOR_MUST_ACT}:
                return
            self.world.sleep((outcome.retry_in or 5) + 0.5)

    # --- what befalls them ------------------------------------------------------------------------

    def _befall(self, event: str) -> None:
        world, weather = self.world, self.weather
        match event:
            case "wipe":
                self.promises.wipe_redis()
                self.promises.changed = True  # the next sweep notices
            case "redis away":
                self.redis.go_away(weather.outage_seconds())
            case "table away":
                self.table.away_until = world.ms + int(weather.outage_seconds() * 1000)
            case "disk full":
                machine = MACHINES[world.choices.below(2)]
                self.full_until[machine] = world.ms + int(weather.outage_seconds() * 1000)
            case "jump":
                world.ms += int(weather.stop_seconds() * 1000)
            case "withdraw":
                self.tesla.withdraw(OWNERS[world.choices.below(2)])
        world.say(event)

    def _start(self, kind: str, name: str, machine: str, wake: int = 0) -> None:
        """Starts a process."""
        threads = {
            "worker": {"worker": self._work, "drain": self._drain},
            "sweep": {"sweep": self._sweep},
            "owner": {"owner": self._act, "drain": self._drain},
            "page": {"page": self._click, "drain": self._drain},
            "operator": {"operator": self._pause},
            "prover": {"prover": self._ask_until_it_is_clear},
        }[kind]
        if machine:
            self._refreshers[name] = self._refresher(machine)
        for thread, run in threads.items():
            actor = Actor(name if thread == kind else f"{thread} of {name}", thread, name, machine, run)
            actor.wake = wake
            actor.program = kind
            self.world.actors.append(actor)

    def _process_of(self, actor: Actor) -> list[Actor]:
        """All its threads that live."""
        return [
            other
            for other in self.world.actors
            if isinstance(other, Actor) and other.process == actor.process and not other.done
        ]

    def _gone(self, actor: Turns) -> None:
        """It has ended. If it was killed, so are its process's other threads; and what the process manager
        watches is started again."""
        self.world.actors.remove(actor)
        if not isinstance(actor, Actor):
            return
        self.promises.gone(actor)
        if not actor.dead:
            return
        for other in self._process_of(actor):
            self.world.kill(other)
            self.world.actors.remove(other)
            self.promises.gone(other)
        if actor.program in {"worker", "sweep"}:
            self._start(actor.program, actor.process, actor.machine, self.world.ms + 2000)

    # --- the play ---------------------------------------------------------------------------------

    def play(self) -> None:
        """Raises `BrokenPromise`."""
        world, weather, promises = self.world, self.weather, self.promises
        self._first_sign_ins()
        for name, machine in (("worker 1", "A"), ("worker 2", "A"), ("worker 3", "B")):
            self._start("worker", name, machine)
        self._start("sweep", "sweep 1", "A")
        if weather.two_sweeps:
            self._start("sweep", "sweep 2", "B")
        for owner in OWNERS:
            if weather.owner_acts:
                self._start("owner", owner, "AB"[world.choices.below(2)])
                if weather.two_tabs:
                    self._start("owner", f"{owner}'s other tab", "AB"[world.choices.below(2)])
            if weather.owner_clicks:
                self._start("page", f"page of {owner}", "AB"[world.choices.below(2)])
        if weather.operator_acts:
            self._start("operator", "operator", "")
        while world.tick < weather.ticks and self._turn():
            pass
        self._calm()
        self._prove()
        promises.look_for_plain_in_the_table()
        world.counts.update({f"event: {kind}": number for kind, number in self.table.events()})
        if world.broken is not None:
            raise world.broken

    def _first_sign_ins(self) -> None:
        """All schedules begin alike: the rows are made once, by the product, and copied."""
        stage, promises = self._stage, self.promises
        for owner in OWNERS:
            token = self.tesla.sign_in(owner, 0)
            signin = self._brought(owner, token)
            promises.signed_in(None, token, signin.correlation_id)
            if owner not in stage.first_rows:
                signin.store(self.table, self._keyring)
                stage.first_rows[owner] = self.table.row(owner)
                self.table.forget_events()
            self.table.put(
                stage.first_rows[owner],
                access_expires_at=self.world.text(self.weather.token_life),
                refresh_at=self.world.text(1 + 4 * self.weather.pacing.random()),
            )
        promises.committed()

    def _turn(self) -> bool:
        """One turn; False when nobody has anything to do any more."""
        world, weather = self.world, self.weather
        event = weather.event()
        if event:
            self._befall(event)
        actor = world.choose()
        if actor is None:
            return False
        if (
            isinstance(actor, Actor)
            and actor.at not in {"idle", "start"}
            and (actor.kind != "sweep" or weather.sweeps_struck)
        ):
            strike = weather.strike(actor.at)
            if strike == "kill" and actor.kind in {"owner", "operator"}:
                strike = "stop"  # who wants something and is killed would only do it again
            if strike == "stop":
                seconds = weather.stop_seconds()
                for thread in self._process_of(actor):
                    world.freeze(thread, seconds)
                return True
            if strike == "kill":
                world.kill(actor)
                self._gone(actor)
                return True
        world.turn(actor)
        if actor.done:
            self._gone(actor)
        self._follow()
        return True

    def _follow(self) -> None:
        """What hangs on the table and the escrow as they are now."""
        promises, world = self.promises, self.world
        if promises.has_files:
            promises.files_written()
        if promises.changed:
            promises.changed = False
            for actor in world.actors:
                if isinstance(actor, Actor) and actor.kind == "sweep" and actor.at == "idle":
                    actor.wake = max(actor.frozen, self._next_sweep(actor))
        for actor in world.actors:
            if (
                isinstance(actor, Actor)
                and actor.kind == "drain"
                and actor.at == "idle"
                and (promises.in_reach(actor.machine) or self._refreshers[actor.process]._unsettled)
            ):
                world.wake(actor)

    def _calm(self) -> None:
        """Nothing breaks any more: everything comes to rest, by itself."""
        world = self.world
        self.weather.over = True
        self.redis.away_until = self.table.away_until = 0
        self.full_until = dict.fromkeys(MACHINES, 0)
        world.say("calm")
        for _ in range(LONGEST_CALM):
            if self._rests() or not self._turn():
                return
        world.breaks(8, "it does not come to rest")

    def _rests(self) -> bool:
        return (
            not self.redis.queue
            and not self._hands(None)
            and self.promises.escrow_is_empty
            and all(
                actor.at == "idle" and actor.kind not in {"owner", "page", "operator"}
                for actor in self.world.actors
            )
        )

    def _prove(self) -> None:
        """Whoever can be alive is: the real refresher gets new tokens for them.

        Most grants whose row is as after any refresh that went well are only compared with Tesla's records.
        """
        world, promises = self.world, self.promises
        world.retire()
        for owner, row in promises.rows.items():
            if row.state == State.DISCONNECTED:
                continue
            usable = promises.usable(owner)
            good = row.state == State.ALIVE and row.current is not None and self.tesla.accepts(row.current)
            if not (good and row.quiet) or self._seed % 8 == 0:
                self._start("prover", owner, "A")
                while self._turn():
                    pass
            after = promises.rows[owner]
            if usable:
                if (
                    after.state != State.ALIVE
                    or after.current is None
                    or not self.tesla.accepts(after.current)
                ):
                    world.breaks(1, f"{owner} is not alive in the end, and could be: {after.state}")
            elif after.state != State.NEEDS_CONSENT:
                world.breaks(4, f"{owner} has no token that Tesla accepts, and is called {after.state}")
