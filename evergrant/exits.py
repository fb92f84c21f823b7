"""How a command ends, for the programs that called it."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The help of the command line explains them; they are a contract."""

    DONE = 0
    FAILED = 1
    REFUSED = 2
    NOT_FOUND = 3
    CONSENT = 4
    LATER = 5
    OPERATOR = 6
    UNKNOWN = 7


EXPLAINED = """\b
Exit codes:
  0  done
  1  it did not work, or not all of it did
  2  the command, a setting or the database is not as it has to be
  3  there is no such owner, grant, key or endpoint
  4  the owner has to sign in again
  5  not now: Tesla does not answer, or another process is at it; later will do
  6  the operator has to act: the output says what to repair
  7  nothing failed, and something can't be known from here
"""
