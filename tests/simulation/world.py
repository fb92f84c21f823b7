"""Virtual time, and the scheduler: it decides at every pause who goes on, and who never does."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from greenlet import greenlet  # type: ignore[import-untyped]

from fleet.deadline import Deadline, DeadlinePassed

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from tests.simulation.choices import Choices

NEVER = 1 << 60
_EPOCH = datetime(2030, 1, 1)  # noqa: DTZ001 - SQLite's text carries no zone


class Killed(BaseException):
    """Thrown into whoever was killed, so that the stack goes away. No effect of its way out counts: what
    stands around the product raises it again from every call of the dead."""


class BrokenPromise(Exception):
    """`number` is the promise's, `words` say how it broke."""

    def __init__(self, number: int, words: str) -> None:
        super().__init__(f"promise {number}: {words}")
        self.number = number
        self.words = words


class Turns:
    """Whatever the scheduler gives turns to."""

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.wake = 0  # not before: milliseconds
        self.frozen = 0  # stopped until: milliseconds
        self.at = "start"  # the place where it pauses
        self.owner = ""  # whom it is at work for
        self.dead = False
        self.done = False

    def step(self) -> None:
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.name


class Actor(Turns):
    """A thread of `process` on `machine` ("" for whoever is on none)."""

    def __init__(
        self, name: str, kind: str, process: str, machine: str, run: Callable[[Actor], None]
    ) -> None:
        super().__init__(name, kind)
        self.process = process
        self.program = kind  # what the process is there for
        self.machine = machine
        self.last = -NEVER  # when it last did what it does from time to time: milliseconds
        self.memory: object = None  # the refresh token that it holds and that is nowhere durable yet
        self._run = run
        self._greenlet: greenlet | None = None

    def _body(self) -> None:
        try:
            self._run(self)
        except Killed:
            self.dead = True
        self.done = True

    def step(self) -> None:
        """Lets it run to its next pause."""
        if self._greenlet is None:
            self._greenlet = greenlet(self._body)
        self._greenlet.switch()

    def end(self) -> None:
        """Clears its stack away."""
        self.dead = True
        if self._greenlet is not None and not self._greenlet.dead:
            self._greenlet.throw(Killed)
        self.done = True


class World:
    """Time is in whole milliseconds; a tick is one turn of one actor."""

    def __init__(self, choices: Choices, counts: Counter[str], *, traced: bool) -> None:
        self.choices = choices
        self.counts = counts
        self.ms = 0
        self.tick = 0
        self.actors: list[Turns] = []
        self.current: Actor | None = None
        self.broken: BrokenPromise | None = None
        self.trace: list[str] | None = [] if traced else None
        self.ended: Callable[[Actor], None] = lambda _actor: None
        self._last: Turns | None = None
        self._abandoned: list[Turns] = []
        self._main = greenlet.getcurrent()

    # --- for whoever runs in it --------------------------------------------------------------------

    def pause(self, place: str, *, until: int = 0) -> None:
        """The current actor stops here, at least until then. Nothing when the scheduler itself calls."""
        actor = self.current
        if actor is None:
            return
        if actor.dead:
            raise Killed
        actor.at = place
        actor.wake = max(until, actor.frozen)
        self._main.switch()
        if actor.dead:
            raise Killed

    def check(self) -> None:
        """Raises Killed in the dead."""
        if self.current is not None and self.current.dead:
            raise Killed

    def sleep(self, seconds: float) -> None:
        self.pause("asleep", until=self.ms + int(seconds * 1000) + 1)

    def deadline(self, seconds: float) -> Deadline:
        return VirtualDeadline(self, seconds)

    def die(self) -> None:
        """The current actor is killed where it stands. Always raises."""
        assert self.current is not None
        self.say(f"{self.current} is killed")
        self._mark_dead(self.current)
        raise Killed

    def breaks(self, number: int, words: str) -> None:
        """A promise is broken; the schedule ends at the next pause."""
        if self.broken is None:
            self.broken = BrokenPromise(number, words)
            self.say(f"BROKEN {self.broken}")

    def say(self, words: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.ms / 1000:10.3f}  {words}")

    def text(self, plus: float = 0.0) -> str:
        """Now as SQLite stores it."""
        return self.moment(self.ms + round(plus * 1000)).isoformat(" ", "microseconds")

    def moment(self, ms: int) -> datetime:
        return _EPOCH + timedelta(milliseconds=ms)

    # --- for the scheduler -------------------------------------------------------------------------

    def kill(self, actor: Actor) -> None:
        self.say(f"{actor} is killed at {actor.at}")
        self._mark_dead(actor)
        # Its half-written file stays, as it would.
        if actor.at == "fsync":
            self._abandoned.append(actor)
        else:
            self._end(actor)
        actor.done = True

    def _mark_dead(self, actor: Actor) -> None:
        actor.dead = True
        self.ended(actor)

    def _end(self, actor: Actor) -> None:
        outer, self.current = self.current, actor
        actor.end()
        self.current = outer

    def freeze(self, actor: Turns, seconds: float) -> None:
        self.say(f"{actor} is stopped at {actor.at} for {seconds:g} s")
        actor.frozen = self.ms + int(seconds * 1000)
        actor.wake = max(actor.wake, actor.frozen)

    def wake(self, actor: Turns) -> None:
        """What it waits for has come."""
        actor.wake = max(self.ms, actor.frozen)

    def choose(self) -> Turns | None:
        """Whose turn it is; goes on to when somebody's is. None when nobody will ever do anything again."""
        ready = [actor for actor in self.actors if actor.wake <= self.ms]
        if not ready:
            soonest = min((actor.wake for actor in self.actors), default=NEVER)
            if soonest >= NEVER:
                return None
            self.ms = soonest
            ready = [actor for actor in self.actors if actor.wake <= self.ms]
        last = self._last
        if last in ready and ready[0] is not last:
            ready.remove(last)
            ready.insert(0, last)
        chosen = ready[0]
        if len(ready) > 1 and (last is not chosen or self.choices.chance(0.4)):
            chosen = ready[self.choices.below(len(ready))]
        return chosen

    def turn(self, actor: Turns) -> None:
        """One turn of this actor. Raises `BrokenPromise`."""
        self.ms += 1
        self.tick += 1
        self._last = actor
        self.current = actor if isinstance(actor, Actor) else None
        actor.step()
        self.current = None
        if self.trace is not None and not actor.done and actor.at != "idle":
            self.say(f"{actor} at {actor.at}" + (f" for {actor.owner}" if actor.owner else ""))
        if self.broken is not None:
            raise self.broken

    def retire(self) -> None:
        """Nobody has a turn any more."""
        self._abandoned += self.actors
        self.actors.clear()

    def clear(self) -> None:
        """Ends everybody."""
        self.current = None
        actors = [actor for actor in (*self.actors, *self._abandoned) if isinstance(actor, Actor)]
        for actor in actors:
            actor.dead = True
        for actor in actors:
            self._end(actor)
        self.actors.clear()


class VirtualDeadline(Deadline):
    """`fleet.deadline.Deadline` on the world's clock."""

    __slots__ = ("_world", "end")

    def __init__(self, world: World, seconds: float) -> None:
        self._world = world
        self.end = world.ms + int(seconds * 1000)

    @property
    def remaining(self) -> float:
        return max(0.0, (self.end - self._world.ms) / 1000)

    @property
    def passed(self) -> bool:
        return self._world.ms >= self.end

    def check(self) -> None:
        if self.passed:
            raise DeadlinePassed
