"""Islands of population methods on the island loop of `execution`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from promo_ray.errors import ConfigError
from promo_ray.execution import Executor, run_islands
from promo_ray.execution.islands import IslandState, Migrants
from promo_ray.optimizers.population import (
    Optimizer,
    from_arrays,
    to_arrays,
)
from promo_ray.optimizers.search import Fitness, SearchResult, describe, resolve_method, step
from promo_ray.optimizers.space import SearchSpace, pick_device
from promo_ray.telemetry import SILENT, Progress


@dataclass(frozen=True, kw_only=True)
class PopulationIsland:
    """An optimizer as an island: states are NumPy arrays, the problem is a fitness callable.

    Attributes:
        method: the optimizer.
        space: where it searches.
        device: `cpu`, `cuda` or `auto`; resolved in the worker.
        is_double: float64 instead of float32.
        key: what else the search depends on; a checkpoint of another key is refused.
        x0: `(n, genes)` individuals to start from, or None.
    """

    method: Optimizer[Any]
    space: SearchSpace
    device: str = "cpu"
    is_double: bool = False
    key: str = ""
    x0: NDArray[np.float64] | None = field(default=None, repr=False, compare=False)

    def init(self, problem: Any, seed: int, index: int) -> IslandState:
        """See `execution.islands.Island`."""
        dtype = torch.float64 if self.is_double else torch.float32
        device = pick_device(self.device)
        state = self.method.init(self.space, seed, device, dtype, island=index, x0=self.x0)
        return to_arrays(state)

    def step(self, problem: Any, state: IslandState, n_generations: int) -> IslandState:
        """See `execution.islands.Island`."""
        tensors = self._read(state)
        for _ in range(n_generations):
            tensors = step(self.method, tensors, problem)
        return to_arrays(tensors)

    def emigrants(self, state: IslandState, n: int) -> Migrants:
        """Copies of the best; what is not feasible or not finite leaves with fitness -inf."""
        best = self.method.ranked(self._read(state))
        fitness = torch.where(best.violation[:n] == 0, best.fitness[:n], -torch.inf)
        return Migrants(best.x[:n].cpu().numpy(), fitness.cpu().numpy())

    def immigrate(self, state: IslandState, migrants: Migrants) -> IslandState:
        """Take migrants in for the worst; those with fitness -inf stay out."""
        welcome = np.isfinite(migrants.fitness)
        if not welcome.any():
            return state
        tensors = self._read(state)
        device = pick_device(self.device)
        x = torch.from_numpy(migrants.x[welcome]).to(device)
        fitness = torch.from_numpy(migrants.fitness[welcome]).to(device)
        return to_arrays(self.method.replace_worst(tensors, x, fitness))

    def summary(self, state: IslandState) -> dict[str, float]:
        """See `execution.islands.Island`."""
        n_evals = self._read(state).clock.generation * self.method.size(self.space)
        return describe(self.method.ranked(self._read(state)), self.space, n_evals)

    def _read(self, state: IslandState) -> Any:
        return from_arrays(self.method.state_class, state, self.space, pick_device(self.device))


@dataclass(frozen=True)
class _Given:
    """Source of an island's problem: hands over the fitness itself."""

    fitness: Fitness

    def __call__(self) -> Fitness:
        return self.fitness


def optimize_islands(
    fitness: Fitness | None,
    space: SearchSpace,
    islands: Sequence[str | Optimizer[Any]] = ("ga", "pso", "ga", "pso"),
    max_evals: int = 100_000,
    *,
    build: Callable[[], Fitness] | None = None,
    migrate_every: int = 10,
    n_migrants: int = 2,
    seed: int = 0,
    x0: ArrayLike | None = None,
    executor: Executor | None = None,
    checkpoint_uri: str | None = None,
    key: str = "",
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: Progress = SILENT,
    stage: str = "islands",
) -> SearchResult:
    """Search by several populations on a ring that exchange their best.

    Args:
        fitness: see `optimize`; picklable if the executor has other processes. None with `build`.
        space: where to search.
        islands: registered names or optimizers, one per island.
        max_evals: evaluations at most over all islands, in whole rounds of `migrate_every`
            generations.
        build: makes the fitness in the worker, in place of `fitness`.
        migrate_every: generations between migrations.
        n_migrants: individuals that each island sends to the next; below half of a population.
        seed: the same seed gives the same bits for any executor and after a resume.
        x0: `(n, genes)` individuals that every island starts from.
        executor: where to run; this process if None.
        checkpoint_uri: directory for checkpoints; a run that finds one there goes on from it.
        key: what the fitness depends on (a digest of its data, say); kept with the checkpoint.
        device: where the islands compute.
        dtype: float32 or float64.
        progress: told rounds done, best and mean fitness.
        stage: name in progress messages.

    Raises:
        ConfigError: no island, max_evals below one round, or too many migrants.
        ArtifactError: the checkpoint is of another search.
    """
    if (fitness is None) == (build is None):
        raise ConfigError("optimize_islands needs either fitness or build")
    methods = [resolve_method(m) for m in islands]
    if not methods:
        raise ConfigError("optimize_islands needs at least one island; got none")
    per_round = migrate_every * sum(m.size(space) for m in methods)
    if max_evals < per_round:
        raise ConfigError(
            f"max_evals must be >= one round of all islands = {per_round}; got {max_evals}"
        )
    if n_migrants * 2 > min(m.size(space) for m in methods):
        raise ConfigError(f"n_migrants must be at most half of a population; got {n_migrants}")
    start = None if x0 is None else space.points(x0)
    if start is not None:
        key = f"{key} x0 {hashlib.sha256(start.tobytes()).hexdigest()}"
    own = [
        PopulationIsland(
            method=m,
            space=space,
            device=str(device),
            is_double=dtype == torch.float64,
            key=key,
            x0=start,
        )
        for m in methods
    ]
    source: Any = _Given(fitness) if fitness is not None else build
    run = run_islands(
        own,
        [source] * len(own),
        n_rounds=max_evals // per_round,
        migrate_every=migrate_every,
        n_migrants=n_migrants,
        seed=seed,
        executor=executor,
        checkpoint_uri=checkpoint_uri,
        progress=progress,
        stage=stage,
    )
    return _best_of(own, run.states, run.history, run.n_rounds * per_round)


def _best_of(
    islands: Sequence[PopulationIsland],
    states: Sequence[IslandState],
    history: tuple[dict[str, float], ...],
    n_evals: int,
) -> SearchResult:
    """Best individual of all islands: feasible first, then fitness; ties to the first island."""
    ranked = [i.method.ranked(i._read(s)) for i, s in zip(islands, states, strict=True)]
    best = min(ranked, key=lambda r: (float(r.violation[0]), -float(r.fitness[0])))
    return SearchResult(
        best_x=best.x[0].double().cpu().numpy(),
        best_fitness=float(best.fitness[0]),
        best_violation=float(best.violation[0]),
        n_evals=n_evals,
        history=history,
        stop_reason="max_evals",
    )
