"""Cells on the actors of a `RayExecutor`: islands that stay in their workers.

A worker computes one cell at a time. When it is free it takes a cell that it knows, or else one
that waits for a busy worker: a call carries the reference of the cell's last token, so any actor
can answer it. So nobody waits behind a slow cell while a worker is free, and when an actor is lost
its cells go on elsewhere at once. The driver fetches every reply: a copy of each token lies on the
driver's node even if the worker's node is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import ray
from ray.exceptions import ObjectLostError, RayActorError

from promo_ray.distributed.worker import CellRun, Reply
from promo_ray.errors import PromoRayError
from promo_ray.execution.cells import Done, Keeper

logger = logging.getLogger(__name__)

_RELEASE_S = 10.0


class _Call(NamedTuple):
    cell: int
    worker: int
    order: Any


class RayCells:
    """Cells of one run; made by `RayExecutor.cells`."""

    def __init__(
        self,
        actors: Sequence[Any],
        run_id: int,
        keeper: Callable[[], Keeper],
        tokens: Sequence[Any],
        costs: Sequence[float],
        fetch: Callable[[Any], Any],
    ) -> None:
        self._actors = actors
        self._run = CellRun(run_id, ray.put(keeper))
        self._replies = [ray.put(Reply(None, token, 0.0)) for token in tokens]
        self._homes = _spread(costs, len(actors))
        self._fetch = fetch
        self._waiting: list[tuple[int, Any]] = []
        self._calls: dict[Any, _Call] = {}
        self._awaited: dict[Any, int] = {}  # pings of lost workers
        self._dead: set[int] = set()

    def submit(self, cell: int, order: Any) -> None:
        """See `Cells.submit`."""
        self._waiting.append((cell, order))
        self._dispatch()

    def _present(self) -> list[int]:
        lost = self._dead.union(self._awaited.values())
        return [w for w in range(len(self._actors)) if w not in lost]

    def _dispatch(self) -> None:
        """Give free workers cells that wait: their own first, then those of others."""
        busy = {call.worker for call in self._calls.values()}
        free = [w for w in self._present() if w not in busy]
        for is_home in (True, False):
            for cell, order in list(self._waiting):
                worker = self._homes[cell] if is_home else next(iter(free), None)
                if worker in free:
                    free.remove(worker)
                    self._waiting.remove((cell, order))
                    self._send(cell, worker, order)

    def _send(self, cell: int, worker: int, order: Any) -> None:
        self._homes[cell] = worker
        # lost calls are sent again from here, to whoever is free
        call = self._actors[worker].advance.options(max_task_retries=0)
        reference = call.remote(self._run, cell, [self._replies[cell]], order)
        self._calls[reference] = _Call(cell, worker, order)

    def collect(self) -> list[Done]:
        """See `Cells.collect`."""
        found: list[Done] = []
        while not found:
            waiting = [*self._calls, *self._awaited]
            ray.wait(waiting, num_returns=1)
            ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
            for reference in ready:
                if reference in self._awaited:
                    self._welcome(reference)
                elif (done := self._answer(reference)) is not None:
                    found.append(done)
            self._dispatch()
        return sorted(found, key=lambda done: done.cell)

    def _answer(self, reference: Any) -> Done | None:
        """The answer of a call; None if it was lost and has been sent again."""
        call = self._calls.pop(reference)
        try:
            reply: Reply = ray.get(reference)
        except (RayActorError, ObjectLostError) as error:
            self._lose(call.worker, error)
            self._waiting.insert(0, (call.cell, call.order))
            return None
        except ray.exceptions.RayTaskError:
            reply = self._fetch(reference)  # raises the error of the worker as itself
        self._replies[call.cell] = reference
        return Done(call.cell, reply.answer, reply.busy_s)

    def _lose(self, worker: int, error: Exception) -> None:
        if worker in self._dead or worker in self._awaited.values():
            return
        logger.warning("worker %d was lost (%s); its cells go on", worker, type(error).__name__)
        ping = self._actors[worker].ping.options(max_task_retries=-1).remote()
        self._awaited[ping] = worker

    def _welcome(self, ping: Any) -> None:
        """A lost worker is back, or will never be."""
        worker = self._awaited.pop(ping)
        try:
            ray.get(ping)
        except RayActorError as error:
            self._dead.add(worker)
            if len(self._dead) == len(self._actors):
                raise PromoRayError(
                    "a worker must survive its work; all died again and again, which memory "
                    "usually explains: take more memory per worker or fewer workers"
                ) from error

    def release(self) -> None:
        """Let go of the cells; waits for calls under way, but not for long."""
        waits = [self._actors[w].forget.remote(self._run.run_id) for w in self._present()]
        if waits:
            ray.wait(waits, num_returns=len(waits), timeout=_RELEASE_S)
        self._waiting, self._calls, self._awaited, self._replies = [], {}, {}, []


def _spread(costs: Sequence[float], n_workers: int) -> list[int]:
    """Worker of each cell: the longest first, each to the one with least to do."""
    homes, loads = [0] * len(costs), [0.0] * n_workers
    for cell in sorted(range(len(costs)), key=lambda c: (-costs[c], c)):
        homes[cell] = min(range(n_workers), key=lambda w: (loads[w], w))
        loads[homes[cell]] += costs[cell]
    return homes
