"""Carries a plan out against a running product, and keeps count of what struck."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests
from redis.exceptions import RedisError
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from models.crypto import Keyring
from models.grants import grants
from models.session import now
from tests.chaos import plan as kinds
from tests.chaos.ledger import open_both
from tests.chaos.orders import KILL, STOP
from tests.chaos.processes import Child, wait_for
from workers.refresh import lock_life
from workers.steps import Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.orders import Order
    from tests.chaos.plan import Act
    from tests.chaos.product import Product
    from tests.chaos.signin import Browser
    from tests.chaos.watch import Watch

TICK = 0.1
LOOK_SECONDS = 1.0
TESLA_AT_ONCE = 2
"""So many of Tesla's faults that strike whoever comes next are about at the same time."""

ORDERS_AT_ONCE = 3

HEALTHY_SECONDS = 5.0
"""How long a server is left alone after it came back: else there would be little left to strike."""

BURST_SECONDS = 1.2
"""How long a fault that stands everything still is about."""

BETWEEN_BURSTS = 12.0
"""How long nothing of that kind comes then: the breaker closes, and calls are under way to be struck."""


@dataclass
class Outage:
    """From when to when (monotonic, s) something was away; `what` is a kind of the plan's."""

    what: str
    start: float
    end: float = float("inf")


@dataclass
class Tally:
    """What struck how often, and what else the judge wants to know of the storm."""

    struck: Counter[str] = field(default_factory=Counter)
    given: Counter[str] = field(default_factory=Counter)
    outages: list[Outage] = field(default_factory=list)
    stops: list[tuple[int, float, float]] = field(default_factory=list)  # process id, from, to
    withdrawn: set[str] = field(default_factory=set)
    lied_to: set[str] = field(default_factory=set)  # of whose good refresh token Tesla said that it is spent
    clicks: Counter[str] = field(default_factory=Counter)  # what came of the presses of a button
    signed_in: dict[str, bool] = field(default_factory=dict)  # who did again: whether they were told so


class Storm:
    """One storm. `run` returns when its time is over and fair weather has been made."""

    def __init__(
        self,
        product: Product,
        acts: list[Act],
        browsers: list[Browser],
        watch: Watch,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.tally = Tally()
        self._product = product
        self._acts = sorted(acts)
        self._browsers = browsers
        self._watch = watch
        self._say = say
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._busy: set[str] = set()
        self._rules: dict[int, tuple[str, dict[str, Any]]] = {}  # in force, as far as we know
        self._stop_seconds = lock_life(product.options.attempt_deadline) + 3
        self._again: list[Act] = []  # have to strike again, or later
        self._burst_after = 0.0
        self._ordered: list[tuple[Order, Act]] = []
        self._bursts = {act.kind for act in acts if "often" in act.parameters}
        self._sides: dict[str, tuple[str | None, str | None]] = {}  # the lied to: Tesla's side at that time
        self._keyring = Keyring.parse(product.keys)
        self._last_look = 0.0
        self._clicks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()

    def run(self, seconds: float) -> None:
        """Lasts `seconds`, or longer (`plan.LONGEST`). Raises TimeoutError when the servers can't be brought
        back afterwards."""
        clickers = [threading.Thread(target=self._click, daemon=True) for _ in range(3)]
        for clicker in clickers:
            clicker.start()
        start = time.monotonic()
        said = 0
        waiting = list(self._acts)
        while (passed := time.monotonic() - start) < seconds or (
            seconds >= kinds.FULL and passed < kinds.LONGEST * seconds and self._has_more(waiting)
        ):
            waiting += self._again
            self._again.clear()
            for act in [act for act in waiting if act.at <= passed]:
                if self._begin(act):
                    waiting.remove(act)
            self.tick()
            if passed // 10 > said:
                said = int(passed // 10)
                self._progress(passed, seconds)
            time.sleep(TICK)
        for _ in clickers:
            self._clicks.put(None)
        self._clear()
        for clicker in clickers:
            clicker.join(40)

    def _has_more(self, waiting: list[Act]) -> bool:
        """Whether there is anything left to strike with."""
        return bool(waiting or self._again or self._rules or self._busy or self._product.orders.waiting)

    def tick(self) -> None:
        """What has to be done all the time."""
        now_ = time.monotonic()
        for entry in [entry for entry in self._later if entry[0] <= now_]:
            self._later.remove(entry)
            entry[1]()
        self._tend_the_stopped(now_)
        self._product.tend()
        if now_ - self._last_look >= LOOK_SECONDS:
            self._last_look = now_
            self._watch.look(self._product.clock_offset)
            self.count_rules()
            self._spare_the_probes()
        self._withdraw_lies()

    # --- acts -------------------------------------------------------------------------------------

    def _begin(self, act: Act) -> bool:
        """False when it has to wait, because what it would strike is struck already."""
        given = act.parameters
        product = self._product
        kind = act.kind
        if kind in kinds.KILL_AT.values():
            if not self._orders_may_come():
                return False
            self._ordered.append((product.orders.give(given["step"], KILL), act))
        elif kind == kinds.KILL_ANYWHERE:
            self._struck(kind, _one(product.workers, given["worker"]).send(signal.SIGKILL))
        elif kind == kinds.KILL_BEAT:
            self._struck(kind, _one(product.beats, given["beat"]).send(signal.SIGKILL))
        elif kind == kinds.STOP:
            if given["step"] and not self._orders_may_come():
                return False
            self._stop(act)
        elif kind in {kinds.VALKEY_KILL, kinds.VALKEY_WIPE, kinds.VALKEY_FLUSH}:
            return self._strike_valkey(kind, given)
        elif kind in kinds.SQL_AWAY:
            return self._strike_sql(act)
        elif kind == kinds.CLOCK:
            machine = product.machines[given["machine"] % len(product.machines)]
            if machine.clock is not None:
                machine.clock.jump(given["to"] if "to" in given else machine.clock.offset + given["by"])
                self._struck(kind)
        elif kind == kinds.CLICK:
            self._clicks.put(self._browsers[int(given["owner"])].refresh)
            self._struck(kind)
        elif kind == kinds.WITHDRAW:
            owner = self._browsers[given["owner"]].owner
            requests.post(f"{product.sandbox_url}/owners/{owner}/withdraw", timeout=10)
            self.tally.withdrawn.add(owner)
            self._struck(kind)
        else:
            return self._strike_tesla(act)
        self.tally.given[kind] += 1
        return True

    def _struck(self, kind: str, did: bool = True) -> None:
        self.tally.struck[kind] += did

    def _in(self, seconds: float, what: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, what))

    def _outage(self, kind: str) -> Outage:
        outage = Outage(kind, time.monotonic())
        self.tally.outages.append(outage)
        return outage

    # --- workers that stand still -----------------------------------------------------------------

    def _stop(self, act: Act) -> None:
        if step := act.parameters["step"]:
            self._ordered.append((self._product.orders.give(step, STOP), act))
        else:
            _one(self._product.workers, act.parameters["worker"]).send(signal.SIGSTOP)

    def _tend_the_stopped(self, now_: float) -> None:
        for worker in self._product.workers:
            if worker.stopped_since is None:
                if worker.alive and worker.is_stopped:
                    worker.stopped_since = now_
                continue
            if now_ - worker.stopped_since >= self._stop_seconds:
                self.tally.stops.append((worker.pid or 0, worker.stopped_since - 1, now_ + 1))
                worker.stopped_since = None
                self._struck(kinds.STOP, worker.send(signal.SIGCONT))

    # --- Valkey -----------------------------------------------------------------------------------

    def _strike_valkey(self, kind: str, given: dict[str, Any]) -> bool:
        valkey = self._product.valkey
        if "valkey" in self._busy or ("escrow" in self._busy and kind != kinds.VALKEY_KILL):
            return False
        self.tally.given[kind] += 1
        if kind == kinds.VALKEY_FLUSH:
            self._struck(kind, valkey.flush())
            return True
        self._valkey_away(kind, given["seconds"], without_data=kind == kinds.VALKEY_WIPE)
        return True

    def _valkey_away(self, kind: str, seconds: float, *, without_data: bool) -> None:
        self._busy.add("valkey")
        outage = self._outage(kind)
        self._product.valkey.kill()

        def back() -> None:
            if self._product.valkey.process.alive:
                self._in(0.1, back)  # it takes a moment to die
                return
            self._product.valkey.start(without_data=without_data)
            self._struck(kind)
            outage.end = time.monotonic() + 0.5
            self._in(HEALTHY_SECONDS, lambda: self._busy.discard("valkey"))

        self._in(seconds, back)

    # --- SQL --------------------------------------------------------------------------------------

    def _strike_sql(self, act: Act) -> bool:
        kind, given = act.kind, act.parameters
        if "sql" in self._busy or (kind == kinds.FULL_ESCROW and self._busy):
            return False
        self.tally.given[kind] += 1
        self._busy.add("sql")
        # An answer is to arrive while SQL is away: Tesla takes its time with some calls, and when one of them
        # is under way SQL goes.
        waited_for = [
            self._product.fault(grant="refresh_token", fault="slow", where="after", seconds=2, count=4)
        ]
        patience = time.monotonic() + 3

        def when_under_way() -> None:
            nonlocal patience
            if not self._has_struck(*waited_for) and time.monotonic() < patience:
                self._in(0.1, when_under_way)
            elif "owner" in given and len(waited_for) == 1 and not self._product.web_is_behind:
                waited_for.append(self._sign_in(self._browsers[int(given["owner"])]))
                patience = time.monotonic() + 1.5
                self._in(0.05, when_under_way)
            elif not self._sql_away(act):
                self._in(0.05, when_under_way)

        self._in(0.1, when_under_way)
        return True

    def _has_struck(self, *numbers: int) -> bool:
        rules = requests.get(f"{self._product.sandbox_url}/faults", timeout=10).json()["rules"]
        return all(rule["struck"] for rule in rules if rule["id"] in numbers)

    def _sql_away(self, act: Act) -> bool:
        """False when it can't be done at this moment."""
        kind, given = act.kind, act.parameters
        outage = self._outage(kind)
        if kind in {kinds.STOP_FAST, kinds.STOP_IMMEDIATE}:
            postgresql = self._product.postgresql
            assert postgresql is not None
            postgresql.stop(immediate=kind == kinds.STOP_IMMEDIATE)

            def back() -> None:
                if postgresql.process.alive:
                    self._in(0.1, back)
                    return
                postgresql.start()
                self._struck(kind)
                outage.end = time.monotonic() + 1
                self._in(1 + HEALTHY_SECONDS, lambda: self._busy.discard("sql"))

            self._in(given["seconds"], back)
            return True
        if not self._refuse(refuse=True):
            self.tally.outages.remove(outage)
            return False
        order = self._product.orders.give(Step.ESCROWED.value, KILL) if given.get("kill") else None
        if kind == kinds.FULL_ESCROW:
            self._busy.add("escrow")
            for machine in self._product.machines:
                machine.quota.fill()
            if given["valkey_away"]:
                self._valkey_away(kinds.FULL_ESCROW_ALONE, given["seconds"] - 0.5, without_data=False)

        def accept() -> None:
            self._refuse(refuse=False)
            for machine in self._product.machines:
                machine.quota.free()
            self._struck(kind)
            if kind == kinds.FULL_ESCROW:
                self._struck(kinds.REFUSE)
            if order is not None:
                if self._product.orders.withdraw(order):
                    self._again.append(act)  # nobody came there
                else:
                    self.tally.given[kinds.KILL_AT[Step.ESCROWED]] += 1
            outage.end = time.monotonic() + 0.5
            self._in(HEALTHY_SECONDS, lambda: self._busy.discard("sql"))
            # Every worker drains what lies in Valkey alone once a second.
            self._in(4, lambda: self._busy.discard("escrow"))

        self._in(given["seconds"], accept)
        return True

    def _refuse(self, *, refuse: bool) -> bool:
        if self._product.postgresql:
            self._product.postgresql.refuse_writes(refuse=refuse)
            return True
        assert self._product.sqlite is not None
        return self._product.sqlite.refuse_writes(refuse=refuse)

    # --- Tesla ------------------------------------------------------------------------------------

    def _strike_tesla(self, act: Act) -> bool:
        kind, given = act.kind, act.parameters
        rule = {
            name: value for name, value in given.items() if name not in {"owner", "parity", "for", "often"}
        }
        if "for" not in given and not self._tesla_is_well(alone="often" in given):
            return False
        if "often" in given and (
            time.monotonic() < self._burst_after
            or any(outage.end > time.monotonic() for outage in self.tally.outages)
        ):
            return False
        if "owner" in given:
            owner = self._holder_of_another(int(given["owner"]) // 2 * 2 + given["parity"])
            if owner is None:
                return False  # SQL is away: later
            rule |= {"owner": owner, "count": 1}
        number = self._product.fault(grant="refresh_token", **rule)
        self._rules[number] = (kind, rule)
        self.tally.given[kind] += 1
        if "for" in given or "often" in given:

            def over() -> None:
                self._clear_rule(number)
                self._rules.pop(number, None)
                self._burst_after = time.monotonic() + BETWEEN_BURSTS
                if self.tally.struck[kind] < given.get("often", 0):
                    self.tally.given[kind] -= 1
                    self._again.append(act)

            self._in(given.get("for", BURST_SECONDS), over)
        return True

    def _tesla_is_well(self, *, alone: bool) -> bool:
        """Whether a fault would strike more than a probe; `alone`: and no other is about."""
        about = sum("owner" not in rule for _, rule in self._rules.values())
        if about >= (1 if alone else TESLA_AT_ONCE) or any(
            kind in self._bursts for kind, _ in self._rules.values()
        ):
            return False
        return self._breaker_is_closed()

    def _breaker_is_closed(self) -> bool:
        try:
            return not self._product.valkey.client.exists("evergrant:breaker")
        except RedisError:
            return False

    def _spare_the_probes(self) -> None:
        """Takes orders back that a probe would carry out, and gives them again later."""
        if not self._ordered or self._breaker_is_closed():
            return
        for order, act in self._ordered:
            if self._product.orders.withdraw(order):
                self.tally.given[act.kind] -= 1
                self._again.append(act)
        self._ordered.clear()

    def _orders_may_come(self) -> bool:
        """Not while only probes go through, or each of them would be killed; and not many at once."""
        return self._product.orders.waiting < ORDERS_AT_ONCE and self._breaker_is_closed()

    def _holder_of_another(self, index: int) -> str | None:
        """The owner of that index or of the next ones who holds two refresh tokens that Tesla would take: the
        one that it issued last, and the one that was presented for it."""
        steps = range(0, len(self._browsers), 2)
        aimed_at = {rule.get("owner") for _, rule in self._rules.values()}
        held = self._held()
        for browser in (self._browsers[(index + step) % len(self._browsers)] for step in steps):
            owner = browser.owner
            if owner in held and owner not in self.tally.withdrawn | aimed_at:
                side = self._product.tesla_side(owner)
                if side == held[owner]:
                    self._sides[owner] = side
                    return owner
        return None

    def _held(self) -> dict[str, tuple[str, str]]:
        """Owner to the hashes of the current and the previous refresh token, where both are held and nothing
        is under way; nobody while SQL is away."""
        query = select(grants).where(
            grants.c.previous_refresh_token.is_not(None),
            grants.c.previous_until > now(60),
            grants.c.attempt_id.is_(None),
            grants.c.retry_at.is_(None),
        )
        try:
            with self._product.database.read() as connection:
                return {row.owner: open_both(self._keyring, row) for row in connection.execute(query)}
        except SQLAlchemyError:
            return {}

    def _withdraw_lies(self) -> None:
        """Takes a lie back as soon as anything happens to its owner's tokens: the older may be worth nothing
        then."""
        for number, (kind, rule) in list(self._rules.items()):
            owner = rule.get("owner", "")
            if rule["fault"] in kinds.LYING and self._product.tesla_side(owner) != self._sides[owner]:
                self._clear_rule(number)
                if number in self._rules:  # it has not struck
                    del self._rules[number]
                    self.tally.given[kind] -= 1

    def _clear_rule(self, number: int) -> None:
        self.count_rules()
        requests.post(f"{self._product.sandbox_url}/faults/clear", data={"rule": number}, timeout=10)

    def count_rules(self) -> None:
        """Brings the count of what Tesla's faults struck up to date."""
        answer = requests.get(f"{self._product.sandbox_url}/faults", timeout=10).json()
        in_force = {rule["id"]: rule["struck"] for rule in answer["rules"]}
        for number, (kind, rule) in list(self._rules.items()):
            struck = in_force.get(number, rule.get("count", 0))
            self.tally.struck[kind] += struck - rule.get("counted", 0)
            rule["counted"] = struck
            if number not in in_force:
                del self._rules[number]
                if rule["fault"] in kinds.LYING:
                    self.tally.lied_to.add(rule["owner"])

    # --- owners -----------------------------------------------------------------------------------

    def _click(self) -> None:
        while (press := self._clicks.get()) is not None:
            try:
                press()
            except (requests.RequestException, AssertionError) as error:
                self.tally.clicks[type(error).__name__] += 1
            else:
                self.tally.clicks["answered"] += 1

    def _sign_in(self, browser: Browser) -> int:
        """The owner signs in again, and the exchange takes a while; returns the number of the rule."""
        # SQLite's file can't be locked before its writers have done.
        seconds = 1.0 if self._product.postgresql else 2.0
        number = self._product.fault(
            grant="authorization_code", fault="slow", where="after", seconds=seconds, count=1
        )
        self.tally.given[kinds.SIGN_IN] += 1

        def sign_in() -> None:
            begun = time.monotonic()
            self.tally.signed_in[browser.owner] = False
            try:
                browser.sign_in()
                self.tally.signed_in[browser.owner] = True
            finally:
                away = any(
                    outage.what in kinds.SQL_AWAY and begun < outage.start for outage in self.tally.outages
                )
                self._struck(kinds.SIGN_IN, away)

        self._clicks.put(sign_in)
        return number

    # --- afterwards -------------------------------------------------------------------------------

    def _clear(self) -> None:
        """Fair weather: whatever is away comes back, whatever stands still goes on."""
        self.count_rules()
        self._product.clear_faults()
        self._product.orders.withdraw_all()
        wait_for("what was struck last", lambda: not self._later, 40, self.tick)
        for worker in self._product.workers:
            if worker.is_stopped:
                worker.send(signal.SIGCONT)
                self._struck(kinds.STOP, worker.stopped_since is not None)
                self.tally.stops.append(
                    (worker.pid or 0, (worker.stopped_since or 0) - 1, time.monotonic() + 1)
                )
            worker.stopped_since = None
        if self._product.postgresql:
            for machine in self._product.machines:
                if machine.clock:
                    machine.clock.jump(0)
        wait_for("Valkey", self._product.valkey.answers, 30, self.tick)
        if self._product.postgresql:
            wait_for("PostgreSQL", self._product.postgresql.answers, 60, self.tick)

    def _progress(self, passed: float, seconds: float) -> None:
        self.count_rules()
        totals = self._product.record()["totals"]
        alive = sum(worker.alive and worker.stopped_since is None for worker in self._product.workers)
        self._say(
            f"{passed:5.0f}/{seconds:.0f} s  {alive} workers up, {totals['calls']} calls, "
            f"{totals['rotations']} rotations, {sum(self.tally.struck.values())} strikes, "
            f"{totals['overlaps_live']} overlaps, {totals['superseded_presented']} superseded, "
            f"{len(self._watch.without_now())} owners without a valid access token"
        )


def _one(children: list[Child], number: float) -> Child:
    return children[int(number) % len(children)]
