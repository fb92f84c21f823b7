"""The way back to a program after a sign-in: only to where `RETURN_URLS` allows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

if TYPE_CHECKING:
    from collections.abc import Iterable

ADDED = ("status", "owner", "reason")
"""Parameters that are added to a return URL."""

URL = (
    r"^([Hh][Tt][Tt][Pp][Ss]?)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
    r"(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?(\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?$"
)
"""Scheme, host, port, path, query. Nothing that two readers of URLs might read in two ways: no user names,
backslashes, blanks or fragments."""

_URL = re.compile(URL)
_PORTS = {"http": "80", "https": "443"}


def refusal(url: str, allowed: Iterable[str]) -> str | None:
    """Why nobody is sent to `url`, in words; None where it is allowed.

    An allowed URL stands for its own origin (scheme, host and port), and for its path and all below it.
    """
    place = _place(url)
    if place is None:
        return "must be an http or https URL without user name, fragment, `.` or `..`"
    if any(name in ADDED for name, _ in parse_qsl(url.partition("?")[2], keep_blank_values=True)):
        return f"must not have the parameters {', '.join(f'`{name}`' for name in ADDED)}: they are added"
    origin, path = place
    for entry in allowed:
        known = _place(entry)
        if known and origin == known[0] and f"{path}/".startswith(f"{known[1].rstrip('/')}/"):
            return None
    return "is not among those that the operator allows (`RETURN_URLS`)"


def with_status(url: str, **status: str) -> str:
    """`url` with these parameters added."""
    return f"{url}{'&' if '?' in url else '?'}{urlencode(status)}"


def _place(url: str) -> tuple[tuple[str, str, str], str] | None:
    found = _URL.fullmatch(url)
    if found is None:
        return None
    scheme, host, port, path, _ = found.groups()
    scheme, path = scheme.lower(), path or "/"
    dots = path.lower().replace("%2e", ".").split("/")
    if "." in dots or ".." in dots or "%2f" in path.lower() or "%5c" in path.lower():
        return None
    return (scheme, host.lower(), str(int((port or _PORTS[scheme]).lstrip(":")))), path
