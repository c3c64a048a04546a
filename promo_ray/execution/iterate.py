"""The iterate loop: rounds of partial statistics over shards, merged, until a method is done."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

from promo_ray.errors import ConfigError, ConvergenceWarning
from promo_ray.execution.executor import Executor, Resident, SerialExecutor
from promo_ray.telemetry import SILENT, Progress

Shard = TypeVar("Shard", contravariant=True)
State = TypeVar("State")
Stats = TypeVar("Stats")


class ShardedMethod(Protocol[Shard, State, Stats]):
    """Pure functions that make a method run on shards; see `iterate`."""

    def init(self, seed: int) -> State:
        """State before the first round."""
        ...

    def partial(self, shard: Shard, state: State) -> Stats:
        """Statistics of one shard under the present state."""
        ...

    def merge(self, a: Stats, b: Stats) -> Stats:
        """Statistics of two sets of shards together; associative up to rounding."""
        ...

    def update(self, state: State, stats: Stats) -> State:
        """Next state from the statistics of all shards."""
        ...

    def done(self, state: State) -> bool:
        """Whether the state is final."""
        ...


@dataclass(frozen=True)
class IterationResult(Generic[State]):
    """Outcome of `iterate`: the last state, rounds run, and whether the method said done."""

    state: State
    n_iter: int
    converged: bool


def iterate(
    method: ShardedMethod[Any, State, Any],
    shards: Sequence[Any] | Resident[Any],
    executor: Executor | None = None,
    *,
    seed: int = 0,
    max_iter: int = 1000,
    progress: Progress = SILENT,
    stage: str = "iterate",
) -> IterationResult[State]:
    """Run a sharded method to its end.

    Args:
        method: object with `init / partial / merge / update / done`.
        shards: shards, callables that read them, or shards already resident.
        executor: where to run; this process if None.
        seed: handed to `method.init`.
        max_iter: rounds at most, >= 1.
        progress: told the rounds done.
        stage: name in progress messages.

    Returns:
        The same bits for every executor and number of workers.

    Raises:
        ConfigError: no shard, or max_iter < 1.
    """
    if max_iter < 1:
        raise ConfigError(f"max_iter must be >= 1; got {max_iter}")
    is_resident = hasattr(shards, "reduce")
    if is_resident:
        resident = cast(Resident[Any], shards)
    else:
        resident = (executor or SerialExecutor()).load(cast(Sequence[Any], shards))
    if resident.n_shards == 0:
        raise ConfigError("iterate needs at least one shard; got none")
    state = method.init(seed)
    n_iter = 0
    try:
        while n_iter < max_iter and not method.done(state):
            stats = resident.reduce(method.partial, method.merge, state)
            state = method.update(state, stats)
            n_iter += 1
            progress(stage, n_iter)
    finally:
        if not is_resident:
            resident.release()
    converged = method.done(state)
    if not converged:
        warnings.warn(
            f"{type(method).__name__} stopped after {n_iter} rounds before it was done",
            ConvergenceWarning,
            stacklevel=2,
        )
    return IterationResult(state, n_iter, converged)
