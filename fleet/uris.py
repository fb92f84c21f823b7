"""Two URIs side by side: Tesla compares a redirect URI to the letter, so people must be able to."""

from __future__ import annotations

import re

_URI = re.compile(r"https?://[^\s\"'<>,;)]+")


def other_uri(text: str, ours: str) -> str | None:
    """The first URI in Tesla's words that is not ours, without a full stop at its end."""
    for found in _URI.finditer(text):
        if (uri := found[0].rstrip(".")) != ours:
            return uri
    return None


def parting(ours: str, theirs: str, whose: str = "Tesla") -> str:
    """Where two URIs begin to differ, in words; empty where they don't."""
    here = place(ours, theirs)
    if here is None:
        return ""
    rest, other = ours[here:] or "nothing more", theirs[here:] or "nothing more"
    return f"character {here + 1}: Evergrant has {rest}, {whose} has {other}"


def same_head(ours: str, theirs: str) -> tuple[str, str, str]:
    """What two URIs begin with alike, and the rest of each."""
    here = place(ours, theirs)
    here = len(ours) if here is None else here
    return ours[:here], ours[here:], theirs[here:]


def place(ours: str, theirs: str) -> int | None:
    """The index of the first character that differs, None where the two are equal."""
    if ours == theirs:
        return None
    return next(
        (at for at, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
        min(len(ours), len(theirs)),
    )
