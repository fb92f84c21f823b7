"""Every cause that the product names, as an entry to read: `docs/troubleshooting.md` and the web app's
`/troubleshooting` are made from this and from `fleet.errors.CAUSES`.

``python -m doctor.troubleshooting`` writes the document.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.errors import CAUSES, Actor
from workers.refresh import DATABASE_AWAY, KEY_MISSING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.errors import Cause

TURNS = {
    Actor.OWNER: "The owner must act",
    Actor.OPERATOR: "The operator must act",
    Actor.WAIT: "It passes by itself",
}


@dataclass(frozen=True)
class Entry:
    """A cause and its story. What stands between backticks is code."""

    cause: Cause
    looks: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
    repair: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        return self.cause.code


_REFUSED = "Refreshes are refused with 401 `login_required` or 400 `invalid_grant`"

_STORIES: dict[str, Entry] = {
    entry.code: entry
    for entry in (
        Entry(
            CAUSES["wrong_region"],
            looks=(
                "A call to the Fleet API is answered with 421, “user out of region, use base URL: …”.",
                (
                    "Or with 401 “User revoked consent” every eight hours, although nobody revoked "
                    "anything, where the partner token and the owner are of different regions."
                ),
                (
                    "`evergrant doctor OWNER` shows three regions side by side: that of the table, that of "
                    "the token, and that which Tesla’s `users/region` names."
                ),
            ),
            why=(
                (
                    "Tesla keeps each account in one region, and each region has its own Fleet API. Many "
                    "guides name the North American base URL only. Accounts can move, and the region in "
                    "front of a code or a refresh token (`EU_…`) is a hint and no promise."
                ),
            ),
            repair=(
                "Take the base URL from Evergrant with each token instead of writing it into a program.",
                "Have the owner sign in again: Evergrant asks `users/region` then.",
                (
                    "Where the region has another base URL than Tesla’s own, set `TESLA_FLEET_URL_NA`, "
                    "`_EU`, `_CN`."
                ),
            ),
        ),
        Entry(
            CAUSES["missing_scopes"],
            looks=(
                (
                    "A call to the Fleet API is answered with 403 “Unauthorized missing scopes”, while "
                    "others work."
                ),
                (
                    "The owner’s page lists a permission as not granted; `evergrant doctor OWNER` shows "
                    "what was asked, granted and needed."
                ),
            ),
            why=(
                (
                    "An owner may untick any permission on Tesla’s page. What was granted stands in the "
                    "access token (`scp`), not in what was asked. And a grant keeps its permissions when "
                    "`TESLA_SCOPES` grows later."
                ),
            ),
            repair=(
                "Have the owner press Reconnect: Tesla then asks again for what was unticked.",
                "If the app itself lacks the permission, add it to the app at developer.tesla.com first.",
                "If no program needs it, take it out of `TESLA_SCOPES` and restart.",
            ),
        ),
        Entry(
            CAUSES["superseded_token"],
            looks=(
                f"{_REFUSED} for a token that is hours old, while the access token still works.",
                "It comes back: the owner signs in, and a few hours later the grant has ended again.",
            ),
            why=(
                (
                    "A refresh token is good for one use; only the one used last stays good, for up to a "
                    "day. So somebody has used a newer one. Mostly it is another program with the same "
                    "refresh token, a second Evergrant on a copy of the table, or the same app at another "
                    "place where the owner signed in: Tesla lets a new sign-in end the tokens of the one "
                    "before. A table that came back from a backup holds old tokens, too."
                ),
            ),
            repair=(
                (
                    "Find the other program and take the refresh token from it: let it ask Evergrant for "
                    "access tokens."
                ),
                "Give each environment (test, production) an app of its own at developer.tesla.com.",
                "Then have the owner sign in again.",
            ),
        ),
        Entry(
            CAUSES["two_refreshes"],
            looks=(
                (
                    "Tesla refuses a refresh token that it gave only just now, and accepts the one before "
                    "it. Evergrant tries that by itself: the history says “Refreshed with a spare”."
                ),
                "In a program without spares it looks like a random sign-out after a refresh.",
            ),
            why=(
                (
                    "Two programs, or two replicas of one, found the token due at the same moment and both "
                    "presented it. Tesla answered both, and only one of the answers counts. Within one "
                    "Evergrant it can’t happen: the row of the grant admits one attempt at a time, on any "
                    "number of machines."
                ),
            ),
            repair=(
                "Let one program refresh: have all others ask Evergrant for access tokens.",
                "If two Evergrants run, give them the same `DATABASE_URL`, or different owners.",
            ),
        ),
        Entry(
            CAUSES["other_credentials"],
            looks=(
                (
                    f"{_REFUSED}, for all grants from before a change of `TESLA_CLIENT_ID`, while new "
                    "sign-ins "
                    "work."
                ),
                "400 `invalid_grant`, “… was issued to another client”.",
            ),
            why=(
                (
                    "Tesla’s tokens belong to the app that they were given to. A table copied from another "
                    "environment, or a new client id, and none of its tokens is accepted. Evergrant notes "
                    "the client id with each grant; it presents no token to Tesla for another app, so that "
                    "no grant is called dead for that."
                ),
            ),
            repair=(
                (
                    "Put back the `TESLA_CLIENT_ID` (and secret) that the grants were made with, and "
                    "restart: they go on by themselves."
                ),
                "If the new app is meant to stay, have each owner sign in again.",
            ),
        ),
        Entry(
            CAUSES["redirect_mismatch"],
            looks=(
                (
                    "Tesla’s page says “We don’t recognize this redirect URI/URL”, or “The 'redirect_uri' "
                    "supplied is not registered for this 'client_id'”, before anybody can sign in."
                ),
                (
                    "Or the sign-in comes back, and the exchange of its code fails with 400 "
                    "`invalid_redirect_url`."
                ),
            ),
            why=(
                (
                    "Tesla compares the redirect URI to the letter: `http` or `https`, the host with or "
                    "without `www`, the port, the path, and a slash at the end."
                ),
            ),
            repair=(
                (
                    "Run `evergrant doctor`: it prints the exact URI, asks Tesla about it, and asks it from "
                    "outside in, through your proxy. Where two URIs differ, it names the character."
                ),
                (
                    "Paste that URI into the app at developer.tesla.com; or set `PUBLIC_URL`, to which "
                    "Evergrant adds `/callback`, and restart."
                ),
            ),
        ),
    )
}

FIVE = ("wrong_region", "missing_scopes", "superseded_token", "two_refreshes", "other_credentials")
"""What is behind a 401 or 403, most of the time."""

_ALL = (*CAUSES.values(), KEY_MISSING, DATABASE_AWAY)

ENTRIES: dict[str, Entry] = {cause.code: _STORIES.get(cause.code, Entry(cause)) for cause in _ALL}
"""An entry for every cause, by its code, which is also its anchor."""


def sections() -> Iterator[tuple[str, list[Entry]]]:
    """The document's parts: the five first, then the others by whose turn it is."""
    yield "The five causes of a 401 or 403", [ENTRIES[code] for code in FIVE]
    for actor, title in TURNS.items():
        yield title, [e for e in ENTRIES.values() if e.cause.actor is actor and e.code not in FIVE]


INTRODUCTION = (
    "Wherever Evergrant shows an error of Tesla’s, on a page, in an answer of its API, on the command line "
    "or in the log, it names one of the causes below. `evergrant doctor` looks at the whole installation, "
    "`evergrant doctor OWNER` at one grant; both say which it is. (`evergrant` is `.venv/bin/evergrant` in "
    "the project’s folder, and `docker compose exec web evergrant` with containers.)"
)


def markdown() -> str:
    """`docs/troubleshooting.md`."""
    lines = ["# Troubleshooting", "", INTRODUCTION, ""]
    lines += ["| the five | in a word |", "| --- | --- |"]
    lines += [f"| [`{code}`](#{code}) | {ENTRIES[code].cause.title} |" for code in FIVE]
    for title, entries in sections():
        lines += ["", f"## {title}"]
        for entry in entries:
            lines += ["", f"### `{entry.code}`", "", f"**{entry.cause.title}.** {entry.cause.explanation}"]
            if not entry.looks:
                lines += ["", f"Repair: {entry.cause.repair}"]
                continue
            lines += [f"{TURNS[entry.cause.actor]}."]
            parts = (("How it looks", entry.looks), ("Why", entry.why), ("The repair", entry.repair))
            for heading, paragraphs in parts:
                lines += ["", f"**{heading}**", "", *(f"- {text}" for text in paragraphs)]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    from settings import ROOT

    (ROOT / "docs" / "troubleshooting.md").write_text(markdown())
