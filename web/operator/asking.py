"""What an operator changes is asked first: a page that says what it does, then the button that does it."""

from __future__ import annotations

from flask import render_template


def ask(title: str, explanation: str, label: str, *, back: str, danger: bool = False) -> str:
    """The page that asks; its button posts to the same address, `back` is where "Leave it" goes.

    The view that answers the POST writes an event (`models.events.record`) in the transaction of the change.
    """
    return render_template(
        "operator/ask.html", title=title, explanation=explanation, label=label, back=back, danger=danger
    )
