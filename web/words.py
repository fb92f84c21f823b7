"""Durations and moments in words. Durations round down, so that "good for 5 h" is never a promise broken."""

from __future__ import annotations

import re
from datetime import UTC
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from datetime import datetime


def duration(seconds: float, *, brief: bool = False) -> str:
    """``42 s``, ``3 min``, ``5 h 57 min``, ``2 d 4 h``; `brief` is ``36 h``, ``2 d``; nothing below 0."""
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes} min"
    if brief:
        return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // (24 * 60)} d"
    if minutes < 24 * 60:
        return _two(minutes // 60, "h", minutes % 60, "min")
    return _two(minutes // (24 * 60), "d", minutes // 60 % 24, "h")


def _two(large: int, unit: str, small: int, smaller_unit: str) -> str:
    return f"{large} {unit} {small} {smaller_unit}" if small else f"{large} {unit}"


def exact(moment: datetime) -> str:
    """RFC 3339 in UTC, to the second: ``2026-05-03T14:02:09Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def relative(moment: datetime, now: datetime, *, brief: bool = False) -> Markup:
    """``3 min ago`` or ``in 5 h 57 min``, with the exact time in the tag and on hover."""
    seconds = (moment - now).total_seconds()
    if abs(seconds) < 1:
        text = "just now"
    elif seconds < 0:
        text = f"{duration(-seconds, brief=brief)} ago"
    else:
        text = f"in {duration(seconds, brief=brief)}"
    return time_tag(moment, text)


def lasting(since: datetime, now: datetime) -> Markup:
    """``3 d 4 h``: how long something has been so, with the exact time in the tag and on hover."""
    return time_tag(since, duration((now - since).total_seconds()))


def clock(moment: datetime) -> Markup:
    """``19:40 UTC``; the script of the pages makes it ``21:40`` in the reader's zone."""
    return time_tag(moment, f"{moment.astimezone(UTC):%H:%M} UTC", "clock")


def day(moment: datetime) -> Markup:
    """``3 May 2026``, with the exact time in the tag and on hover."""
    moment = moment.astimezone(UTC)
    return time_tag(moment, f"{moment.day} {moment:%B %Y}", "day")


def when(moment: datetime) -> Markup:
    """``3 May 2026, 19:40 UTC``; in the reader's zone by the script of the pages."""
    utc = moment.astimezone(UTC)
    return time_tag(moment, f"{utc.day} {utc:%B %Y, %H:%M} UTC", "when")


def time_tag(moment: datetime, text: str, form: str = "") -> Markup:
    """`text` in a ``time`` element. `form` names what the script of the pages puts there instead, in the
    reader's zone (`static/evergrant.js`)."""
    utc = moment.astimezone(UTC)
    attribute = Markup(' data-form="{}"').format(form) if form else ""
    return Markup('<time datetime="{}" title="{}"{}>{}</time>').format(
        exact(moment), f"{utc:%Y-%m-%d %H:%M:%S} UTC", attribute, text
    )


def ticks(text: str) -> Markup:
    """`text` with what stands between backticks in ``code`` elements."""
    parts = re.split(r"`([^`]+)`", text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if at % 2 else escape(part) for at, part in enumerate(parts)
    )
