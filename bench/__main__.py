"""`python -m bench [NAME …]`: measures what is named, or all, and writes it down in bench/RESULTS.md."""

from __future__ import annotations

import sys
import time
from importlib import import_module

from bench.results import write

BENCHES = ("refresh", "token_api", "console")
"""Modules of this package, each with a `run` that returns its part of the results as Markdown."""


def main(words: list[str]) -> int:
    quick = "--quick" in words
    names = [word for word in words if word != "--quick"] or list(BENCHES)
    if unknown := set(names) - set(BENCHES):
        print(f"There is no bench called {', '.join(sorted(unknown))}; there are: {', '.join(BENCHES)}.")  # noqa: T201
        return 2
    for name in names:
        began = time.monotonic()

        def say(line: str, name: str = name, began: float = began) -> None:
            print(f"{time.monotonic() - began:6.0f} s  {name}: {line}", flush=True)  # noqa: T201

        text = import_module(f"bench.{name}").run(quick=quick, say=say)
        if quick:
            print(text)  # noqa: T201 - too small to be kept
        else:
            write(name, text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
