"""What an executor is, and the one that runs everything in this process.

An executor loads shards once and keeps them resident; functions then travel to the shards. Results
come back in shard order, and `reduce` merges them in a fixed binary tree, so an answer never
depends on the executor. `promo_ray.distributed.RayExecutor` does the same on a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from promo_ray.execution.cells import Cells, Keeper, SerialCells
from promo_ray.execution.threads import single_threaded
from promo_ray.numerics.merge_tree import Node, partial_merge
from promo_ray.telemetry import SILENT, Progress

R = TypeVar("R")
S_co = TypeVar("S_co", covariant=True)
T = TypeVar("T")


class Resident(Protocol[S_co]):
    """Shards that an executor holds; functions are called as `function(shard, *args)`."""

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        ...

    def map(
        self,
        function: Callable[..., R],
        *args: Any,
        each: Sequence[Any] | None = None,
        progress: Progress = SILENT,
        stage: str = "map",
    ) -> list[R]:
        """Results of `function(shard, *args)` in shard order.

        Args:
            function: picklable; must not change the shard.
            args: sent to every worker once.
            each: one further last argument per shard, if given.
            progress: told the number of shards done.
            stage: name in progress messages.
        """
        ...

    def reduce(self, function: Callable[..., R], merge: Callable[[R, R], R], *args: Any) -> R:
        """Results of `function(shard, *args)` merged in the fixed tree over shards."""
        ...

    def release(self) -> None:
        """Let go of the shards."""
        ...


class Executor(Protocol):
    """Runs functions on shards, and advances cells."""

    @property
    def n_workers(self) -> int:
        """Number of processes that compute."""
        ...

    def load(self, sources: Sequence[Any]) -> Resident[Any]:
        """Make shards resident.

        Args:
            sources: one per shard: a callable without arguments that reads the shard (called in
                the worker, again if the worker was lost), or the shard itself.
        """
        ...

    def cells(
        self, keeper: Callable[[], Keeper], tokens: Sequence[Any], costs: Sequence[float]
    ) -> Cells:
        """Make cells advance in the workers, see `promo_ray.execution.cells`.

        Args:
            keeper: makes the keeper of a worker; picklable, called again if the worker was lost.
            tokens: first token of each cell; None = from the beginning.
            costs: how long a call of each cell takes, in any unit; cells are spread by it.
        """
        ...


def read_source(source: Any) -> Any:
    """The shard of a source: its value if it is callable, else itself."""
    return source() if callable(source) else source


class SerialResident(Generic[T]):
    """Shards in this process."""

    def __init__(self, shards: list[T]) -> None:
        self._shards = shards

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return len(self._shards)

    def map(
        self,
        function: Callable[..., R],
        *args: Any,
        each: Sequence[Any] | None = None,
        progress: Progress = SILENT,
        stage: str = "map",
    ) -> list[R]:
        """See `Resident.map`."""
        results = []
        with single_threaded():
            for i, shard in enumerate(self._shards):
                own = () if each is None else (each[i],)
                results.append(function(shard, *args, *own))
                progress(stage, i + 1, len(self._shards))
        return results

    def reduce(self, function: Callable[..., R], merge: Callable[[R, R], R], *args: Any) -> R:
        """See `Resident.reduce`."""
        nodes: dict[Node, R] = {}
        n_shards = len(self._shards)
        with single_threaded():
            for index, shard in enumerate(self._shards):
                nodes[0, index] = function(shard, *args)
                nodes = partial_merge(nodes, n_shards, merge)
        if not nodes:
            raise ValueError("reduce needs at least one shard; got none")
        (root,) = nodes.values()
        return root

    def release(self) -> None:
        """Let go of the shards."""
        self._shards = []


class SerialExecutor:
    """Runs everything in this process, one shard after another; a debugger works."""

    n_workers = 1

    def load(self, sources: Sequence[Any]) -> SerialResident[Any]:
        """See `Executor.load`."""
        return SerialResident([read_source(source) for source in sources])

    def cells(
        self, keeper: Callable[[], Keeper], tokens: Sequence[Any], costs: Sequence[float]
    ) -> SerialCells:
        """See `Executor.cells`."""
        return SerialCells(keeper(), tokens)
