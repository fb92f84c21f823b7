"""The record of what the sandbox saw: the judge of whether Evergrant keeps its promises."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.config import Config
    from sandbox.store import Store

COUNTS = (
    "sign_ins",
    "calls",
    "rotations",
    "overlaps",
    "overlaps_after_hangup",
    "superseded_presented",
    "superseded_after_refusal",
    "reused_in_grace",
    "revoked_presented",
    "expired_presented",
    "answers_cut",
    "answers_undelivered",
)
"""What is counted per owner and summed over all."""


class Call:
    """One call to the token endpoint that is under way."""

    def __init__(self, record: Record, sub: str | None, refresh: bool, gone: Callable[[], bool]) -> None:
        self.sub = sub
        self.refresh = refresh
        self.gone = gone
        self._record = record

    def end(self) -> None:
        """The answer is being handed over. Calling it again changes nothing."""
        self._record.end(self)


class Record:
    """Counts calls, and notices when two for one owner are under way at once. Safe for threads."""

    def __init__(self, store: Store, config: Config) -> None:
        self._store = store
        self._config = config
        self._lock = threading.Lock()
        self._under_way: dict[str, list[Call]] = {}
        self._recent: deque[float] = deque()
        with store.reading() as db:
            row = db.execute("SELECT value FROM totals WHERE name = 'max_calls_per_second'").fetchone()
        self._peak = 0 if row is None else int(row[0])

    def begin(self, sub: str | None, *, refresh: bool, gone: Callable[[], bool]) -> Call:
        """A call whose body has been read. `sub` is None when its token or code is nobody's; `gone` says
        whether its client has hung up, and is asked only while the call is under way."""
        call = Call(self, sub, refresh, gone)
        with self._lock:
            peak = self._rate() if refresh else None
            others = self._under_way.setdefault(sub, []) if sub is not None else []
            refreshes = [other for other in others if other.refresh] if refresh else []
            overlaps = bool(refreshes)
            after_hangup = overlaps and all(other.gone() for other in refreshes)
            others.append(call)
            if sub is not None:
                with self._store.transaction() as db:
                    db.execute(
                        "UPDATE owners SET calls = calls + 1, max_under_way = max(max_under_way, ?),"
                        " overlaps = overlaps + ?, overlaps_after_hangup = overlaps_after_hangup + ?"
                        " WHERE sub = ?",
                        (len(others), overlaps, after_hangup, sub),
                    )
            if peak is not None:
                with self._store.transaction() as db:
                    db.execute("INSERT OR REPLACE INTO totals VALUES ('max_calls_per_second', ?)", (peak,))
        return call

    def end(self, call: Call) -> None:
        with self._lock:
            others = self._under_way.get(call.sub or "", [])
            if call in others:
                others.remove(call)
                if not others:
                    del self._under_way[call.sub or ""]

    def answer_cut(self, sub: str, *, undelivered: bool = False) -> None:
        """A new refresh token was issued and the app did not get it."""
        with self._store.transaction() as db:
            db.execute(
                "UPDATE owners SET answers_cut = answers_cut + 1,"
                " answers_undelivered = answers_undelivered + ? WHERE sub = ?",
                (undelivered, sub),
            )

    def _rate(self) -> int | None:
        """The most refresh calls in any one second, when this one makes it more than before."""
        now = time.monotonic()
        self._recent.append(now)
        while self._recent[0] <= now - 1:
            self._recent.popleft()
        if len(self._recent) <= self._peak:
            return None
        self._peak = len(self._recent)
        return self._peak

    # --- reading it --------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """The whole record, as ``GET /record.json`` answers it::

            {"strict": bool, "reuse_kills_lost_answer": bool, "token_seconds": int,
             "totals": {"owners": n, "alive": n, "revoked": n, "under_way": n,
                        "max_calls_per_second": n, "unknown_presented": n, "overlaps_live": n,
                        every one of COUNTS: n},
             "owners": [{"sub": uuid, "name": str, "region": "NA" | "EU" | "CN",
                         "generation": n | null, "alive": bool, "revoked": bool,
                         "revoked_because": "withdrawn" | "password" | "superseded" | null,
                         "scopes": [str], "under_way": n, "max_under_way": n,
                         "overlaps_live": n, every one of COUNTS: n}, ...]}

        - ``generation``: 0 for the refresh token of the first sign-in, one more for each later one issued,
          be it by rotation or by a new sign-in; null as long as none was issued.
        - ``alive``: the family of the last sign-in exists and is not revoked.
        - ``sign_ins``: codes exchanged. ``calls``: token calls that could be traced to this owner,
          whatever was answered. ``rotations``: refresh tokens issued for an earlier one.
        - ``overlaps``: refreshes that began while another of the owner's was under way (a sign-in is none). A
          call is under way from when its body has been read until its answer is handed over (for a dripped
          one, until its last byte), even if the client hung up. ``overlaps_after_hangup``: those of them
          where all the others' clients had hung up: an app that gave up and tried again.
          ``overlaps_live``: the rest, two live calls at once. ``max_under_way``: the most at the same moment.
        - ``superseded_presented``: refused because a newer token had been used.
          ``superseded_after_refusal``: the same, but a fault had refused the newest token, so that trying
          an older one was in good faith (strict mode revokes the family nevertheless).
          ``reused_in_grace``: the most recently used token again, within its 24 h.
          ``revoked_presented``, ``expired_presented``: any token of a revoked family; one past 3 months.
          ``unknown_presented``: never issued here.
        - ``answers_cut``: answers that carried a new refresh token and were spoilt by a fault or whose
          client had hung up; ``answers_undelivered`` are the latter.
        - ``max_calls_per_second``: the most refresh calls in any window of one second.
        """
        owners = self.owners()
        totals: dict[str, int] = {name: sum(owner[name] for owner in owners) for name in COUNTS}
        totals["overlaps_live"] = sum(owner["overlaps_live"] for owner in owners)
        totals["owners"] = len(owners)
        totals["alive"] = sum(owner["alive"] for owner in owners)
        totals["revoked"] = sum(owner["revoked"] for owner in owners)
        totals["under_way"] = sum(owner["under_way"] for owner in owners)
        with self._store.reading() as db:
            stored = {row["name"]: int(row["value"]) for row in db.execute("SELECT * FROM totals")}
        totals["unknown_presented"] = stored.get("unknown_presented", 0)
        totals["max_calls_per_second"] = stored.get("max_calls_per_second", 0)
        return {
            "strict": self._config.strict,
            "reuse_kills_lost_answer": self._config.reuse_kills_lost_answer,
            "token_seconds": self._config.token_seconds,
            "totals": totals,
            "owners": owners,
        }

    def owners(self) -> list[dict[str, Any]]:
        """Each owner as in `snapshot`, by name."""
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT owners.*, scopes, revoked_at, revoked_because FROM owners"
                " LEFT JOIN families ON family = id ORDER BY name, sub"
            ).fetchall()
        with self._lock:
            under_way = {sub: len(calls) for sub, calls in self._under_way.items()}
        return [
            {
                "sub": row["sub"],
                "name": row["name"],
                "region": row["region"],
                "generation": row["generation"],
                "alive": row["family"] is not None and row["revoked_at"] is None,
                "revoked": row["revoked_at"] is not None,
                "revoked_because": row["revoked_because"],
                "scopes": (row["scopes"] or "").split(),
                "under_way": under_way.get(row["sub"], 0),
                "max_under_way": row["max_under_way"],
                "overlaps_live": row["overlaps"] - row["overlaps_after_hangup"],
                **{name: row[name] for name in COUNTS},
            }
            for row in rows
        ]
