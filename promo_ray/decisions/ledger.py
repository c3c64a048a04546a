"""The embedded ledger: exact budgets and the record of every decision, in one SQLite file.

One writer thread per process commits in groups (WAL, synchronous=FULL) and answers after the
commit; several processes on one machine may open the same file. If it cannot write it grants
nothing. Keep the file on a local disk.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import apsw
import numpy as np
import orjson
from numpy.typing import NDArray

from promo_ray.decisions import accounts, feedback
from promo_ray.decisions.accounts import Entry, LedgerMissingError, Receipt, State, row_of, rows_of
from promo_ray.decisions.feedback import Feedback, FeedbackStatus
from promo_ray.decisions.group_commit import GroupCommit, LedgerUnavailableError, connect
from promo_ray.decisions.schema import SCHEMA, SCHEMA_VERSION

T = TypeVar("T")

_ANSWERS_S = 86400.0  # an idempotency key holds for a day
_PENDING_S = 7 * 86400.0  # an event waits a week for its decision
_DROP_EVERY_S = 60.0


class Room(NamedTuple):
    """What a decision must know of the accounts before it chooses.

    Attributes:
        is_paused: the campaign makes no offers now.
        left: minor units that are still free, by budget.
        uses: `(n,)` int64 offers that each user holds in the cap's window.
        is_erased: `(n,)` bool, the user asked to be forgotten.
    """

    is_paused: bool
    left: Mapping[str, int]
    uses: NDArray[np.int64]
    is_erased: NDArray[np.bool_]


class BudgetLine(NamedTuple):
    """One budget of a campaign, int minor units."""

    campaign: str
    name: str
    total: int
    confirmed: int
    reserved: int


class Record(NamedTuple):
    """A stored decision: the body that was answered, its reservation, and what came of it."""

    body: bytes
    state: State
    feedback: Mapping[str, int]  # events by type


class Ledger:
    """Budgets, reservations, caps, decisions and feedback of every campaign.

    Args:
        path: database file; made if absent.
        clock: seconds since 1970; the only time that rules use.
        busy_timeout_s: wait for another process's commit before giving up.

    Raises:
        LedgerUnavailableError: the file cannot be opened, is no ledger, or is a newer one.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        clock: Callable[[], float] = time.time,
        busy_timeout_s: float = 5.0,
    ) -> None:
        self.path = str(path)
        self._clock = clock
        self._drop_at = time.monotonic()
        open_connection = functools.partial(_open, self.path, busy_timeout_s)
        self._writer = GroupCommit(open_connection, self._keep_house)
        self._reader = connect(self.path, busy_timeout_s)
        self._reading = threading.Lock()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Commit what is queued and close the file; calls after it fail."""
        self._writer.close()
        with self._reading:
            self._reader.close()

    # grants

    def declare(self, campaign: str, totals: Mapping[str, int]) -> None:
        """Enter a campaign with its budgets in minor units, or change their totals."""
        self._write(lambda db: accounts.declare(db, campaign, totals))

    def submit(self, entries: Sequence[Entry]) -> Future[list[Receipt]]:
        """Enter decisions, all or none; the future is done when they are on disk.

        Raises:
            LedgerConflictError: (in the future) an idempotency key came with another request.
            LedgerUnavailableError: the ledger cannot be written; nothing was granted.
        """
        wanted = list(entries)

        def run(db: apsw.Connection) -> list[Receipt]:
            known = accounts.find_answers(db, wanted)
            now_s = self._clock()
            receipts = []
            for entry in wanted:
                if entry.answer_key in known:
                    receipts.append(Receipt(None, known[entry.answer_key]))
                    continue
                receipts.append(accounts.enter(db, entry, now_s))
                feedback.adopt_pending(db, entry.decision_id, entry.campaign)
            return receipts

        return self._writer.submit(run)

    def reserve(self, entry: Entry) -> Receipt:
        """Enter one decision and wait for it; see `submit`."""
        return self.submit([entry]).result()[0]

    def confirm(self, decision_id: str) -> State:
        """Spend what a decision holds; `UNFUNDED` if it was released and the budget is gone."""
        return self._settle(decision_id, State.CONFIRMED)

    def release(self, decision_id: str) -> State:
        """Give back what a decision holds, unless it was confirmed."""
        return self._settle(decision_id, State.RELEASED)

    def _settle(self, decision_id: str, wanted: State) -> State:
        state = self._write(lambda db: accounts.settle(db, decision_id, wanted))
        if state is None:
            raise LedgerMissingError(f"decision must be in the ledger; got {decision_id!r}")
        return state

    # feedback and users

    def submit_feedback(self, events: Sequence[Feedback]) -> Future[list[FeedbackStatus]]:
        """Record events, each at most once by its `event_id`; done when they are on disk."""
        wanted = list(events)
        return self._writer.submit(
            lambda db: [feedback.book(db, event, self._clock()) for event in wanted]
        )

    def record_feedback(self, events: Sequence[Feedback]) -> list[FeedbackStatus]:
        """Record events and wait; see `submit_feedback`."""
        return self.submit_feedback(events).result()

    def erase(self, user_key: int) -> int:
        """Forget a user: decisions lose body and key, accounts stay; see `accounts.erase`."""
        n_cut = self._write(lambda db: accounts.erase(db, user_key))
        # the log keeps the old pages until it is emptied; while others read, they will do it
        with contextlib.suppress(apsw.Error), contextlib.closing(connect(self.path, 0.2)) as db:
            db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        return n_cut

    # campaigns and settings

    def pause(self, campaign: str) -> None:
        """Stop every process's offers of a campaign; holds from the moment this returns."""
        self._set_paused(campaign, is_paused=True)

    def resume(self, campaign: str) -> None:
        """Let a paused campaign make offers again."""
        self._set_paused(campaign, is_paused=False)

    def _set_paused(self, campaign: str, *, is_paused: bool) -> None:
        def run(db: apsw.Connection) -> int:
            sql = "UPDATE campaigns SET is_paused = ? WHERE campaign = ?"
            db.execute(sql, (int(is_paused), campaign))
            return db.changes()

        if not self._write(run):
            raise LedgerMissingError(f"campaign must be in the ledger; got {campaign!r}")

    def put_setting(self, name: str, value: Any) -> None:
        """Store a JSON value that all processes on this ledger share."""
        text = orjson.dumps(value).decode()
        self._write(lambda db: _store_setting(db, name, text))

    def setting(self, name: str) -> Any:
        """Value of a setting; None if it was never stored."""
        row = self._read("SELECT value FROM settings WHERE name = ?", name)
        return orjson.loads(row[0][0]) if row else None

    # reading

    def room(
        self, campaign: str, user_keys: Sequence[int], *, max_uses: int = 0, window_s: float = 0.0
    ) -> Room:
        """State of the accounts for a choice; `submit` judges again under the lock."""
        since_us = accounts.microseconds(self._clock() - window_s)
        n = len(user_keys)
        uses, is_erased = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.bool_)

        def run(db: apsw.Connection) -> Room:
            row = row_of(db, "SELECT is_paused FROM campaigns WHERE campaign = ?", campaign)
            sql = "SELECT name, total - confirmed - reserved FROM budgets WHERE campaign = ?"
            left = {name: amount for name, amount in rows_of(db, sql, campaign)}
            if row_of(db, "SELECT 1 FROM erased LIMIT 1"):
                sql = "SELECT 1 FROM erased WHERE user_key = ?"
                is_erased[:] = [row_of(db, sql, key) is not None for key in user_keys]
            if max_uses:
                uses[:] = [accounts.count_uses(db, campaign, k, since_us) for k in user_keys]
            return Room(bool(row and row[0]), left, uses, is_erased)

        return self._reading_with(run)

    def find(self, decision_id: str) -> Record | None:
        """A stored decision; None if it is unknown or was erased."""
        rows = self._read("SELECT body, state FROM decisions WHERE decision_id = ?", decision_id)
        if not rows or rows[0][0] is None:
            return None
        counts = self._read(
            "SELECT type, count(*) FROM feedback WHERE decision_id = ? GROUP BY type ORDER BY type",
            decision_id,
        )
        return Record(rows[0][0], State(rows[0][1]), dict(counts))

    def budgets(self, campaign: str | None = None) -> list[BudgetLine]:
        """Every budget, or those of one campaign."""
        columns = "campaign, name, total, confirmed, reserved"
        rows = self._read(f"SELECT {columns} FROM budgets ORDER BY campaign, name")
        lines = [BudgetLine(*row) for row in rows]
        return [line for line in lines if campaign in (None, line.campaign)]

    def counters(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Events and their value in minor units by (campaign, name), `unfunded` among them."""
        rows = self._read("SELECT campaign, name, n, total FROM counters")
        counters = {(campaign, name): (n, total) for campaign, name, n, total in rows}
        rows = self._read("SELECT campaign, count(*) FROM decisions WHERE state = 4 GROUP BY 1")
        return counters | {(campaign, "unfunded"): (n, 0) for campaign, n in rows}

    def count_decisions(self) -> int:
        """Decisions on record; reads the whole table."""
        return int(self._read("SELECT count(*) FROM decisions")[0][0])

    # inner

    def _keep_house(self, db: apsw.Connection) -> None:
        now_s = self._clock()
        accounts.release_expired(db, now_s)
        if time.monotonic() >= self._drop_at:
            feedback.drop_old(db, now_s, _ANSWERS_S, _PENDING_S)
            self._drop_at = time.monotonic() + _DROP_EVERY_S

    def _write(self, operation: Callable[[apsw.Connection], T]) -> T:
        return self._writer.submit(operation).result()

    def _read(self, sql: str, *bindings: Any) -> list[tuple[Any, ...]]:
        return self._reading_with(lambda db: rows_of(db, sql, *bindings))

    def _reading_with(self, operation: Callable[[apsw.Connection], T]) -> T:
        try:
            with self._reading:
                return operation(self._reader)
        except apsw.Error as error:
            raise LedgerUnavailableError(f"ledger must be readable; {error}") from error


def _store_setting(db: apsw.Connection, name: str, text: str) -> None:
    sql = "INSERT INTO settings VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
    db.execute(sql, (name, text))


def _open(path: str, busy_timeout_s: float) -> apsw.Connection:
    """Connection for writing, tables made."""
    db = connect(path, busy_timeout_s)
    try:
        db.execute("BEGIN IMMEDIATE")
        version = db.pragma("user_version")
        if version == 0:
            db.execute(SCHEMA)
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")
    except apsw.Error as error:
        raise LedgerUnavailableError(f"ledger file must be a ledger; {path}: {error}") from error
    if version > SCHEMA_VERSION:
        raise LedgerUnavailableError(
            f"ledger {path} must have version <= {SCHEMA_VERSION}; got {version}"
        )
    return db
