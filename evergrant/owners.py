"""``evergrant owners`` and ``evergrant token``: look after owners' grants."""

from __future__ import annotations

import os
import secrets
import sys
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evergrant.exits import Exit
from evergrant.terminal import (
    as_json,
    confirm,
    connected,
    fail,
    print_json,
    print_table,
    usable_database,
    when,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.grants import Grant
    from workers.refresh import Outcome

PAGE = 1000
SHOWN = 100
"""So many owners a table shows unless told otherwise."""


@click.group()
def owners() -> None:
    """Look after owners' grants. OWNER is Tesla's id of the account."""


# --- looking ------------------------------------------------------------------------------------------


@owners.command(name="list")
@click.option("--state", type=click.Choice(["alive", "needs_consent", "disconnected"]), help="Only these.")
@click.option("--region", type=click.Choice(["NA", "EU", "CN"]), help="Only those who live there.")
@click.option(
    "--limit", type=click.IntRange(1), help=f"So many; without it {SHOWN} in a table and all with --json."
)
@as_json
def list_(state: str | None, region: str | None, limit: int | None, as_json: bool) -> None:
    """List the owners, in the order of their ids. With --json one object a line."""
    with usable_database():
        found = all_grants(state=state, region=region)
        if as_json:
            for grant in islice(found, limit):
                print_json(described(grant))
            return
        shown = list(islice(found, limit or SHOWN))
        more = next(found, None) is not None
    if not shown:
        click.echo("There are no owners, or none like that.")
        return
    print_table(
        ("Owner", "State", "Region", "Refreshed", "Next", "Token good for"), [_row(grant) for grant in shown]
    )
    if more:
        click.echo("There are more: --limit shows them, --json lists all.", err=True)


def _row(grant: Grant) -> tuple[str, ...]:
    now = grant.read_at
    state = "paused" if grant.paused_at is not None else grant.state.replace("_", " ")
    good = grant.access_expires_at is not None and grant.access_expires_at > now
    return (
        grant.owner,
        state,
        grant.region,
        when(grant.refreshed_at, now),
        when(grant.refresh_at, now, none="never"),
        when(grant.access_expires_at, now).removeprefix("in ") if good else "not good",
    )


@owners.command()
@click.argument("owner")
@click.option("--events", default=10, show_default=True, type=click.IntRange(0), help="How many of the last.")
@as_json
def show(owner: str, events: int, as_json: bool) -> None:
    """Show the grant of OWNER and what happened to it."""
    from models import events as history

    grant = _read(owner)
    with connected() as connection:
        happened = history.latest(connection, owner, events)
    if as_json:
        kept = [
            {name: getattr(event, name) for name in ("at", "kind", "reason", "detail", "generation")}
            for event in happened
        ]
        print_json(described(grant) | {"events": kept})
        return
    from models import pulses
    from web.sentence import cause_of, sentence
    from web.timeline import OUTCOMES
    from workers.parts import parts
    from workers.watch import silence

    wired = parts()
    look = wired.breaker.look()
    said = sentence(
        grant,
        ended=next((event for event in happened if event.kind == "disconnected"), None),
        pause=None if look.state == "closed" else cause_of(look.cause),
        swept=pulses.beaten_within(wired.database, "sweep", silence(wired.settings)),
    )
    click.echo(f"{said.word} {said.rest.striptags()}\n")
    print_table(
        ("", ""), [(name.replace("_", " "), _words(value)) for name, value in described(grant).items()]
    )
    if happened:
        click.echo()
        print_table(
            ("At", "What", "Why"),
            [
                (
                    f"{event.at:%Y-%m-%d %H:%M:%S} UTC",
                    OUTCOMES[event.kind].words if event.kind in OUTCOMES else event.kind,
                    event.detail or event.reason or "",
                )
                for event in happened
            ],
        )


def _words(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return " ".join(value)
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if hasattr(value, "tzinfo") else str(value)


def all_grants(*, state: str | None = None, region: str | None = None) -> Iterator[Grant]:
    """All grants, in the order of their owners, read a page at a time. Raises SQLAlchemy's errors."""
    from models import grants
    from workers.parts import parts

    after: str | None = None
    while True:
        with parts().database.read() as connection:
            page = grants.page(connection, limit=PAGE, after=after, state=state, region=region)
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].owner


def described(grant: Grant) -> dict[str, Any]:
    """A grant for programs: everything but its tokens."""
    return {
        "owner": grant.owner,
        "state": grant.state,
        "reason": grant.reason,
        "paused_at": grant.paused_at,
        "generation": grant.generation,
        "scopes": grant.scopes.split(),
        "requested_scopes": grant.requested_scopes.split(),
        "region": grant.region,
        "fleet_url": grant.fleet_url,
        "connected_at": grant.connected_at,
        "refreshed_at": grant.refreshed_at,
        "access_expires_at": grant.access_expires_at,
        "refresh_at": grant.refresh_at,
        "failures": grant.failures,
        "last_error": grant.last_error,
        "last_error_at": grant.last_error_at,
        "retry_at": grant.retry_at,
    }


def _read(owner: str) -> Grant:
    from models import grants

    with connected() as connection:
        grant = grants.read(connection, owner)
    if grant is None:
        fail(Exit.NOT_FOUND, f"There is no grant of {owner}. `evergrant owners list` shows all owners.")
    return grant


# --- acting -------------------------------------------------------------------------------------------

wait_option = click.option(
    "--wait",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds to wait for Tesla, or for another process's result.",
)


@owners.command()
@click.argument("owner")
@wait_option
@as_json
def refresh(owner: str, wait: float, as_json: bool) -> None:
    """Refresh the grant of OWNER now."""
    from workers.parts import parts
    from workers.refresh import Outcome, Result

    grant = _read(owner)
    if (grant.read_at - grant.refreshed_at).total_seconds() < _running_for():
        # It was asked for before that, and has only been slow to start.
        outcome = Outcome(Result.FRESH, grant)
    else:
        with usable_database():
            outcome = parts().refresher.refresh(owner, stale=grant.generation, wait=wait)
    code = ends(outcome)
    if as_json:
        cause = outcome.cause.code if outcome.cause else None
        generation = outcome.grant.generation if outcome.grant else None
        print_json({"owner": owner, "result": outcome.result.value, "cause": cause, "generation": generation})
    else:
        click.echo(sentence(outcome), err=code is not Exit.DONE)
    sys.exit(code)


def _running_for() -> float:
    """Seconds since this process was started; 0 where the system does not say."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return 0.0
    began = (ticks + 1) / os.sysconf("SC_CLK_TCK")  # rather too late than too early
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began


@owners.command()
@click.argument("owner")
@click.option("--yes", is_flag=True, help="Do not ask.")
def disconnect(owner: str, yes: bool) -> None:
    """Erase the tokens of OWNER and stop refreshing; the history stays."""
    from models import consent
    from workers.parts import parts

    _read(owner)
    confirm(f"Disconnect {owner}? The tokens are erased, and only a new sign-in brings them back.", yes=yes)
    with usable_database():
        done = consent.disconnect(
            parts().database,
            owner,
            correlation_id=secrets.token_hex(8),
            detail="By the operator, on the command line.",
        )
    click.echo("Disconnected: the tokens are erased." if done else "It was disconnected already.")


@click.command()
@click.argument("owner")
@click.option(
    "--min-ttl",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds that the token has to live; it is refreshed first when it does not.",
)
@wait_option
@as_json
def token(owner: str, min_ttl: float, wait: float, as_json: bool) -> None:
    """Print a valid access token of OWNER.

    It goes to stdout and nowhere else. Whoever has it acts in the owner's name until it ends.
    """
    from models import grants
    from models.crypto import Unopenable
    from web.api.fresh import LEAST, is_new, life_left, meets
    from workers.parts import parts

    grant = _read(owner)
    if grant.state == "alive" and not meets(grant, min_ttl) and not is_new(grant):
        with usable_database():
            outcome = parts().refresher.refresh(owner, stale=grant.generation, wait=wait)
        with connected() as connection:
            grant = grants.read(connection, owner) or grant
        if life_left(grant) < LEAST:
            fail(ends(outcome) or Exit.FAILED, sentence(outcome))
    if grant.state != "alive":
        fail(Exit.CONSENT, f"There is no token: the grant is {grant.state.replace('_', ' ')}. {_SIGN_IN}")
    try:
        access_token = grant.access_token(parts().keyring)
    except Unopenable as error:
        fail(Exit.OPERATOR, f"The access token does not open: {error}.")
    if not meets(grant, min_ttl):
        click.echo(f"It lives {life_left(grant):.0f} s only; it could not be had fresher just now.", err=True)
    if not as_json:
        click.echo(access_token)
        return
    print_json(
        {
            "owner": owner,
            "access_token": access_token,
            "expires_at": grant.access_expires_at,
            "expires_in": int(life_left(grant)),
            "scopes": grant.scopes.split(),
            "region": grant.region,
            "fleet_url": grant.fleet_url,
            "generation": grant.generation,
        }
    )


# --- how it ended -------------------------------------------------------------------------------------

_SIGN_IN = "The owner has to sign in."


def ends(outcome: Outcome) -> Exit:
    """The exit code that an outcome is."""
    return {
        "refreshed": Exit.DONE,
        "fresh": Exit.DONE,
        "in_flight": Exit.LATER,
        "waiting": Exit.LATER,
        "needs_consent": Exit.CONSENT,
        "operator_must_act": Exit.OPERATOR,
        "paused": Exit.OPERATOR,
        "not_connected": Exit.CONSENT,
    }.get(outcome.result.value, Exit.FAILED)


def sentence(outcome: Outcome) -> str:
    """The outcome in one sentence."""
    result = outcome.result.value
    if result in {"refreshed", "fresh"}:
        who = "Refreshed" if result == "refreshed" else "Refreshed by another process just now"
        return f"{who}: generation {outcome.grant.generation}." if outcome.grant else f"{who}."
    if result == "not_connected":
        return f"It is disconnected. {_SIGN_IN}"
    if result == "paused":
        return "Not refreshed: it is paused. Resume it in the console."
    if result == "in_flight":
        return "Another process is at it and has not ended yet. Nothing to do."
    cause = outcome.cause
    why = f"{cause.title}. {cause.repair} More: {cause.entry}" if cause else result.replace("_", " ")
    return f"Not refreshed: {why}"
