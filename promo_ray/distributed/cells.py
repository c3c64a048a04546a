"""Cells on the actors of a `RayExecutor`: islands that stay in their workers.

A call carries the reference of the cell's last token, so any actor can answer it. When an actor is
lost its calls go to the others at once, and come home when Ray has started it anew. The driver
fetches every reply: a copy of each token lies on the driver's node even if the worker's is lost.
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
        self._calls: dict[Any, _Call] = {}
        self._awaited: dict[Any, int] = {}  # pings of lost workers
        self._dead: set[int] = set()

    def submit(self, cell: int, order: Any) -> None:
        """See `Cells.submit`."""
        lost = self._dead.union(self._awaited.values())
        present = [w for w in range(len(self._actors)) if w not in lost]
        home = self._homes[cell]
        if present and home in lost:
            busy = [call.worker for call in self._calls.values()]
            home = min(present, key=lambda w: (busy.count(w), w))
        # with nobody else to ask, Ray repeats the call itself when a worker is back
        n_retries = 0 if len(present) > 1 else -1
        call = self._actors[home].advance.options(max_task_retries=n_retries)
        reference = call.remote(self._run, cell, [self._replies[cell]], order)
        self._calls[reference] = _Call(cell, home, order)

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
        return sorted(found, key=lambda done: done.cell)

    def _answer(self, reference: Any) -> Done | None:
        """The answer of a call; None if it was lost and has been sent again."""
        call = self._calls.pop(reference)
        try:
            reply: Reply = ray.get(reference)
        except (RayActorError, ObjectLostError) as error:
            self._lose(call.worker, error)
            self.submit(call.cell, call.order)
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
        lost = self._dead.union(self._awaited.values())
        present = [actor for w, actor in enumerate(self._actors) if w not in lost]
        waits = [actor.forget.remote(self._run.run_id) for actor in present]
        if waits:
            ray.wait(waits, num_returns=len(waits), timeout=_RELEASE_S)
        self._calls, self._awaited, self._replies = {}, {}, []


def _spread(costs: Sequence[float], n_workers: int) -> list[int]:
    """Worker of each cell: the longest first, each to the one with least to do."""
    homes, loads = [0] * len(costs), [0.0] * n_workers
    for cell in sorted(range(len(costs)), key=lambda c: (-costs[c], c)):
        homes[cell] = min(range(n_workers), key=lambda w: (loads[w], w))
        loads[homes[cell]] += costs[cell]
    return homes
