"""One whole run: start, sign in, storm, quiet, verdict."""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis.exceptions import RedisError
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from models.events import events
from models.grants import State, grants
from tests.chaos import judge, ledger, signin, traces
from tests.chaos.plan import FULL, Act, plan
from tests.chaos.processes import wait_for
from tests.chaos.product import Options, Product
from tests.chaos.storm import Storm
from tests.chaos.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUIET_SECONDS = 330.0
"""The longest that anything may wait by itself (a grant's backoff, two minutes; the breaker, one), twice."""


@dataclass(frozen=True, kw_only=True)
class Chaos:
    """What the command line asks for."""

    owners: int
    seconds: float
    seed: int
    database: str
    strict: bool = False
    token_seconds: int = 20

    def plan(self) -> list[Act]:
        return plan(
            seed=self.seed,
            seconds=self.seconds,
            owners=self.owners,
            database=self.database,
            strict=self.strict,
            token_seconds=self.token_seconds,
            clocks=True,
        )


def run(chaos: Chaos, say: Callable[[str], None], keep: Path | None = None) -> judge.Verdict:
    """Raises TimeoutError when something does not come up at all. `keep` is a folder for logs and notes."""
    options = Options(
        database=chaos.database,
        token_seconds=chaos.token_seconds,
        strict=chaos.strict,
        seed=chaos.seed,
        clocks=True,
    )
    with Product(options) as product:
        try:
            return _run(chaos, product, say, keep)
        finally:
            if keep is not None:
                for name in ("log", "steps"):
                    with contextlib.suppress(OSError):
                        shutil.copytree(product.folder / name, keep / name, dirs_exist_ok=True)


def _run(chaos: Chaos, product: Product, say: Callable[[str], None], keep: Path | None) -> judge.Verdict:
    names = [f"Owner {number:04d}" for number in range(chaos.owners)]
    browsers = signin.sign_in(product.web_url, names)
    say(f"{len(browsers)} owners have signed in; everybody is refreshed once before the storm")
    watch = Watch(product.database)
    wait_for("a first refresh of everybody", lambda: _refreshed(product, None), 120, product.tend)
    acts = chaos.plan()
    if product.machines[0].clock is None:
        say("There is no C compiler here: the clocks can't be set wrong.")
    say(f"{len(acts)} acts in {chaos.seconds:.0f} s")
    storm = Storm(product, acts, browsers, watch, say)
    storm.run(chaos.seconds)
    say("the storm is over; quiet until all are well again")
    trouble = _quiet(product, storm, watch, say)
    for child in (*product.beats, *product.workers, product.web):
        child.end(seconds=15)
    say("reading both sides' books")
    books = ledger.read(product.folder, product.database, product.keys)
    if keep is not None:
        _copy_books(product, books, keep)
    found, size = traces.scan(product)
    return judge.judge(
        product,
        books,
        product.record(),
        storm.tally,
        watch,
        found,
        scanned=size,
        trouble=trouble,
        full=chaos.seconds >= FULL,
    )


def _quiet(product: Product, storm: Storm, watch: Watch, say: Callable[[str], None]) -> list[str]:
    """Waits, tending what runs, until all is well; returns what is not by the end, in words."""
    begun = time.monotonic()
    end = begun + QUIET_SECONDS
    before = _attempts(product)
    what: list[str] = ["nothing was looked at"]
    while time.monotonic() < end:
        storm.tick()
        what = _not_well(product, watch, before, begun)
        if not what:
            say(f"all is well after {time.monotonic() - begun:.0f} s")
            return []
        for _ in range(10):
            storm.tick()
            time.sleep(0.1)
    return what


def _not_well(product: Product, watch: Watch, before: dict[str, int] | None, begun: float) -> list[str]:
    what = []
    if waiting := len(list((product.folder).glob("home-*/escrow/*.sealed"))):
        what.append(f"{waiting} answers wait in an escrow's folder")
    try:
        if waiting := product.valkey.client.scard("evergrant:escrow"):
            what.append(f"answers of {waiting} owners wait in Valkey")
    except RedisError:
        what.append("Valkey does not answer")
    if not _refreshed(product, before):
        what.append("not everybody was refreshed since")
    if without := watch.without_now():
        what.append(f"{len(without)} owners have no valid access token")
    notes = product.folder / "steps"
    begun_wall = time.time() - (time.monotonic() - begun)
    for worker in product.workers:
        path = notes / f"{worker.name}.log"
        if not path.exists() or path.stat().st_mtime < begun_wall:
            what.append(f"{worker.name} has done nothing since")
    return what


def _attempts(product: Product) -> dict[str, int] | None:
    """Owner to the attempt that the tokens came from, of those that are alive; None when SQL is away."""
    try:
        with product.database.read() as connection:
            rows = connection.execute(
                select(grants.c.owner, grants.c.token_attempt).where(grants.c.state == State.ALIVE)
            )
            return {row.owner: row.token_attempt for row in rows}
    except SQLAlchemyError:
        return None


def _refreshed(product: Product, before: dict[str, int] | None) -> bool:
    """Whether everybody who is alive has other tokens than `before`; None: than those of the sign-in."""
    now = _attempts(product)
    return now is not None and all(number > (before or {}).get(owner, 0) for owner, number in now.items())


def _copy_books(product: Product, books: ledger.Ledger, keep: Path) -> None:
    """The events, what was issued and what was lost, in words: for who looks into a broken promise."""
    keep.mkdir(parents=True, exist_ok=True)
    with product.database.read() as connection:
        lines = [str(row) for row in connection.execute(select(events).order_by(events.c.id))]
    (keep / "events.txt").write_text("\n".join(lines))
    (keep / "books.txt").write_text(
        "\n".join(
            [
                *(f"issued {token} {issued}" for token, issued in books.issued.items()),
                *(f"lost on the way {token} {issued}" for token, issued in books.lost_on_the_way.items()),
                *(
                    f"lost in the window {token} {issued}"
                    for token, issued in books.lost_in_the_window.items()
                ),
                *(
                    f"lost from the store {token} {attempt}"
                    for token, attempt in books.lost_from_the_store.items()
                ),
                *(f"current {owner} {token}" for owner, token in books.current.items()),
                *(f"newest {owner} {token}" for owner, token in books.newest.items()),
            ]
        )
    )
