"""States that stay in workers: each call advances one cell and answers with little.

A map sends functions to shards that never change. Cells do change: a call to a cell starts from
what its last call left behind. So that a worker may be lost, the keeper can turn a cell into a
token, and take any cell up again from its last token: a call that was lost is repeated, elsewhere
if need be, with the same result. `promo_ray.distributed.RayExecutor` does the same on a cluster.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from promo_ray.execution.threads import single_threaded


class Keeper(Protocol):
    """Lives in a worker, which computes on one thread, and keeps the cells advanced there."""

    def advance(self, cell: int, restore: Callable[[], Any], order: Any) -> Any:
        """Answer of one call; must be a pure function of the cell's last token and the order.

        Args:
            cell: number of the cell.
            restore: its last token, fetched when called; needed if the keeper does not hold the
                cell as it was after that token. None before the first call of a cell.
            order: what to do.
        """
        ...

    def token(self, cell: int) -> Any:
        """What another keeper needs to go on with the cell; picklable, not changed later."""
        ...


class Done(NamedTuple):
    """Answer of one call.

    Attributes:
        cell: which cell.
        answer: what its keeper returned.
        busy_s: seconds that the worker was occupied with it.
    """

    cell: int
    answer: Any
    busy_s: float


class Cells(Protocol):
    """Cells that an executor holds; at most one call of a cell is under way."""

    def submit(self, cell: int, order: Any) -> None:
        """Send an order to a cell and return at once."""
        ...

    def collect(self) -> list[Done]:
        """Wait for at least one answer; all that are there, in the order of their cells."""
        ...

    def release(self) -> None:
        """Let go of the cells."""
        ...


class SerialCells:
    """Cells in this process; orders are computed one after another when answers are wanted."""

    def __init__(self, keeper: Keeper, tokens: Sequence[Any]) -> None:
        self._keeper = keeper
        self._limits = contextlib.ExitStack()  # until release: to set them takes milliseconds
        self._limits.enter_context(single_threaded())
        self._tokens = list(tokens)
        self._orders: deque[tuple[int, Any]] = deque()

    def submit(self, cell: int, order: Any) -> None:
        """See `Cells.submit`."""
        self._orders.append((cell, order))

    def collect(self) -> list[Done]:
        """See `Cells.collect`; computes the order that has waited longest."""
        cell, order = self._orders.popleft()
        started = time.perf_counter()
        # nothing gets lost within a process: the first token is the only one ever needed
        answer = self._keeper.advance(cell, lambda: self._tokens[cell], order)
        self._tokens[cell] = None
        return [Done(cell, answer, time.perf_counter() - started)]

    def release(self) -> None:
        """See `Cells.release`."""
        self._limits.close()
        self._orders.clear()
        self._tokens = []
