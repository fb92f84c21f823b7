"""``python -m tests.chaos``: see ``--help``."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from tests.chaos.run import Chaos, run

HELD, BROKEN, TOO_SELDOM = 0, 1, 3


def main() -> int:
    """Returns 0 when all promises held, 1 when one was broken, 3 when they held and a fault of a long storm
    struck less often than it should."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Runs the product under a storm of faults and compares its books with the sandbox's.",
    )
    add = parser.add_argument
    add("--owners", type=int, default=200, help="(default: %(default)s)")
    add("--seconds", type=float, default=600, help="how long the storm lasts (default: %(default)s)")
    add("--seed", type=int, default=1, help="the same seed makes the same plan (default: %(default)s)")
    add("--database", choices=("sqlite", "postgresql"), default="sqlite", help="(default: %(default)s)")
    add("--token-seconds", type=int, default=20, help="life of an access token (default: %(default)s)")
    add("--strict", action="store_true", help="no 24 h of grace: a superseded token ends the grant")
    add("--plan", action="store_true", help="print the plan and do nothing")
    add("--keep", type=Path, help="a folder to copy logs and notes to")
    given = parser.parse_args()
    chaos = Chaos(
        owners=given.owners,
        seconds=given.seconds,
        seed=given.seed,
        database=given.database,
        strict=given.strict,
        token_seconds=given.token_seconds,
    )
    if given.plan:
        for act in chaos.plan():
            _print(str(act))
        return HELD

    def interrupted(signum: int, _frame: object) -> None:
        raise SystemExit(128 + signum)

    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGHUP, interrupted)
    start = time.monotonic()
    verdict = run(chaos, lambda line: _print(f"{time.monotonic() - start:6.0f} s  {line}"), given.keep)
    _print(f"\n{chaos}\n\n{verdict}\n")
    for line in verdict.broken:
        _print(f"BROKEN  {line}")
    for line in verdict.too_seldom:
        _print(f"struck too seldom: {line}")
    if verdict.broken:
        return BROKEN
    _print("All promises held.")
    return TOO_SELDOM if verdict.too_seldom else HELD


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
