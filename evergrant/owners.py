"""What the command line does with owners."""

from __future__ import annotations

from workers.parts import parts
from workers.refresh import Outcome, Result

GOOD = {Result.REFRESHED, Result.FRESH}


def refresh(owner: str, *, wait: float) -> Outcome:
    """Refreshes the owner's grant now. When another process is at it, its result is waited for, up to
    `wait` seconds."""
    from models import grants

    refresher = parts().refresher
    with parts().database.read() as connection:
        grant = grants.read(connection, owner)
    if grant is None:
        return Outcome(Result.NOT_CONNECTED)
    return refresher.refresh(owner, stale=grant.generation, wait=wait)


def sentence(outcome: Outcome) -> str:
    """The outcome in one sentence."""
    if outcome.result in GOOD and outcome.grant is not None:
        who = "Refreshed" if outcome.result is Result.REFRESHED else "Refreshed by another process just now"
        return f"{who}: generation {outcome.grant.generation}."
    if outcome.result is Result.NOT_CONNECTED:
        return "There is no grant of this owner's. The owner has to sign in."
    if outcome.result is Result.IN_FLIGHT:
        return "Another process is at it and has not ended yet. Nothing to do."
    why = f"{outcome.cause.title}. {outcome.cause.repair}" if outcome.cause else outcome.result.value
    return f"Not refreshed: {why}"
