"""The table of owners: searched, filtered, sorted, and a strip of what happened to each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from flask import Blueprint, render_template, request, url_for

from models import listing, surveys
from models.events import latest_of
from models.grants import State
from models.listing import BadCursor, Cursor, Page, Show, Sort
from web.operator.session import operator_signed_in
from web.timeline import EVENTS_SMALL, timeline
from web.wiring import wiring
from workers.refresh import cause_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.grants import Grant
    from models.surveys import Survey
    from web.timeline import Timeline

blueprint = Blueprint("owners", __name__)

ON_A_PAGE = 30

SHOWN = {
    Show.ALL: "All",
    Show.ALIVE: "Alive",
    Show.NEEDS_CONSENT: "Must sign in again",
    Show.FAILING: "Failing",
    Show.RUN_OUT: "Run out",
    Show.DUE: "Due now",
    Show.PAUSED: "Paused",
    Show.DISCONNECTED: "Disconnected",
}

EMPTY = {
    Show.ALL: "No owner has signed in yet. Give them the address of the start page.",
    Show.ALIVE: "No grant is alive. Owners sign in on the start page.",
    Show.NEEDS_CONSENT: "Nobody has to sign in again.",
    Show.FAILING: "No refresh is failing.",
    Show.RUN_OUT: "No access token has run out.",
    Show.DUE: "Nothing is due now.",
    Show.PAUSED: "No grant is paused.",
    Show.DISCONNECTED: "Nobody has disconnected.",
}

COLUMNS = (
    (Sort.OWNER, "Owner"),
    (None, "State"),
    (Sort.EXPIRY, "Token ends"),
    (Sort.REFRESHED, "Refreshed"),
    (Sort.FAILURES, "Failures"),
    (None, "Timeline"),
)


class Look(NamedTuple):
    """A grant's state in a word, with its mark."""

    words: str
    shape: str
    tone: str


class Row(NamedTuple):
    grant: Grant
    state: Look
    why: str
    timeline: Timeline | None


@blueprint.get("/owners")
@operator_signed_in
def page() -> str:
    """The page."""
    asked = request.args
    show = _one_of(Show, asked, "show", Show.ALL)
    sort = _one_of(Sort, asked, "sort", Sort.EXPIRY)
    begins = "".join(char for char in asked.get("q", "").strip() if char.isprintable())
    reverse = asked.get("reverse") == "1"
    with wiring().parts.database.read() as connection:

        def page_at(**place: Cursor | None) -> Page:
            return listing.owners(
                connection,
                show=show,
                sort=sort,
                reverse=reverse,
                begins=begins,
                limit=ON_A_PAGE,
                **place,
            )

        try:
            found = page_at(after=_cursor(asked, "after"), before=_cursor(asked, "before"))
        except BadCursor:
            found = page_at()
        else:
            # All that was there may have gone since.
            found = found if found.grants else page_at()
        now = surveys.clock(connection)
        survey = surveys.read(connection)
        happened = latest_of(connection, [grant.owner for grant in found.grants], EVENTS_SMALL)

    def there(**changes: Any) -> str:
        """This list, otherwise."""
        given = {"show": show, "sort": sort, "q": begins, "reverse": int(reverse)} | changes
        usual = {"show": Show.ALL, "sort": Sort.EXPIRY, "q": "", "reverse": 0}
        said = {name: value for name, value in given.items() if value != usual.get(name)}
        return url_for("operator.owners.page", **said)

    return render_template(
        "operator/owners.html",
        now=now,
        survey=survey,
        rows=[
            Row(grant, state_of(grant), why(grant), timeline(grant, happened[grant.owner], now, small=True))
            for grant in found.grants
        ],
        begins=begins,
        show=show,
        sort=sort,
        reverse=reverse,
        empty=f"No owner’s id begins with “{begins}” here." if begins else EMPTY[show],
        filters=[(words, there(show=one), one == show, _number(survey, one)) for one, words in SHOWN.items()],
        columns=[
            (
                words,
                one and there(sort=one, reverse=int(sort == one and not reverse)),
                one is not None and one == sort,
            )
            for one, words in COLUMNS
        ],
        before=found.before and there(before=found.before),
        after=found.after and there(after=found.after),
    )


def state_of(grant: Grant) -> Look:
    """In the words of the filters."""
    if grant.state == State.DISCONNECTED:
        return Look("Disconnected", "box", "none")
    if grant.state == State.NEEDS_CONSENT:
        return Look("Must sign in again", "square", "ended")
    if grant.paused_at is not None:
        return Look("Paused", "pause", "waiting")
    if grant.failures:
        cause = cause_of(grant.last_error)
        turn = cause is not None and cause.actor == "operator"
        return Look("Failing", "cross" if turn else "triangle", "ended" if turn else "waiting")
    return Look("Alive", "circle", "alive")


def why(grant: Grant) -> str:
    """Why it is not alive, or why the last attempt failed."""
    code = grant.reason if grant.state != State.ALIVE else grant.last_error if grant.failures else None
    cause = cause_of(code)
    return cause.title if cause else code or ""


def _one_of(kind: Any, asked: Mapping[str, str], name: str, usual: Any) -> Any:
    try:
        return kind(asked.get(name, usual))
    except ValueError:
        return usual


def _cursor(asked: Mapping[str, str], name: str) -> Cursor | None:
    return Cursor.parse(asked[name]) if name in asked else None


def _number(survey: Survey | None, show: Show) -> int | None:
    """How many there are, as the last survey found."""
    if survey is None:
        return None
    numbers = {
        Show.ALL: survey.owners,
        Show.FAILING: sum(survey.failing.values()),
        Show.PAUSED: survey.paused,
        Show.RUN_OUT: survey.run_out,
        Show.DUE: survey.due,
    }
    return numbers[show] if show in numbers else survey.states[show]
