"""The refresh protocol, top to bottom. Everyone who refreshes a grant calls `Refresher.refresh`.

The promises, and what keeps each:

1. No refresh token that Tesla has issued is ever lost. `_store` keeps the answer before anything else
   happens; where SQL refuses, it goes to the escrow, and `drain` takes it from there before another
   call is made. Answers that come late become spares (`models.answers.settle`). What a sign-in brought is
   kept the same way (`keep_signin`).
2. At most one attempt per grant is in flight. `_begin` is the fence: it commits an attempt only where none
   is under way, and this process lets go when the call's `Deadline` has passed before it sends. The
   owner's lock only spares the losers the trip to SQL.
3. A superseded refresh token is not presented while a newer one is known. `_begin` hands out the newest
   token together with the right to present it, and `_is_overtaken` looks again before that is used.
4. A grant is called dead only when Tesla said so for every refresh token held. `_attempts` tries the
   spares, newest first, and `_dead` is refused by the row while one is untried. Nothing is presented for an
   app that the tokens were not given to: Tesla's no would say nothing about the owner.
5. No token is anywhere in the clear. Tasks carry the owner's id, outcomes carry the grant with its tokens
   sealed, and the escrow is encrypted.

The times that hold it together follow from one setting, the attempt's total deadline:
its share in the row ends `GRACE` seconds after it, and the owner's lock lives longer than both.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from fleet.deadline import Deadline
from fleet.errors import CAUSES, Actor, Cause, TeslaError
from models import attempts, grants
from models.answers import Answer, Settled, settle
from models.attempts import Attempt
from models.consent import SignIn
from models.crypto import Unopenable
from models.events import Kind, latest_for_all, record
from models.grants import Grant, State
from workers.breaker import Gate
from workers.escrow import EscrowFull
from workers.steps import Step, reached
from workers.why import why_refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet.api import FleetApi
    from fleet.tokens import TokenEndpoint
    from models.crypto import Keyring
    from models.session import Database
    from workers.breaker import Admission, Breaker
    from workers.due import Pacing
    from workers.escrow import Escrow
    from workers.lock import OwnerLock, OwnerLocks

log = logging.getLogger(__name__)

GRACE = 1.0
"""Seconds by which an attempt's place on the row outlives the process's own deadline."""

PATIENCE = 1.0
"""Seconds that a task waits for its turn in the rate before it gives its claim back."""

AHEAD = 0.25
"""Seconds before its turn at which a refresh begins its attempt, so that the call itself is made on time."""

WHY_SECONDS = 3.0
"""How long it may take to find out why Tesla ended a grant."""

SLOW = 1.0
"""Seconds that SQL may take to store an answer before that answer is put into the escrow as well."""

DATABASE_AWAY = Cause(
    code="database",
    actor=Actor.WAIT,
    title="The token table can't be reached",
    explanation="Tesla has answered; the new tokens are safe in the escrow until the table is back.",
    repair="Nothing to do: Evergrant stores them by itself.",
)

KEY_MISSING = Cause(
    code="encryption_key",
    actor=Actor.OPERATOR,
    title="A token in the table does not open",
    explanation="The key that it was encrypted with is not among `ENCRYPTION_KEYS`. Nothing is lost.",
    repair="Put the missing key back into `ENCRYPTION_KEYS` (behind the first) and restart.",
)


def cause_of(code: str | None) -> Cause | None:
    """The cause that a row or an event names by its code."""
    return KEY_MISSING if code == KEY_MISSING.code else CAUSES.get(code or "")


def lock_life(attempt_deadline: float) -> float:
    """Seconds that the owner's lock lives: longer than an attempt's place on the row, and not much, since who
    is killed leaves it behind."""
    return attempt_deadline + 2 * GRACE + PATIENCE


class Result(StrEnum):
    REFRESHED = "refreshed"  # this call did it
    FRESH = "fresh"  # another had done it, or it is not due
    IN_FLIGHT = "in_flight"  # another is at it
    WAITING = "waiting"  # it failed in a way that passes; it is tried again by itself
    NEEDS_CONSENT = "needs_consent"  # the owner must act
    OPERATOR_MUST_ACT = "operator_must_act"
    NOT_CONNECTED = "not_connected"  # there is no grant
    PAUSED = "paused"  # by the operator, for this owner


@dataclass(frozen=True, slots=True)
class Outcome:
    """`grant` is the row afterwards, where it was read; `retry_in` is in seconds."""

    result: Result
    grant: Grant | None = None
    cause: Cause | None = None
    retry_in: float | None = None


@dataclass(slots=True)
class Unsettled:
    """An answer in this process's hands since `since`; `safe` once it is on a disk or in SQL, `left` when no
    thread is at it any more."""

    answer: Answer | SignIn
    since: float
    safe: bool = False
    left: bool = False


class Refresher:
    """`attempt_deadline` is in seconds. `sleep` waits so many seconds. `count` is told what became of each
    answer."""

    def __init__(
        self,
        *,
        database: Database,
        keyring: Keyring,
        tesla: TokenEndpoint,
        locks: OwnerLocks,
        breaker: Breaker,
        escrow: Escrow,
        pacing: Pacing,
        attempt_deadline: float,
        api: FleetApi | None = None,
        count: Callable[[Answer, Settled], None] = lambda *_: None,
        sleep: Callable[[float], None] = time.sleep,
        deadline: Callable[[float], Deadline] = Deadline,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._tesla = tesla
        self._locks = locks
        self._breaker = breaker
        self._escrow = escrow
        self._pacing = pacing
        self._attempt_deadline = attempt_deadline
        self._api = api
        self._count = count
        self._sleep = sleep
        self._deadline = deadline
        self._unsettled: dict[str, Unsettled] = {}

    # --- who comes second waits -------------------------------------------------------------------

    def refresh(self, owner: str, *, stale: int | None = None, wait: float = 0) -> Outcome:
        """Refreshes this owner's grant, or finds out why not. Raises SQLAlchemy's errors when SQL is away
        before an attempt was made.

        `stale` is the generation that the caller holds and wants replaced; without it the grant is
        refreshed only when it is due. When another process is at it, its result is waited for, up to
        `wait` seconds, and is this call's result.
        """
        patience = self._deadline(wait)
        pause = 0.05
        seen = None if stale is None else self._read(owner)
        if seen and seen.in_flight and self.drain(owner):
            seen = self._read(owner)
        if seen and (seen.in_flight or (stale is not None and seen.generation > stale)):
            outcome = self._explain(seen, stale)  # its end is this call's, good or bad
        else:
            outcome = self._try(owner, stale, seen, patience)
        while outcome.result is Result.IN_FLIGHT and not patience.passed:
            self._sleep(min(pause, patience.remaining))
            pause = min(pause * 1.5, 0.5)
            seen = seen or outcome.grant
            outcome = self._after(owner, stale, seen, patience)
        return outcome

    def _after(self, owner: str, stale: int | None, seen: Grant | None, patience: Deadline) -> Outcome:
        """How the attempt that another process was making has ended. This call makes one only when that
        process has vanished."""
        grant = self._read(owner)
        outcome = self._explain(grant, stale)
        if grant is None or outcome.result is not Result.IN_FLIGHT or grant.in_flight:
            return outcome
        if seen and grant.last_error_at and grant.last_error_at >= seen.read_at:
            return self._waiting(grant)
        return self._try(owner, stale, grant, patience)

    # --- one try ----------------------------------------------------------------------------------

    def _try(self, owner: str, stale: int | None, seen: Grant | None, patience: Deadline) -> Outcome:
        with self._locks.hold(owner) as lock:
            if lock is None:
                return self._explain(self._read(owner), stale)
            reached(Step.LOCKED, owner)
            admission = self._breaker.admit(max(PATIENCE, patience.remaining))
            if not admission.may_go:
                return self._not_now(owner, admission)
            turn = self._deadline(admission.seconds)
            if turn.remaining > AHEAD:
                self._sleep(turn.remaining - AHEAD)
                lock.renew()
            reached(Step.ADMITTED, owner)
            outcome = self._attempts(owner, stale, seen, lock, admission, turn)
        reached(Step.UNLOCKED, owner)
        return outcome

    def _attempts(
        self,
        owner: str,
        stale: int | None,
        seen: Grant | None,
        lock: OwnerLock,
        admission: Admission,
        turn: Deadline,
    ) -> Outcome:
        """One attempt with the newest refresh token and, when Tesla rejects that, one with each spare."""
        attempt, deadline = self._first(owner, stale, seen, admission)
        if attempt is None:
            return self._explain(self._read(owner), stale)
        if not turn.passed:
            self._sleep(turn.remaining)
        tried: list[str] = []
        if attempt.client_id not in {None, self._tesla.client_id}:
            self._breaker.give_back(admission)
            return self._not_ours(attempt, f"It was made with the client id {attempt.client_id}.")
        try:
            token: str | None = attempt.refresh_token(self._keyring)
            came_from = attempt.token_attempt
            while token is not None:
                tried.append(token)
                try:
                    tokens = self._tesla.refresh(
                        token, deadline=deadline, before_send=lambda: reached(Step.CONNECTED, owner)
                    )
                except TeslaError as error:
                    if error.cause.code == "other_credentials":
                        self.tesla_works(admission)
                        return self._not_ours(attempt, str(error))
                    if error.actor is not Actor.OWNER:
                        return self._failed(attempt, token, came_from, error, deadline)
                    rejection = error
                else:
                    answer = Answer.to(
                        attempt,
                        presented=token,
                        presented_attempt=came_from,
                        access_token=tokens.access_token,
                        refresh_token=tokens.refresh_token,
                        expires_in=tokens.expires_in,
                        scopes=None if tokens.scopes is None else " ".join(tokens.scopes),
                        from_spare=len(tried) > 1,
                        reason=self._used_twice(attempt, came_from) if len(tried) > 1 else None,
                    )
                    reached(Step.ANSWERED, owner)
                    return self._keep(answer, stale, admission)
                came_from, token = self._spare(attempt, tried)
                if token is not None:
                    another = self._breaker.admit(self._attempt_deadline)  # each call counts for the rate
                    self._sleep(another.seconds if another.may_go else 0)
                    lock.renew()
                    following, deadline = self._begin(owner, stale, None, instead_of=attempt)
                    if following is None:
                        return self._explain(self._read(owner), stale)
                    attempt = following
        except Unopenable as error:
            return self._unopenable(attempt, error)
        return self._dead(attempt, stale, tried, rejection, admission, deadline)

    def _first(
        self, owner: str, stale: int | None, seen: Grant | None, admission: Admission
    ) -> tuple[Attempt | None, Deadline]:
        """The attempt that this call makes, if it may make one, with the newest refresh token there is."""
        while True:
            try:
                attempt, deadline = self._begin(owner, stale, seen)
            except SQLAlchemyError:
                self._breaker.give_back(admission)
                raise
            if attempt is None:
                self.drain(owner)
                self._breaker.give_back(admission)
                return None, deadline
            if attempt.is_first or not self._is_overtaken(attempt):
                reached(Step.DRAINED, owner)
                return attempt, deadline
            with self._database.write() as connection:
                attempts.give_up(connection, attempt)

    def _is_overtaken(self, attempt: Attempt) -> bool:
        """Whether an earlier attempt's answer, from the escrow or by a process that was stalled, has come
        into the table since. It is looked for when the attempt stands: what comes later finds it there."""
        self.drain(attempt.owner)
        grant = self._read(attempt.owner)
        if grant is None:
            return True
        return (grant.consent_id, grant.generation) != (attempt.consent_id, attempt.generation)

    def _begin(
        self, owner: str, stale: int | None, seen: Grant | None, instead_of: Attempt | None = None
    ) -> tuple[Attempt | None, Deadline]:
        """Commits an attempt, if one may be made now, with the deadline of its call."""
        # This clock starts before the row's, so that this process lets go before another may begin.
        deadline = self._deadline(self._attempt_deadline)
        with self._database.write_once() as connection:
            attempt = attempts.begin(
                connection,
                owner,
                seconds=self._attempt_deadline + GRACE,
                stale=stale,
                after=None if seen is None else seen.attempt_number,
                instead_of=instead_of,
            )
        if attempt is not None:
            reached(Step.WRITTEN, owner)
        return attempt, deadline

    # --- Tesla answered ---------------------------------------------------------------------------

    def _keep(self, answer: Answer, stale: int | None, admission: Admission) -> Outcome:
        """The answer, and nothing else, comes first."""
        settled = self._store(answer)
        self.tesla_works(admission)
        if settled is None:
            return Outcome(Result.WAITING, cause=DATABASE_AWAY, retry_in=self._pacing.sweep_seconds)
        if settled is not Settled.STORED:
            return self._explain(self._read(answer.owner), stale)
        return Outcome(Result.REFRESHED, None if stale is None else self._read(answer.owner))

    def _store(self, answer: Answer | SignIn) -> Settled | None:
        """Settles an answer in SQL, else in the escrow, else stays with it until one of them takes it.

        None when it is in the escrow.
        """
        unsettled = self._unsettled[answer.correlation_id] = Unsettled(answer, time.monotonic())
        try:
            return self._store_somewhere(unsettled)
        finally:
            unsettled.left = True
            if unsettled.safe:
                self._unsettled.pop(answer.correlation_id, None)

    def _store_somewhere(self, unsettled: Unsettled) -> Settled | None:
        answer = unsettled.answer
        wait = 0.2
        while True:
            try:
                settled = self._settle(answer)
            except Exception as error:  # whatever it is, the answer must not be lost to it
                log.error("%s: SQL does not take the answer (%s)", _line(answer), type(error).__name__)
            else:
                unsettled.safe = True
                reached(Step.SETTLED, answer.owner)
                log.info("%s: %s", _line(answer), settled)
                return settled
            try:
                unsettled.safe = self._escrow.put(answer)
            except EscrowFull:
                log.critical("%s: neither SQL nor the escrow takes the answer; trying on", _line(answer))
                self._sleep(wait)
                wait = min(wait * 2, 5.0)
            else:
                reached(Step.ESCROWED, answer.owner)
                return None

    def _settle(self, answer: Answer | SignIn) -> Settled:
        if isinstance(answer, SignIn):
            generation = answer.store(self._database, self._keyring)
            return Settled.DROPPED if generation is None else Settled.STORED
        settled = settle(
            self._database, self._keyring, answer, due_after=self._pacing.due_after(answer.expires_in)
        )
        self._count(answer, settled)
        return settled

    def keep_signin(self, signin: SignIn, *, patience: float) -> bool:
        """Stores what a sign-in brought. False when SQL has not taken it within `patience` seconds: it is in
        the escrow then, and comes into the table by itself."""
        deadline = self._deadline(patience)
        if self._store(signin) is not None:
            return True
        while not deadline.passed:
            self._sleep(min(0.2, deadline.remaining))
            with suppress(SQLAlchemyError):
                self._settle(signin)
                return True
        return False

    def drain(self, owner: str) -> bool:
        """Takes this owner's answers out of the escrow into the table; whether there were any. Raises
        SQLAlchemy's errors."""
        try:
            drained = self._escrow.drain(owner, self._settle)
        except Unopenable as error:  # it stays there until the key is back
            log.error("owner %s: an answer can't leave the escrow: %s", owner, error)
            return False
        if drained:
            log.info("owner %s: an answer has left the escrow for the table", owner)
        return bool(drained)

    def drain_all(self) -> None:
        """Takes all that is in the escrow, here and in Redis, into the table; to be called every second.

        Before that, what SQL is slow to take gets a safe place: it may hang instead of refusing. So does
        what only Redis has taken, which may forget it. Raises SQLAlchemy's errors.
        """
        for unsettled in list(self._unsettled.values()):
            if not unsettled.safe and time.monotonic() - unsettled.since > SLOW:
                with suppress(EscrowFull):
                    unsettled.safe = self._escrow.put(unsettled.answer)
            if unsettled.safe and unsettled.left:
                self._unsettled.pop(unsettled.answer.correlation_id, None)
        for owner in self._escrow.owners():
            try:
                self.drain(owner)
            except (DataError, IntegrityError) as error:  # this one is odd; the others need not wait for it
                log.error("owner %s: SQL does not take an answer (%s)", owner, type(error).__name__)

    # --- Tesla did not ----------------------------------------------------------------------------

    def _spare(self, attempt: Attempt, tried: list[str]) -> tuple[int, str | None]:
        """The newest refresh token held that has not been tried, and the number of the attempt that it came
        from."""
        self.drain(attempt.owner)
        with self._database.read() as connection:
            held = attempts.candidates(connection, self._keyring, attempt, tried)
        return held[0] if held else (0, None)

    def _dead(
        self,
        attempt: Attempt,
        stale: int | None,
        tried: list[str],
        rejection: TeslaError,
        admission: Admission,
        deadline: Deadline,
    ) -> Outcome:
        """Tesla rejected every refresh token held: only now is the owner asked again."""
        self.tesla_works(admission)  # it answers, and it knows the app
        cause = self._why(attempt.owner, deadline) or rejection.cause
        with self._database.write() as connection:
            ended = attempts.end_consent(
                connection,
                self._keyring,
                attempt,
                reason=cause.code,
                detail=str(rejection)
                if cause is rejection.cause
                else f"{cause.title}. Tesla said: {rejection}",
                tried=tried,
            )
            if not ended:
                attempts.give_up(connection, attempt)
        if ended:
            reached(Step.ENDED, attempt.owner)
            log.warning(
                "%s: needs the owner's consent: %s: %s (%s)",
                _line(attempt),
                cause.code,
                rejection,
                cause.entry,
            )
        return self._explain(self._read(attempt.owner), stale)

    def _why(self, owner: str, deadline: Deadline) -> Cause | None:
        """What is behind Tesla's no, as far as that can be told in the time that the attempt has left."""
        grant = self._read(owner)
        if self._api is None or grant is None:
            return None
        return why_refused(
            self._api, self._keyring, grant, self._deadline(min(deadline.remaining, WHY_SECONDS))
        )

    def _used_twice(self, attempt: Attempt, accepted: int) -> str | None:
        """The newest token was rejected and one from the attempt `accepted` is not. Where that one had been
        presented once by us, another program must have presented it as well."""
        if attempt.token_attempt - accepted != 1:
            return None
        cause = CAUSES["two_refreshes"]
        log.warning("%s: %s: %s (%s)", _line(attempt), cause.code, cause.title, cause.entry)
        return cause.code

    def _failed(
        self, attempt: Attempt, token: str, came_from: int, error: TeslaError, deadline: Deadline
    ) -> Outcome:
        """The operator must act, or it passes by itself."""
        if error.salvaged and error.salvaged != token:
            # The answer broke off behind a whole refresh token: the newest there is.
            self._store(
                Answer.to(
                    attempt,
                    presented=token,
                    presented_attempt=came_from,
                    access_token=None,
                    refresh_token=error.salvaged,
                    expires_in=0,
                    scopes=None,
                )
            )
        operator = error.actor is Actor.OPERATOR
        opened = self._breaker.failed(
            attempt.owner,
            error.cause.code,
            everybody=operator or error.retry_after is not None or error.status == 429,
            pause=error.retry_after,
        )
        if operator and opened:
            self._announce(Kind.OPERATOR_MUST_ACT, error.cause.code, f"{error}. {error.cause.repair}")
        elif opened:
            log.warning("Tesla fails for everybody, refreshes pause: %s (%s)", error, error.cause.entry)
        wait = max(self._pacing.wait_after(attempt.failures), error.retry_after or 0)
        if error.outcome_unknown:
            wait = max(wait, deadline.remaining + GRACE)
        try:
            with self._database.write() as connection:
                if operator:
                    attempts.give_up(connection, attempt)
                else:
                    attempts.end(
                        connection,
                        attempt,
                        error=error.cause.code,
                        detail=str(error),
                        retry_in=wait,
                        outcome_unknown=error.outcome_unknown,
                    )
        except SQLAlchemyError as away:
            log.warning("SQL is away (%s): the attempt ends by its deadline", type(away).__name__)
        reached(Step.ENDED, attempt.owner)
        log.warning("%s: no tokens: %s (%s)", _line(attempt), error, error.cause.entry)
        result = Result.OPERATOR_MUST_ACT if operator else Result.WAITING
        return Outcome(result, cause=error.cause, retry_in=wait)

    def _unopenable(self, attempt: Attempt, error: Unopenable) -> Outcome:
        """A key is missing: nothing was sent, nothing is lost, and the operator can put it back."""
        return self._set_aside(attempt, KEY_MISSING, str(error))

    def _not_ours(self, attempt: Attempt, detail: str) -> Outcome:
        """The tokens were given to another app: they are kept, for when its credentials are put back."""
        return self._set_aside(attempt, CAUSES["other_credentials"], detail)

    def _set_aside(self, attempt: Attempt, cause: Cause, detail: str) -> Outcome:
        """The operator must act for this grant alone; the others go on. It is looked at again soon, since
        nobody says when the operator has acted."""
        wait = self._pacing.wait_after(attempt.failures)
        log.error("%s: %s: %s (%s)", _line(attempt), cause.code, detail, cause.entry)
        with self._database.write() as connection:
            attempts.end(
                connection,
                attempt,
                error=cause.code,
                detail=f"{cause.title}. {detail}",
                retry_in=wait,
                outcome_unknown=False,
                kind=Kind.OPERATOR_MUST_ACT,
            )
        return Outcome(Result.OPERATOR_MUST_ACT, cause=cause, retry_in=wait)

    def _not_now(self, owner: str, admission: Admission) -> Outcome:
        """The breaker is open or the rate is used up: the claim goes back, and the sweep comes again."""
        with self._database.write_once() as connection:
            grants.release_claim(connection, owner)
        grant = self._read(owner)
        cause = CAUSES.get(admission.cause) if admission.gate is Gate.OPEN else CAUSES["rate_limited"]
        operator = cause is not None and cause.actor is Actor.OPERATOR
        result = Result.OPERATOR_MUST_ACT if operator else Result.WAITING
        return Outcome(result, grant, cause, admission.seconds)

    # --- words for it -----------------------------------------------------------------------------

    def _read(self, owner: str) -> Grant | None:
        with self._database.read() as connection:
            return grants.read(connection, owner)

    def _explain(self, grant: Grant | None, stale: int | None) -> Outcome:
        """Why no attempt was made."""
        if grant is None or grant.state == State.DISCONNECTED:
            return Outcome(Result.NOT_CONNECTED, grant)
        if grant.state == State.NEEDS_CONSENT:
            return Outcome(Result.NEEDS_CONSENT, grant, CAUSES.get(grant.reason or ""))
        if stale is not None and grant.generation > stale:
            return Outcome(Result.FRESH, grant)
        if grant.paused_at is not None and not grant.in_flight:
            return Outcome(Result.PAUSED, grant)
        if grant.must_wait and not grant.in_flight:
            return self._waiting(grant)
        if not grant.in_flight and stale is None:
            if grant.refresh_at and grant.refresh_at > grant.read_at:
                return Outcome(Result.FRESH, grant)
            if grant.retry_at and grant.retry_at > grant.read_at:
                return self._waiting(grant)
        return Outcome(Result.IN_FLIGHT, grant)

    def _waiting(self, grant: Grant) -> Outcome:
        until = max(filter(None, (grant.retry_at, grant.attempt_deadline)), default=grant.read_at)
        cause = cause_of(grant.last_error)
        operator = cause is not None and cause.actor is Actor.OPERATOR
        result = Result.OPERATOR_MUST_ACT if operator else Result.WAITING
        return Outcome(result, grant, cause, max((until - grant.read_at).total_seconds(), 0))

    def tesla_works(self, admission: Admission) -> None:
        """Tells the breaker, which closes if it was open."""
        if admission.troubled and self._breaker.succeeded():
            self._announce(Kind.GOES_ON, admission.cause or None, "Tesla works again; refreshes go on.")

    def _announce(self, kind: Kind, reason: str | None, detail: str) -> None:
        """Says once what concerns all owners."""
        log.log(logging.ERROR if kind is Kind.OPERATOR_MUST_ACT else logging.INFO, "%s", detail)
        try:
            with self._database.write() as connection:
                last = latest_for_all(connection)
                if last is None or (last.kind, last.reason) != (kind, reason):
                    record(connection, kind, reason=reason, detail=detail)
        except SQLAlchemyError as away:
            log.warning("SQL is away (%s): the event is only in this log", type(away).__name__)


def _line(what: Attempt | Answer | SignIn) -> str:
    """How a line of the log begins: whose grant, and the correlation id that its events carry."""
    return f"owner {what.owner} [{what.id if isinstance(what, Attempt) else what.correlation_id}]"
