"""All looks, for the command line and the console alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from doctor import app, configuration, first_run, owner, parts, redirect
from doctor.findings import run

if TYPE_CHECKING:
    from doctor.findings import Finding, Look
    from settings import Settings


def examine(settings: Settings | None, problems: list[str]) -> list[Finding]:
    """The whole installation; without settings, what keeps them from being read (`problems`)."""
    looks: list[Look] = [configuration.look(settings, problems)]
    if settings is not None:
        looks += redirect.looks(settings)
        looks += app.here(settings)
        looks += [app.at_tesla(settings, region) for region in app.served_regions(settings)]
        looks += parts.looks(settings)
    return run(looks)


def guide(settings: Settings) -> list[first_run.Step]:
    """How far this installation has come to its first real sign-in."""
    looks = [configuration.look(settings, []), *first_run.looks(settings), *redirect.looks(settings)]
    looks += app.here(settings)
    looks += [app.at_tesla(settings, region) for region in app.served_regions(settings)]
    return first_run.steps(run(looks))


def examine_owner(settings: Settings, who: str) -> tuple[list[Finding], str]:
    """One owner's grant and what it leans on, and the whole in a sentence."""
    findings = run([*owner.looks(settings, who), parts.refreshes(settings)])
    return findings, owner.sentence(findings)
