"""Takes pictures of every page in every state from a running product: ``make screenshots``.

They go to a temporary folder (or to the one given), to be looked at; the few of the README and of these
documents are put here, so that they stay true. What can't be waited for, like three quiet days, is written
into the table.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import sync_playwright
from sqlalchemy import delete, select, update

from models.events import Kind, events
from models.grants import NO_ATTEMPT, grants
from models.session import Database
from tests.evergrant.running import Running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

HERE = Path(__file__).resolve().parent

LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1000, "height": 700}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1000, "height": 700}},
    "phone": {"color_scheme": "light", "viewport": {"width": 360, "height": 740}},
}

PASSWORD = "of-the-pictures"  # noqa: S105

KEPT = {
    "owner-many-light": ("owner.png", ".columns"),
    "operator-overview-many-dark": ("console.png", ".grid > :nth-child(2)"),
}
"""Which picture is kept here, under which name, and where it ends."""


@dataclass(frozen=True)
class Camera:
    """A signed-in owner's browsers on a running product, one for each look."""

    running: Running
    database: Database
    folder: Path
    contexts: dict[str, BrowserContext]

    @property
    def site(self) -> str:
        return f"http://localhost:{self.running.web_port}"

    def shoot(self, name: str, path: str, prepare: Callable[[Page], object] = lambda _: None) -> None:
        """The page at `path` in each look. `prepare` does what the state needs once the page is there."""
        for look, context in self.contexts.items():
            page = context.new_page()
            page.goto(self.site + path)
            prepare(page)
            page.wait_for_load_state("networkidle")
            page.screenshot(path=self.folder / f"{name}-{look}.png", full_page=True)
            if kept := KEPT.get(f"{name}-{look}"):
                self._keep(page, *kept)
            page.close()

    def _keep(self, page: Page, name: str, last: str) -> None:
        """The page down to the end of the element `last`."""
        width, end = page.locator(last).evaluate(
            "element => [innerWidth, element.getBoundingClientRect().bottom + scrollY + 24]"
        )
        cut: Any = {"x": 0, "y": 0, "width": width, "height": end}
        page.screenshot(path=HERE / name, full_page=True, clip=cut)

    def once(self, do: Callable[[Page], object]) -> None:
        """Does it in the first browser."""
        page = self.contexts["light"].new_page()
        do(page)
        page.close()

    def each(self, do: Callable[[Page], object]) -> None:
        """Does the same in each browser."""
        for context in self.contexts.values():
            page = context.new_page()
            do(page)
            page.close()


# --- what happened ------------------------------------------------------------------------------------


def happened(camera: Camera, *what: tuple[Any, ...], **row: Any) -> None:
    """Writes the owner's history anew: each is a kind, how many hours ago, and, for a failure, why. `row` is
    what its row holds beside."""
    now = datetime.now(UTC)
    with camera.database.write() as connection:
        owner, newest = connection.execute(select(grants.c.owner, grants.c.generation)).one()
        connection.execute(delete(events))
        generation = newest - sum(kind in ROTATIONS for kind, *_ in what)
        for kind, ago, *why in what:
            at = now - timedelta(hours=ago)
            rotated = kind in ROTATIONS
            generation += rotated
            connection.execute(
                events.insert().values(
                    at=at,
                    owner=owner,
                    kind=kind,
                    reason=why[0] if why else None,
                    generation=generation,
                    correlation_id=f"{abs(hash((kind, ago))):016x}"[:16],
                    access_expires_at=at + timedelta(hours=8) if rotated else None,
                )
            )
        last = now - timedelta(hours=next(ago for kind, ago, *_ in reversed(what) if kind in ROTATIONS))
        values: dict[str, Any] = {
            "state": "alive",
            "reason": None,
            "connected_at": now - timedelta(hours=what[0][1]),
            "refreshed_at": last,
            "access_expires_at": last + timedelta(hours=8),
            "refresh_at": last + timedelta(hours=6),
            "retry_at": None,
            "failures": 0,
            "last_error": None,
            "last_error_at": None,
            "paused_at": None,
            **NO_ATTEMPT,
        }
        connection.execute(update(grants).values(**values | row))


ROTATIONS = (Kind.CONNECTED, Kind.REFRESHED, Kind.SPARE_USED)
QUIET = ((Kind.CONNECTED, 49.1), *((Kind.REFRESHED, 49.1 - 6.1 * turn) for turn in range(1, 9)))


def ago(hours: float) -> datetime:
    return datetime.now(UTC) - timedelta(hours=hours)


# --- the pages ----------------------------------------------------------------------------------------


def strangers(camera: Camera) -> None:
    """What everybody sees."""
    camera.shoot("landing-empty", "/")
    camera.shoot("problem-404", "/nothing-here")
    camera.shoot("problem-old-link", "/callback?state=made-up&code=x")


def denies(page: Page, site: str) -> None:
    page.goto(f"{site}/signin")
    page.get_by_role("button", name="Deny").click()
    page.wait_for_url("**/callback**")


def owners(camera: Camera) -> None:
    """What an owner sees."""
    camera.shoot("problem-denied", "/", lambda page: denies(page, camera.site))
    camera.each(lambda page: sign_in(page, camera.site))
    camera.shoot("landing-signed-in", "/")
    camera.shoot("owner-one", "/owner", cars)
    camera.once(lambda page: refresh_often(page, camera.site))
    happened(camera, *QUIET)
    camera.shoot("owner-many", "/owner", cars)
    camera.shoot("owner-refreshed", "/owner", refresh)
    failed = (Kind.WAITING, 0.4, "tesla_failed"), (Kind.WAITING, 0.2, "tesla_failed")
    late = {"last_error": "tesla_failed", "failures": 2, "retry_at": ago(-0.02), "refresh_at": ago(0.4)}
    happened(camera, *QUIET[:-1], *failed, **late | {"last_error_at": ago(0.2)})
    camera.shoot("owner-waiting", "/owner", cars)
    dead = {"state": "needs_consent", "reason": "login_required", "refresh_at": None}
    ended = (Kind.NEEDS_CONSENT, 31, "login_required")
    happened(camera, *QUIET[:3], ended, **dead | {"last_error_at": ago(31)})
    camera.shoot("owner-ended", "/owner", cars)
    happened(camera, *QUIET, (Kind.PAUSED, 0.05), paused_at=ago(0.05))
    camera.shoot("owner-paused", "/owner", cars)
    happened(camera, *QUIET)
    camera.shoot("owner-stale", "/owner", lose)
    with camera.database.write() as connection:
        connection.execute(update(grants).values(scopes="openid offline_access user_data"))
    camera.shoot("owner-missing-scopes", "/owner", cars)
    camera.shoot("owner-cars-without-scripts", "/owner/cars")
    camera.shoot("owner-ask-disconnect", "/owner/disconnect")
    camera.shoot("owner-ask-erase", "/owner/erase")
    happened(camera, *QUIET, (Kind.DISCONNECTED, 0.1), state="disconnected", **GONE)
    camera.shoot("owner-disconnected", "/owner")
    with camera.database.write() as connection:
        connection.execute(delete(events))
        connection.execute(delete(grants))
    camera.shoot("owner-empty", "/owner")


def console(camera: Camera, state: str) -> None:
    """What the operator sees."""
    for page in ("", "/owners", "/events", "/doctor", "/keys", "/webhooks"):
        camera.shoot(f"operator{page.replace('/', '-') or '-overview'}-{state}", f"/operator{page}")


def operators(camera: Camera) -> None:
    crowd(camera)
    camera.once(lambda page: surveyed(page, camera.site))
    console(camera, "many")
    with camera.database.read() as connection:
        worst = select(grants.c.owner, grants.c.state).order_by(grants.c.failures.desc(), grants.c.owner)
        broken = {row.state: row.owner for row in connection.execute(worst)}
    for state, owner in broken.items():
        camera.shoot(f"operator-owner-{state}", f"/operator/owner?id={owner}")
    camera.shoot("operator-ask", f"/operator/owner/disconnect?id={owner}")


def crowd(camera: Camera, size: int = 1200) -> None:
    """So many owners like the one who is there, each with three days behind. None of them falls due while
    the pictures are taken: their tokens don't open."""
    dice = random.Random(7)  # noqa: S311
    now = datetime.now(UTC)
    with camera.database.write() as connection:
        one = dict(connection.execute(select(grants)).one()._mapping)
        connection.execute(delete(events))
        rows, history = [], []
        for _ in range(size):
            owner = str(uuid.UUID(int=dice.getrandbits(128), version=4))
            latest = dice.uniform(0, 5.6)
            turns = [latest + 6.0 * turn + dice.uniform(-0.1, 0.1) for turn in range(dice.randint(1, 10))]
            kinds = [Kind.CONNECTED, *[Kind.REFRESHED] * (len(turns) - 1)]
            told = [(kind, max(turn, 0.01), None) for kind, turn in zip(kinds, reversed(turns), strict=True)]
            row = one | {"owner": owner, "generation": len(turns) - 1, "failures": 0}
            fate = dice.random()
            if fate < 0.006:
                told.append((Kind.NEEDS_CONSENT, told[-1][1] / 2, "login_required"))
                row |= {"state": "needs_consent", "reason": "login_required", "refresh_at": None}
                row["last_error_at"] = ago(told[-1][1])
            elif fate < 0.012:
                told.append((Kind.WAITING, told[-1][1] / 9, "tesla_failed"))
                row |= {"failures": 1, "last_error": "tesla_failed", "last_error_at": ago(told[-1][1])}
            last = now - timedelta(hours=told[len(turns) - 1][1])
            row |= {
                "connected_at": ago(told[0][1]),
                "refreshed_at": last,
                "access_expires_at": last + timedelta(hours=8),
                "refresh_at": row["refresh_at"] and last + timedelta(hours=6.5),
                "retry_at": ago(-0.5) if row["failures"] else None,
            }
            rows.append(row)
            for turn, (kind, hours, why) in enumerate(told):
                at = now - timedelta(hours=hours)
                history.append(
                    {
                        "at": at,
                        "owner": owner,
                        "kind": kind,
                        "reason": why,
                        "generation": min(turn, len(turns) - 1),
                        "correlation_id": f"{dice.getrandbits(64):016x}",
                        "access_expires_at": at + timedelta(hours=8) if kind in ROTATIONS else None,
                        "late": dice.expovariate(2.0) if kind == Kind.REFRESHED else None,
                    }
                )
        connection.execute(grants.insert(), rows)
        connection.execute(events.insert(), sorted(history, key=lambda event: event["at"]))


def surveyed(page: Page, site: str) -> None:
    """The worker has looked at them all."""
    page.goto(f"{site}/operator")
    page.locator(".states strong", has_text=re.compile(r"\d,\d{3}")).first.wait_for(timeout=120_000)


GONE = {"access_token": None, "refresh_token": None, "access_expires_at": None, "refresh_at": None}


def sign_in(page: Page, site: str) -> None:
    page.goto(f"{site}/signin")
    page.get_by_label("Volta Moreau").check()
    page.get_by_role("button", name="Allow").click()
    page.wait_for_url(f"{site}/owner")


def sign_in_as_operator(page: Page, site: str) -> None:
    page.goto(f"{site}/operator")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{site}/operator")


def cars(page: Page) -> None:
    page.locator("#cars .asking").wait_for(state="detached")


def refresh_often(page: Page, site: str) -> None:
    """So that the generation is that of somebody who has been here for a while."""
    for _ in QUIET:
        page.goto(f"{site}/owner")
        page.get_by_role("button", name="Refresh now").click()
        page.get_by_role("status").wait_for()


def refresh(page: Page) -> None:
    page.get_by_role("button", name="Refresh now").click()
    page.get_by_role("status").wait_for()
    cars(page)


def lose(page: Page) -> None:
    """The live connection breaks."""
    cars(page)
    page.route("**/owner/live", lambda route: route.abort())
    for _ in range(2):
        with page.expect_event("requestfailed"):
            page.evaluate("document.body.dispatchEvent(new Event('look'))")
    page.locator("#lost:not(:empty)").wait_for()


# --- the camera ---------------------------------------------------------------------------------------


@contextmanager
def opened(browser: Browser) -> Iterator[dict[str, BrowserContext]]:
    contexts = {look: browser.new_context(**how, device_scale_factor=1.5) for look, how in LOOKS.items()}
    try:
        yield contexts
    finally:
        for context in contexts.values():
            context.close()


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        settings = {"SANDBOX_TOKEN_SECONDS": "28800", "OPERATOR_PASSWORD": PASSWORD}
        running = Running(Path(home) / "home", **settings)
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        try:
            running.wait_for_banner()
            database = Database(f"sqlite:///{running.home / 'evergrant.db'}")
            with opened(browser) as contexts:
                camera = Camera(running, database, folder, contexts)
                strangers(camera)
                camera.shoot("operator-signin", "/operator")
                camera.each(lambda page: sign_in_as_operator(page, camera.site))
                console(camera, "empty")
                owners(camera)
                camera.once(lambda page: sign_in(page, camera.site))
                operators(camera)
            database.close()
        finally:
            browser.close()
            running.end()


if __name__ == "__main__":
    target = Path(sys.argv[1]) if sys.argv[1:] else Path(tempfile.mkdtemp(prefix="evergrant-pictures-"))
    target.mkdir(parents=True, exist_ok=True)
    main(target)
    sys.stdout.write(f"{len(list(target.glob('*.png')))} pictures in {target}\n")
