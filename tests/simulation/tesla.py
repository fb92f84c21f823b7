"""A small Tesla: families of refresh tokens and their rotation, and calls that take time and get lost.

Its rules are those of `sandbox.tesla`, which says where each comes from. What Tesla does not document is a
reading, chosen for each schedule. It stands in place of `fleet.transport.call`, so that answers go through
the product's own `fleet.tokens` and `fleet.errors`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from requests.structures import CaseInsensitiveDict

from fleet.transport import Answer, NotSent, OutcomeUnknown
from tests.simulation.world import NEVER, Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.simulation.weather import Weather
    from tests.simulation.world import Actor, VirtualDeadline, World

GRACE = 24 * 3600 * 1000
"""Milliseconds that the most recently used refresh token stays usable (Tesla's FAQ)."""

REFRESH_MARK = "plain-refresh-"
ACCESS_MARK = "plain-access-"


@dataclass(eq=False)
class Token:
    """A refresh token, and what became of it on our side."""

    text: str
    number: int  # in the order in which Tesla issued them
    family: Family
    parent: Token | None
    call: Call | None  # that it answers; none: a sign-in
    received: bool = False  # its answer came as far as a living client
    lost: str = ""  # why it is nowhere, where that is nobody's fault
    orphaned: bool = False  # the process that received it was killed before it was durable
    durable: int = 0  # tick at which it was first in the table or on a disk; 0: never
    in_table: int = 0  # tick at which it was first in the table
    rejected: int = 0  # tick at which a client heard that Tesla does not accept it

    def descends_from(self, other: Token) -> bool:
        older = self.parent
        while older is not None:
            if older is other:
                return True
            older = older.parent
        return False


@dataclass(eq=False)
class Family:
    """What one sign-in began."""

    number: int
    owner: str
    tokens: list[Token] = field(default_factory=list)
    used: Token | None = None  # most recently
    used_at: int = 0
    revoked: str = ""
    said: int = 0  # when the owner came back from Tesla with it, in milliseconds
    stored: bool = False  # it has been in the table


class Call(Turns):
    """One request: on its way there, at Tesla, on its way back."""

    def __init__(self, tesla: Tesla, actor: Actor, token: Token, deadline: int) -> None:
        super().__init__(f"Tesla ({actor.name})", "tesla")
        self.owner = token.family.owner
        self.at = "on its way"
        self.actor = actor
        self.token = token
        self.deadline = deadline  # its client's, in milliseconds
        self.ended = False  # the client knows how it ended, or gave up
        self.epoch = 0
        self.fate = ""
        self.result: Answer | OutcomeUnknown | None = None
        self.arrived = False
        self.issued: Token | None = None
        self._tesla = tesla
        self._processed = False

    @property
    def may_be_at_work(self) -> bool:
        """Whether, for all that its client knows, Tesla has not done with it: neither an answer came nor a
        whole refresh token of a broken one."""
        salvaged = self.issued is not None and self.issued.received
        return not isinstance(self.result, Answer) and not salvaged

    def step(self) -> None:
        if not self._processed:
            self._processed = True
            self._tesla.process(self)
            self.at = f"working: {self.fate}" if self.fate else "working"
        else:
            self.done = True
            self._tesla.arrive(self)
            self.at = "done"


class Judge(Protocol):
    """Who is told what happens at Tesla."""

    def sent(self, call: Call) -> None: ...
    def received(self, call: Call) -> None: ...
    def revoked(self, call: Call, family: Family) -> None: ...


class Tesla:
    def __init__(self, world: World, weather: Weather) -> None:
        self.world = world
        self.tokens: dict[str, Token] = {}
        self.families: list[Family] = []
        self.judge: Judge
        self._weather = weather

    # --- the owner's side --------------------------------------------------------------------------

    def sign_in(self, owner: str, said: int) -> Token:
        family = Family(len(self.families) + 1, owner, said=said)
        if self._weather.sign_in_revokes:
            for older in self.families:
                if older.owner == owner and not older.revoked:
                    older.revoked = "a new sign-in"
        self.families.append(family)
        token = self._issue(family, None, None)
        token.received = True
        return token

    def withdraw(self, owner: str) -> None:
        for family in self.families:
            if family.owner == owner and not family.revoked:
                family.revoked = "consent withdrawn"

    # --- rotation ----------------------------------------------------------------------------------

    def accepts(self, token: Token) -> bool:
        family = token.family
        if family.revoked:
            return False
        used = family.used
        if used is None or token.number > used.number:
            return token is family.tokens[-1] or not self._weather.reuse_kills
        return token is used and not self._weather.strict and self.world.ms <= family.used_at + GRACE

    def is_fresh(self, token: Token) -> bool:
        used = token.family.used
        return used is None or token.number > used.number

    def _issue(self, family: Family, parent: Token | None, call: Call | None) -> Token:
        number = len(self.tokens) + 1
        token = Token(f"{REFRESH_MARK}{family.number}-{number:04d}", number, family, parent, call)
        self.tokens[token.text] = token
        family.tokens.append(token)
        return token

    # --- calls --------------------------------------------------------------------------------------

    def call(
        self,
        session: object,
        method: str,
        url: str,
        *,
        deadline: VirtualDeadline,
        before_send: Callable[[], None] | None = None,
        data: Mapping[str, str],
    ) -> Answer:
        """`fleet.transport.call`, as far as a refresh uses it."""
        world = self.world
        if deadline.passed:
            raise NotSent("the deadline passed")
        if self._weather.unreachable():
            raise NotSent("no connection in time")
        if before_send is not None:
            before_send()
        if deadline.passed:
            raise NotSent("the deadline passed")
        actor = world.current
        assert actor is not None
        call = Call(self, actor, self.tokens[data["refresh_token"]], deadline.end)
        call.fate = self._weather.fate_of_a_call(fresh=self.is_fresh(call.token))
        call.wake = world.ms + self._weather.way_there()
        self.judge.sent(call)
        world.actors.append(call)
        world.pause("sent", until=deadline.end)
        call.ended = True
        if not call.arrived:
            raise OutcomeUnknown("the deadline passed")
        self.judge.received(call)
        assert call.result is not None
        if isinstance(call.result, OutcomeUnknown):
            raise call.result
        return call.result

    def process(self, call: Call) -> None:
        """The request is at Tesla, whether or not its client still waits."""
        if call.fate == "request lost":
            call.wake = NEVER
            call.done = True
            return
        call.wake = self.world.ms + self._weather.way_back()
        refused = _REFUSALS.get(call.fate)
        if refused is not None:
            call.result = _answer(*refused)
            return
        token = call.token
        family = token.family
        if not self.accepts(token):
            if self._weather.strict and not family.revoked and not self.is_fresh(token):
                self.judge.revoked(call, family)
                family.revoked = "a superseded token"
            call.result = _answer(401, {"error": "login_required", "error_description": "Login required."})
            return
        if call.fate == "not rotated":
            call.result = _answer(200, self._tokens(None))
            return
        if family.used is not token:
            family.used, family.used_at = token, self.world.ms
        issued = call.issued = self._issue(family, token, call)
        whole = self._tokens(issued)
        match call.fate:
            case "silence":
                call.wake = NEVER
                call.done = True
            case "cut":
                call.result = OutcomeUnknown("reset", status=200, partial=b'{"access_token":"')
            case "cut behind the refresh token":
                body = f'{{"refresh_token":"{issued.text}","access_tok'.encode()
                call.result = OutcomeUnknown("reset", status=200, partial=body)
            case "503 afterwards":
                call.result = _answer(503, {"error": "server_error"})
            case "HTML":
                call.result = Answer(200, CaseInsensitiveDict(), b"<html>Please wait</html>")
            case _:
                call.result = _answer(200, whole)

    def arrive(self, call: Call) -> None:
        """The answer is in the client's hands, if that still holds them out."""
        if not call.actor.dead and not call.ended:
            call.arrived = True
            self.world.wake(call.actor)

    def _tokens(self, issued: Token | None) -> dict[str, Any]:
        body: dict[str, Any] = {
            "access_token": f"{ACCESS_MARK}{self.world.tick}",
            "expires_in": self._weather.token_life,
            "token_type": "Bearer",
        }
        if issued is not None:
            body["refresh_token"] = issued.text
        return body


_REFUSALS: dict[str, tuple[int, dict[str, Any], dict[str, str]]] = {
    "503": (503, {"error": "server_error"}, {}),
    "429": (429, {"error": "too_many_requests"}, {"Retry-After": "7"}),
    "invalid_client": (401, {"error": "invalid_client"}, {}),
}


def _answer(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, CaseInsensitiveDict(headers or {}), json.dumps(body).encode())
