"""The worker side of `RayExecutor`: a plain class that keeps shards and cells.

Every call carries all that is needed to answer it from nothing. A worker that was killed is
started again by Ray as an empty one, reads the shards it needs anew and repeats the call; no
driver takes part in that.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import ray

from promo_ray.execution.cells import Keeper
from promo_ray.execution.executor import read_source
from promo_ray.execution.threads import single_threaded
from promo_ray.numerics.merge_tree import Node, partial_merge

# libraries that load after the constructor read these; those already loaded obey single_threaded
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Task(NamedTuple):
    """What all workers of one call have in common.

    Attributes:
        function: called as `function(shard, *args)`.
        args: common arguments.
        merge: joins two results; None for a map.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    merge: Callable[[Any, Any], Any] | None = None


class Run(NamedTuple):
    """The consecutive shards of one worker.

    Attributes:
        resident_id: names the set of shards within the executor.
        start: first shard of the run.
        stop: one past its last shard.
        n_shards: shards of the whole set.
        sources: reference to the list of sources of the run. It travels inside this tuple, so
            Ray hands it on as it is and a worker reads it only when shards are missing.
    """

    resident_id: int
    start: int
    stop: int
    n_shards: int
    sources: Any


class CellRun(NamedTuple):
    """A run over cells: its number within the executor, and the reference to what makes keepers."""

    run_id: int
    keeper: Any


class Reply(NamedTuple):
    """What a call of a cell gives back: the answer, the token after it, seconds that it took."""

    answer: Any
    token: Any
    busy_s: float


class ShardHost:
    """Keeps shards by (resident, shard) and runs functions on them, one BLAS thread each."""

    def __init__(self, fetch: Callable[[Any], Sequence[Any]] = ray.get) -> None:
        """Start empty; `fetch` turns the reference of a run into its list of sources."""
        os.environ.update(ONE_THREAD)
        self._fetch = fetch
        self._shards: dict[tuple[int, int], Any] = {}
        self._keepers: dict[int, Keeper] = {}
        self._limits = contextlib.ExitStack()

    def _load(self, run: Run, start: int, stop: int) -> list[Any]:
        keys = [(run.resident_id, index) for index in range(start, stop)]
        missing = [key for key in keys if key not in self._shards]
        if missing:
            sources = self._fetch(run.sources)
            for key in missing:
                self._shards[key] = read_source(sources[key[1] - run.start])
        return [self._shards[key] for key in keys]

    def map(
        self, run: Run, start: int, stop: int, task: Task, each: Sequence[Any] | None
    ) -> list[Any]:
        """Results of the shards [start, stop) of a run, in order; `each` is one value per shard."""
        with single_threaded():
            shards = self._load(run, start, stop)
            if each is None:
                return [task.function(shard, *task.args) for shard in shards]
            pairs = zip(shards, each, strict=True)
            return [task.function(shard, *task.args, own) for shard, own in pairs]

    def reduce(self, run: Run, task: Task) -> dict[Node, Any]:
        """Merged results of the maximal complete subtrees that a run covers.

        Merges as soon as two siblings are there, so a logarithmic number of results is held.

        Raises:
            ValueError: the task has no merge.
        """
        if task.merge is None:
            raise ValueError("reduce needs a task with a merge; got one without")
        nodes: dict[Node, Any] = {}
        with single_threaded():
            for index in range(run.start, run.stop):
                (shard,) = self._load(run, index, index + 1)
                nodes[0, index] = task.function(shard, *task.args)
                nodes = partial_merge(nodes, run.n_shards, task.merge)
        return nodes

    def release(self, resident_id: int) -> None:
        """Let go of the shards of a resident."""
        for key in [key for key in self._shards if key[0] == resident_id]:
            del self._shards[key]

    def advance(self, run: CellRun, cell: int, token: Sequence[Any], order: Any) -> Reply:
        """Advance a cell; `token` is the reference of its last reply, fetched only if needed."""
        started = time.perf_counter()
        keeper = self._keepers.get(run.run_id)
        if keeper is None:
            make: Any = self._fetch(run.keeper)
            keeper = self._keepers[run.run_id] = make()
            # for good: to set and reset the limits at every call takes milliseconds
            self._limits.enter_context(single_threaded())

        def restore() -> Any:
            last: Any = self._fetch(token[0])
            return last.token

        answer = keeper.advance(cell, restore, order)
        return Reply(answer, keeper.token(cell), time.perf_counter() - started)

    def forget(self, run_id: int) -> None:
        """Let go of the cells of a run."""
        self._keepers.pop(run_id, None)

    def ping(self) -> None:
        """Answer, which a worker does once it lives."""


Remote = ray.remote(ShardHost)
