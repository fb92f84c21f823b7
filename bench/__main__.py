"""`python -m bench [NAME …]`: measures what is named, or all, and writes it down in bench/RESULTS.md."""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module

from bench.results import Size, write

BENCHES = ("refresh", "sweep", "web", "rest", "console", "monday", "million")
"""Modules of this package, each with a `run` that returns its part of the results as Markdown."""


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHES)}; default: all")
    parser.add_argument(
        "--quick", action="store_true", help="only see that they run; nothing is written down"
    )
    parser.add_argument("--owners", type=int, default=Size.owners, help="of the million; default %(default)s")
    parser.add_argument("--minutes", type=float, default=Size.minutes, help="likewise; default %(default)s")
    given = parser.parse_args(words)
    if unknown := set(given.names) - set(BENCHES):
        parser.error(f"there is no bench called {', '.join(sorted(unknown))}")
    size = Size(quick=given.quick, owners=given.owners, minutes=given.minutes)
    for name in given.names or BENCHES:
        began = time.monotonic()

        def say(line: str, name: str = name, began: float = began) -> None:
            print(f"{time.monotonic() - began:6.0f} s  {name}: {line}", flush=True)  # noqa: T201

        text = import_module(f"bench.{name}").run(size, say)
        if size.quick:
            print(text)  # noqa: T201 - too small to be kept
        else:
            write(name, text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
