"""``evergrant doctor``: the findings on a terminal, or for programs."""

from __future__ import annotations

import json
import sys
import textwrap
from typing import TYPE_CHECKING

import click

from evergrant.exits import Exit
from evergrant.terminal import as_json
from fleet.uris import place
from settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from doctor.findings import Finding

EXIT = {"pass": Exit.DONE, "fail": Exit.FAILED, "can't know": Exit.UNKNOWN}
"""By the worst verdict."""

_MARKS = {"pass": ("pass", "green"), "fail": ("FAIL", "red"), "can't know": ("can’t know", "yellow")}
_MARGIN = " " * 12
_WIDTH = 100


@click.command()
@click.argument("owner", required=False)
@as_json
def doctor(owner: str | None, as_json: bool) -> None:
    """Look at everything, or at OWNER's grant, and say what is wrong and how to repair it. Changes nothing.

    Exit code: 0 when all passes, 1 when something fails, 7 when something can't be known.
    """
    from doctor.configuration import read
    from doctor.findings import summary, worst
    from doctor.installation import examine, examine_owner

    settings, problems = read()
    if owner is None:
        findings = examine(settings, problems)
        sentence = summary(findings)
    elif settings is None:
        raise SettingsError("\n".join(problems))
    else:
        findings, sentence = examine_owner(settings, owner)
    verdict = worst(findings).value
    if as_json:
        told = {"verdict": verdict, "sentence": sentence, "checks": [each.as_dict() for each in findings]}
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        for finding in findings:
            click.echo("\n".join(_lines(finding)))
        click.echo("\n" + sentence.replace("`", ""))
    sys.exit(EXIT[verdict])


def _lines(finding: Finding) -> Iterator[str]:
    mark, colour = _MARKS[finding.verdict.value]
    yield f"{click.style(f'{mark:>10}', fg=colour)}  {finding.title.replace('`', '')}"
    yield from _wrapped(finding.seen)
    if finding.verdict.value != "pass":
        yield from _wrapped(f"Why it matters: {finding.why}")
        if finding.repair:
            yield from _wrapped(f"Repair: {finding.repair}")
    # These may be meant for copying: never broken into lines.
    yield from (f"{_MARGIN}{label}: {text}" for label, text in finding.details)
    if finding.differ:
        yield from (_MARGIN + uri for uri in finding.differ)
        yield _MARGIN + " " * (place(*finding.differ) or 0) + "^"
    if finding.entry:
        yield from _wrapped(f"More: {finding.entry}")


def _wrapped(text: str) -> Iterator[str]:
    width = _WIDTH - len(_MARGIN)
    for line in textwrap.wrap(text.replace("`", ""), width, break_long_words=False, break_on_hyphens=False):
        yield _MARGIN + line
