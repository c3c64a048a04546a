"""The executor on a Ray cluster: actors own consecutive shards, only results travel.

Answers are the bytes of `SerialExecutor` for any number of workers: results come back in shard
order, and merges follow the fixed tree. An actor that dies is restarted by Ray and repeats its
calls, each of which carries the references to its shards' sources (see `worker`); so functions
must be pure, as the loops of `promo_ray.execution` require anyway.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import ray
from ray.exceptions import RayActorError, RayTaskError

from promo_ray.distributed.cells import RayCells
from promo_ray.distributed.worker import Remote, Run, Task
from promo_ray.errors import ConfigError, PromoRayError
from promo_ray.execution.cells import Keeper
from promo_ray.execution.threads import single_threaded
from promo_ray.numerics.merge_tree import Node, partial_merge
from promo_ray.telemetry import SILENT, Progress

logger = logging.getLogger(__name__)

R = TypeVar("R")
T = TypeVar("T")

_MAX_RESTARTS = 20  # an actor lost so often is killed by its own work, most likely for memory
_CHUNKS_PER_WORKER = 8  # calls a map is cut into per worker: progress and bounded memory


def fetch(references: Any) -> Any:
    """Values of object references; an error of a user function is raised as itself.

    Ray wraps errors of workers in a type of its own. The original one is raised here, with its
    fields, and Ray's text with the worker's traceback as its cause.
    """
    try:
        return ray.get(references)
    except RayTaskError as error:
        if isinstance(error.cause, BaseException) and not isinstance(error.cause, RayTaskError):
            raise error.cause from error
        raise
    except RayActorError as error:
        raise PromoRayError(
            f"a worker must survive its work; it died {_MAX_RESTARTS + 1} times, which memory "
            "usually explains: take more memory per worker or fewer workers"
        ) from error


class _Chunk(NamedTuple):
    worker: int
    start: int
    stop: int


class RayResident(Generic[T]):
    """Shards in the actors of a `RayExecutor`; made by `RayExecutor.load`."""

    def __init__(
        self, actors: Sequence[Any], runs: Sequence[Run], n_shards: int, max_in_flight: int
    ) -> None:
        self._actors = actors
        self._runs = runs
        self._n_shards = n_shards
        self._max_in_flight = max_in_flight

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return self._n_shards

    def map(
        self,
        function: Callable[..., R],
        *args: Any,
        each: Sequence[Any] | None = None,
        progress: Progress = SILENT,
        stage: str = "map",
    ) -> list[R]:
        """See `Resident.map`; shards are read by the first call that needs them."""
        if each is not None and len(each) != self._n_shards:
            raise ValueError(f"each must have {self._n_shards} values; got {len(each)}")
        task = ray.put(Task(function, args))
        results: list[list[R]] = [[] for _ in range(self._n_shards)]
        waiting = [self._chunks(worker) for worker in range(len(self._runs))]
        pending: dict[Any, _Chunk] = {}

        def submit(worker: int) -> None:
            chunk = next(waiting[worker], None)
            if chunk is not None:
                run, (_, start, stop) = self._runs[worker], chunk
                own = None if each is None else each[start:stop]
                pending[self._actors[worker].map.remote(run, start, stop, task, own)] = chunk

        for worker in list(range(len(self._runs))) * self._max_in_flight:
            submit(worker)
        done = 0
        while pending:
            (ready,), _ = ray.wait(list(pending), num_returns=1)
            chunk = pending.pop(ready)
            results[chunk.start] = fetch(ready)
            submit(chunk.worker)
            done += chunk.stop - chunk.start
            progress(stage, done, self._n_shards)
        return list(itertools.chain.from_iterable(results))

    def _chunks(self, worker: int) -> Iterator[_Chunk]:
        run = self._runs[worker]
        size = max(1, -(-(run.stop - run.start) // _CHUNKS_PER_WORKER))
        for start in range(run.start, run.stop, size):
            yield _Chunk(worker, start, min(start + size, run.stop))

    def reduce(self, function: Callable[..., R], merge: Callable[[R, R], R], *args: Any) -> R:
        """See `Resident.reduce`; each worker sends the roots of its complete subtrees only."""
        if not self._runs:
            raise ValueError("reduce needs at least one shard; got none")
        task = ray.put(Task(function, args, merge))
        pairs = zip(self._actors, self._runs, strict=False)
        nodes: dict[Node, R] = {}
        for part in fetch([actor.reduce.remote(run, task) for actor, run in pairs]):
            nodes.update(part)
        with single_threaded():
            (root,) = partial_merge(nodes, self._n_shards, merge).values()
        return root

    def release(self) -> None:
        """Let go of the shards, in the actors and in the object store."""
        pairs = zip(self._actors, self._runs, strict=False)
        # waited for: a call still under way when its actor ends would be reported as an error
        fetch([actor.release.remote(run.resident_id) for actor, run in pairs])
        self._runs = ()
        self._n_shards = 0


class RayExecutor:
    """Runs functions on shards that Ray actors hold; open a `session` first.

    Works as a context manager, which closes it at the end.
    """

    def __init__(
        self,
        n_workers: int | None = None,
        *,
        num_cpus_per_worker: float = 1.0,
        num_gpus_per_worker: float = 0.0,
        max_in_flight_per_worker: int = 2,
    ) -> None:
        """Start the actors.

        Args:
            n_workers: actors, >= 1; as many as the cluster's CPUs allow if None. More than fit
                wait until the cluster has grown.
            num_cpus_per_worker: logical CPUs that each actor reserves, > 0; fractions allowed.
            num_gpus_per_worker: GPUs that each actor reserves, >= 0; fractions allowed.
            max_in_flight_per_worker: calls of a map sent to an actor and not yet answered, >= 1.

        Raises:
            ConfigError: a number is out of range, or there is no Ray session.
        """
        if not ray.is_initialized():
            raise ConfigError("RayExecutor needs a Ray session; open promo_ray.distributed.session")
        if num_cpus_per_worker <= 0 or num_gpus_per_worker < 0 or max_in_flight_per_worker < 1:
            raise ConfigError(
                "num_cpus_per_worker > 0, num_gpus_per_worker >= 0 and max_in_flight_per_worker "
                f">= 1 must hold; got {num_cpus_per_worker}, {num_gpus_per_worker}, "
                f"{max_in_flight_per_worker}"
            )
        n_cpus = float(ray.cluster_resources().get("CPU", 0.0))
        if n_workers is None:
            n_workers = max(1, int(n_cpus / num_cpus_per_worker))
        if n_workers < 1:
            raise ConfigError(f"n_workers must be >= 1; got {n_workers}")
        if n_workers * num_cpus_per_worker > n_cpus:
            text = "%d workers of %g CPUs wait for the cluster to grow; it has %g CPUs now"
            logger.warning(text, n_workers, num_cpus_per_worker, n_cpus)
        options = Remote.options(
            num_cpus=num_cpus_per_worker,
            num_gpus=num_gpus_per_worker,
            max_restarts=_MAX_RESTARTS,
            max_task_retries=-1,
        )
        self._actors = [options.remote() for _ in range(n_workers)]
        self._max_in_flight = max_in_flight_per_worker
        self._resident_ids = itertools.count()

    @property
    def n_workers(self) -> int:
        """Number of actors."""
        return len(self._actors)

    def load(self, sources: Sequence[Any]) -> RayResident[Any]:
        """See `Executor.load`; actors read their shards when a function first needs them.

        Raises:
            ConfigError: the executor is closed.
        """
        if not self._actors:
            raise ConfigError("RayExecutor must be open to load shards; it was closed")
        resident_id, n = next(self._resident_ids), len(sources)
        n_runs = min(n, len(self._actors))
        bounds = [n * i // n_runs for i in range(n_runs)] + [n] if n else []
        runs = [
            Run(resident_id, start, stop, n, ray.put(list(sources[start:stop])))
            for start, stop in itertools.pairwise(bounds)
        ]
        return RayResident(self._actors[:n_runs], runs, n, self._max_in_flight)

    def cells(
        self, keeper: Callable[[], Keeper], tokens: Sequence[Any], costs: Sequence[float]
    ) -> RayCells:
        """See `Executor.cells`.

        Raises:
            ConfigError: the executor is closed.
        """
        if not self._actors:
            raise ConfigError("RayExecutor must be open to advance cells; it was closed")
        return RayCells(self._actors, next(self._resident_ids), keeper, tokens, costs, fetch)

    def close(self) -> None:
        """End the actors; what they hold is gone."""
        if ray.is_initialized():  # else they ended with their session
            for actor in self._actors:
                ray.kill(actor)
        self._actors = []

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
