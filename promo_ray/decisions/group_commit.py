"""One writer thread that commits waiting operations together: one fsync for many callers.

An operation is a function of the connection. Those that wait while a commit is under way share
the next transaction, so a lone caller waits for nobody and many callers share the cost of one
fsync. Each operation is atomic (a savepoint); callers are answered after the commit.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

import apsw

from promo_ray.errors import LedgerError

T = TypeVar("T")
Operation = Callable[[apsw.Connection], T]

_POLL_S = 0.0005  # wait of a process for another's commit; SQLite's own steps reach 100 ms
_FIXED_IN = (3, 51, 3)  # first SQLite without the WAL-reset corruption of several writers


class LedgerUnavailableError(LedgerError):
    """The ledger cannot be read or written at present; nothing was granted."""


def connect(path: str, busy_timeout_s: float) -> apsw.Connection:
    """Connection in WAL mode that makes every commit durable.

    Raises:
        LedgerUnavailableError: the file cannot be opened, or SQLite is too old to share it.
    """
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < _FIXED_IN:
        raise LedgerUnavailableError(
            f"SQLite must be >= 3.51.3 for several writers; apsw brings {version}"
        )
    try:
        db = apsw.Connection(path)
        db.set_busy_handler(_patience(busy_timeout_s))
        _set_wal(db, busy_timeout_s)
        for pragma in ("synchronous = FULL", "secure_delete = ON", "foreign_keys = OFF"):
            db.execute(f"PRAGMA {pragma}")
    except apsw.Error as error:
        raise LedgerUnavailableError(
            f"ledger file must be a writable database; {path}: {error}"
        ) from error
    return db


def _patience(limit_s: float) -> Callable[[int], bool]:
    """Busy handler that polls closely; `limit_s` counts from the first refusal of a statement."""
    started = 0.0

    def wait(n_before: int) -> bool:
        nonlocal started
        if n_before == 0:
            started = time.monotonic()
        time.sleep(_POLL_S)
        return time.monotonic() - started < limit_s

    return wait


def _set_wal(db: apsw.Connection, limit_s: float) -> None:
    """Switch to WAL; SQLite refuses at once, without its busy handler, if another one switches."""
    end = time.monotonic() + limit_s
    while True:
        try:
            mode = db.pragma("journal_mode", "wal")
        except apsw.BusyError:
            if time.monotonic() > end:
                raise
        else:
            if mode == "wal":
                return
            raise LedgerUnavailableError(f"ledger file must be on a local disk; WAL gave {mode!r}")
        time.sleep(_POLL_S)


class _Job(NamedTuple):
    run: Operation[Any]
    future: Future[Any]


class GroupCommit:
    """Runs operations of any thread in shared transactions on its own connection.

    Args:
        open_connection: makes the connection; called once, here.
        first: operation that runs at the start of every transaction.
        max_batch: operations that share one transaction at most.
    """

    def __init__(
        self,
        open_connection: Callable[[], apsw.Connection],
        first: Operation[None],
        max_batch: int = 256,
    ) -> None:
        self._db = open_connection()
        self._first = first
        self._max_batch = max_batch
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._gate = threading.Lock()  # no job may enter the queue after the closing mark
        self._is_closed = False
        self._thread = threading.Thread(target=self._loop, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation[T]) -> Future[T]:
        """Queue an operation; the future is done when it is on disk.

        Raises:
            LedgerUnavailableError: through the future or at once, when nothing was committed.
        """
        future: Future[T] = Future()
        with self._gate:
            if self._is_closed:
                raise LedgerUnavailableError("ledger must be open; it is closed")
            self._jobs.put(_Job(operation, future))
        return future

    def close(self) -> None:
        """Finish what is queued and close the connection; later calls do nothing."""
        with self._gate:
            if not self._is_closed:
                self._is_closed = True
                self._jobs.put(None)
        self._thread.join()

    def _loop(self) -> None:
        is_open = True
        while is_open:
            batch: list[_Job] = []
            job = self._jobs.get()
            while job is not None:
                batch.append(job)
                if len(batch) == self._max_batch:
                    break
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
            is_open = job is not None
            if batch:
                self._commit(batch)
        self._db.close()

    def _commit(self, batch: list[_Job]) -> None:
        answers: list[tuple[bool, Any]] = []
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._first(self._db)
            answers = [self._attempt(job.run) for job in batch]
            self._db.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - every caller is told; the writer must live on
            with contextlib.suppress(apsw.Error):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            failure = LedgerUnavailableError(f"ledger must be writable; {error}")
            answers = [(False, failure)] * len(batch)
        for job, (is_done, answer) in zip(batch, answers, strict=True):
            if not job.future.set_running_or_notify_cancel():
                continue
            if is_done:
                job.future.set_result(answer)
            else:
                job.future.set_exception(answer)

    def _attempt(self, operation: Operation[Any]) -> tuple[bool, Any]:
        try:
            with self._db:
                answer = operation(self._db)
        except apsw.ConstraintError as error:
            return False, LedgerError(f"ledger row must be consistent; {error}")
        except apsw.Error:
            raise
        except Exception as error:  # noqa: BLE001 - handed on to the caller, who raises it
            return False, error
        return True, answer
