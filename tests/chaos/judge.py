"""The verdict: the two sides' books compared, promise by promise, and the table that says so."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from models.events import Kind, events
from models.grants import State, grants
from tests.chaos import plan as kinds
from tests.chaos.ledger import ELSEWHERE, HELD, LATE_REQUEST, median, percentile
from tests.chaos.orders import KILL
from workers.steps import Step

if TYPE_CHECKING:
    from tests.chaos.ledger import Ledger
    from tests.chaos.product import Product
    from tests.chaos.storm import Tally
    from tests.chaos.traces import Trace
    from tests.chaos.watch import Watch


@dataclass
class Verdict:
    lines: list[tuple[str, str]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    too_seldom: list[str] = field(default_factory=list)

    def say(self, what: str, value: object = "") -> None:
        self.lines.append((what, str(value)))

    def promise(self, what: str, value: object, holds: bool, why: str = "") -> None:
        self.say(what, f"{value}{'' if holds else '   BROKEN'}")
        if not holds:
            self.broken.append(f"{what}: {value}{f' ({why})' if why else ''}")

    def __str__(self) -> str:
        width = max(len(what) for what, _ in self.lines)
        return "\n".join(f"{what:<{width}}  {value}".rstrip() for what, value in self.lines)


def judge(
    product: Product,
    ledger: Ledger,
    record: dict[str, Any],
    tally: Tally,
    watch: Watch,
    traces: list[Trace],
    *,
    scanned: int,
    trouble: list[str],
    full: bool,
) -> Verdict:
    """`trouble` is what did not come back in the quiet period, in words; `full`: the storm was long enough
    for every fault to have struck often."""
    verdict = Verdict()
    totals = record["totals"]
    for note in ledger.notes:
        if note.order.endswith(f".{KILL}"):
            tally.struck[kinds.KILL_AT[note.step]] += 1
    _faults(verdict, tally, full=full)
    verdict.say("")
    verdict.say("owners", totals["owners"])
    begun = sum(note.step is Step.WRITTEN for note in ledger.notes)
    verdict.say("attempts written down / calls at the token endpoint", f"{begun} / {totals['calls']}")
    verdict.say("rotations", totals["rotations"])
    _overlaps(verdict, product, ledger, record, tally)
    verdict.say("reused in grace", totals["reused_in_grace"])
    verdict.say("superseded after Tesla refused a good one", totals["superseded_after_refusal"])
    if record["strict"]:
        _strict(verdict, ledger, product)
    else:
        verdict.promise(
            "superseded tokens presented", totals["superseded_presented"], totals["superseded_presented"] == 0
        )
        _lenient(verdict, ledger, record, tally, product)
    lost = ledger.lost_from_the_store
    verdict.promise("answers that SQL or the escrow had and the table has not", len(lost), not lost)
    verdict.say(
        "answers cut off on the way",
        f"{len(ledger.lost_on_the_way)} (the sandbox says {totals['answers_cut']})",
    )
    verdict.say("   broken off behind a whole refresh token, which was kept", len(ledger.salvaged))
    verdict.say(
        "answers received by a process that died before it could keep them", len(ledger.lost_in_the_window)
    )
    _window(verdict, ledger, tally)
    verdict.say(
        "most calls to Tesla in one second",
        f"{totals['max_calls_per_second']} (rate {product.options.refresh_rate:.0f})",
    )
    longest = max(watch.longest.values(), default=0.0)
    verdict.say(
        "longest time without a valid access token",
        f"{longest:.0f} s ({len(watch.longest)} owners were ever without)",
    )
    places = Counter(f"{trace.kind} in {trace.place}" for trace in traces)
    verdict.promise(
        f"tokens in the clear, in {scanned / 1e6:.0f} MB of logs, memory and files",
        len(traces),
        not traces,
        ", ".join(f"{count} {place}" for place, count in places.items()),
    )
    verdict.promise("not well again after the quiet period", "; ".join(trouble) or "none", not trouble)
    return verdict


def _faults(verdict: Verdict, tally: Tally, *, full: bool) -> None:
    verdict.say("fault", "struck (of so many meant; of Tesla's: rules)")
    for kind in sorted(set(tally.given) | set(tally.struck)):
        struck = tally.struck[kind]
        verdict.say(f"  {kind}", f"{struck} ({tally.given[kind]})")
        long = kind in {kinds.TESLA_DOWN, kinds.TESLA_REFUSES, kinds.FULL_ESCROW_ALONE}
        if full and struck < kinds.OFTEN and not long:
            verdict.too_seldom.append(f"{kind}: {struck}")


def _overlaps(
    verdict: Verdict, product: Product, ledger: Ledger, record: dict[str, Any], tally: Tally
) -> None:
    """An overlap: Tesla is still busy with a call when the next one for the same owner comes. Where the first
    one's process was stopped with SIGSTOP it could not hang up: its time was over, and Tesla could not
    know."""
    stopped = _beside_the_stopped(product, ledger, tally)
    unexplained = {
        owner["sub"]: owner["overlaps_live"] - stopped[owner["sub"]]
        for owner in record["owners"]
        if owner["overlaps_live"] > stopped[owner["sub"]]
    }
    verdict.promise("overlaps", sum(unexplained.values()), not unexplained, ", ".join(unexplained))
    verdict.say(
        "   the other client was stopped past its deadline",
        record["totals"]["overlaps_live"] - sum(unexplained.values()),
    )
    verdict.say("   the other client had hung up", record["totals"]["overlaps_after_hangup"])


def _beside_the_stopped(product: Product, ledger: Ledger, tally: Tally) -> Counter[str]:
    deaths = {pid: at for child in product.children for pid, at in child.deaths.items()}
    calls: dict[str, list[tuple[float, float, bool]]] = defaultdict(list)
    under_way: dict[tuple[int, int], tuple[str, float]] = {}

    def end(here: tuple[int, int], at: float) -> None:
        if here in under_way:
            owner, since = under_way.pop(here)
            still = any(pid == here[0] and since < until and begin < at for pid, begin, until in tally.stops)
            calls[owner].append((since, at, still))

    for note in ledger.notes:
        here = (note.pid, note.thread)
        end(here, note.at)
        if note.step is Step.CONNECTED:
            under_way[here] = (note.owner, note.at)
    for here in list(under_way):
        end(here, deaths.get(here[0], float("inf")))
    found: Counter[str] = Counter()
    for owner, each in calls.items():
        for number, (since, until, still) in enumerate(each):
            found[owner] += sum(
                other_since < until and since < other_until and (still or other_still)
                for other_since, other_until, other_still in each[number + 1 :]
            )
    return found


def _lenient(
    verdict: Verdict, ledger: Ledger, record: dict[str, Any], tally: Tally, product: Product
) -> None:
    """With Tesla's 24 h: nobody is lost but by the owner's own word, and both sides hold the same token."""
    states, asked, _ = _asked(product)
    owners = {owner["sub"]: owner for owner in record["owners"]}
    dead = {owner for owner, state in states.items() if state != State.ALIVE}
    other = {
        owner
        for owner in states
        if owner not in dead and ledger.current.get(owner) != ledger.newest.get(owner)
    }
    unkept = {issued.owner for issued in (ledger.lost_on_the_way | ledger.lost_in_the_window).values()}
    refused = dead & tally.lied_to & unkept
    ended = tally.withdrawn | refused
    lost = (dead | other | (set(owners) - set(states))) - ended
    verdict.promise("grants lost", len(lost), not lost, ", ".join(sorted(lost)))
    verdict.say("   Tesla refused the one token that it would have taken", len(refused))
    needless = {owner for owner in asked if owner not in ended}
    again = sum(each["sign_ins"] - 1 for owner, each in owners.items() if owner not in tally.signed_in)
    verdict.promise(
        "needless sign-ins", len(needless) + again, not needless and not again, ", ".join(needless)
    )
    verdict.promise(
        "needs_consent although Tesla accepts a token",
        len(needless),
        not needless,
    )
    told_so = {owner for owner, told in tally.signed_in.items() if told}
    kept = {
        owner
        for owner in told_so
        if ledger.family_of.get(ledger.current.get(owner, "")) == ledger.family[owner]
    }
    verdict.promise(
        "owners who signed in again / whose tokens of that are held",
        f"{len(told_so)} / {len(kept)}",
        told_so == kept,
        ", ".join(told_so - kept),
    )
    if tally.withdrawn:
        told = {
            owner
            for owner in tally.withdrawn
            if asked[owner] == 1 and states.get(owner) == State.NEEDS_CONSENT
        }
        verdict.promise(
            "owners who withdrew consent / who were told so, once",
            f"{len(tally.withdrawn)} / {len(told)}",
            told == tally.withdrawn,
            ", ".join(tally.withdrawn - told),
        )


def _strict(verdict: Verdict, ledger: Ledger, product: Product) -> None:
    """Any use of a superseded token ends the family: who ended is exactly whose newest token nobody could
    have known when the call was made that ended it."""
    states, _, repeated = _asked(product)
    ended = set(ledger.ended_at)
    way = {issued.owner for issued in ledger.lost_on_the_way.values()}
    window = {issued.owner for issued in ledger.lost_in_the_window.values()} - way
    why = {owner: ledger.why_ended(owner) for owner in ended - way - window}
    verdict.say("grants that ended, by the sandbox", len(ended))
    verdict.say("   an answer was cut off on the way", len(way & ended))
    verdict.say("   its process was killed before the first durable write of an answer", len(window & ended))
    for reason in (HELD, LATE_REQUEST, ELSEWHERE):
        verdict.say(f"   {reason}", sum(found == reason for found in why.values()))
    unknown = {owner for owner, found in why.items() if not found}
    without = (way | window) - ended
    verdict.promise(
        "ended for another reason / a lost answer without an end",
        f"{len(unknown)} / {len(without)}",
        not unknown and not without,
        ", ".join(sorted(unknown | without)),
    )
    told = {owner for owner, state in states.items() if state == State.NEEDS_CONSENT}
    verdict.promise("needs_consent although Tesla accepts a token", len(told - ended), not told - ended)
    wrongly = (ended - told) | repeated
    verdict.promise(
        "ended and not said so, or said more than once", len(wrongly), not wrongly, ", ".join(wrongly)
    )
    other = {
        owner
        for owner in states
        if owner not in ended and ledger.current.get(owner) != ledger.newest.get(owner)
    }
    verdict.promise("grants lost beside these", len(other), not other, ", ".join(sorted(other)))


def _asked(product: Product) -> tuple[dict[str, str], Counter[str], set[str]]:
    """Each grant's state, how often its owner was told to sign in again, and who was told so twice although
    nothing had brought the grant back in between (as a token does that turns up late)."""
    with product.database.read() as connection:
        states = {row.owner: row.state for row in connection.execute(select(grants.c.owner, grants.c.state))}
        happened = connection.execute(
            select(events.c.owner, events.c.kind)
            .where(events.c.kind.in_([Kind.NEEDS_CONSENT, Kind.REFRESHED, Kind.REVIVED]))
            .order_by(events.c.id)
        ).all()
    asked: Counter[str] = Counter()
    last: dict[str, str] = {}
    repeated = set()
    for owner, kind in happened:
        if kind == Kind.NEEDS_CONSENT:
            asked[owner] += 1
            if last.get(owner) == kind:
                repeated.add(owner)
        last[owner] = kind
    return states, asked, repeated


def _window(verdict: Verdict, ledger: Ledger, tally: Tally) -> None:
    sql = {kinds.STOP_FAST, kinds.STOP_IMMEDIATE, kinds.REFUSE, kinds.FULL_ESCROW}
    troubles = [(outage.start, outage.end) for outage in tally.outages if outage.what in sql]
    stops = [(start, end) for _, start, end in tally.stops]

    def within(spans: list[tuple[float, float]], at: float, length: float) -> bool:
        return any(start < at + length and at < end for start, end in spans)

    fair = [length for at, length in ledger.windows if not within(troubles + stops, at, length)]
    foul = [
        length
        for at, length in ledger.windows
        if within(troubles, at, length) and not within(stops, at, length)
    ]
    for name, lengths in (("", fair), (" while SQL was away", foul)):
        verdict.say(
            f"from an answer to its first durable write{name}",
            f"median {median(lengths) * 1e3:.1f} ms, 99 % {percentile(lengths, 0.99) * 1e3:.0f} ms, "
            f"worst {max(lengths, default=0) * 1e3:.0f} ms, of {len(lengths)}",
        )
