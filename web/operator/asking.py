"""What an operator changes is asked first: a page that says what it does, then the button that does it."""

from __future__ import annotations

from flask import render_template


def ask(title: str, explanation: str, label: str, *, back: str, about: str = "", danger: bool = False) -> str:
    """The page that asks. Its button posts to the same address, `back` is where "Leave it" goes, `about` is
    the id of what it is about; `danger`: it can't be undone.

    The view that answers the POST writes an event (`models.events.record`) in the transaction of the change.
    """
    return render_template(
        "operator/ask.html",
        title=title,
        explanation=explanation,
        label=label,
        back=back,
        about=about,
        danger=danger,
    )
