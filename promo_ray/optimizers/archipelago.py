"""Islands of population methods on the island loop of `execution`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from promo_ray.errors import ConfigError
from promo_ray.execution import Executor
from promo_ray.execution.islands import IslandRun, run_islands
from promo_ray.execution.islands_keeper import Arrays, Migrants, Summary
from promo_ray.execution.topology import Topology
from promo_ray.optimizers.genetic import GeneticAlgorithm
from promo_ray.optimizers.migration import EMIGRATIONS, REPLACEMENTS, emigrants_of, immigrated
from promo_ray.optimizers.population import Optimizer
from promo_ray.optimizers.ranking import Ranked
from promo_ray.optimizers.search import (
    Fitness,
    SearchResult,
    describe,
    evaluate,
    recheck,
    resolve_method,
)
from promo_ray.optimizers.space import SearchSpace, pick_device
from promo_ray.optimizers.states import from_arrays, split, stack, to_arrays
from promo_ray.telemetry import SILENT, Progress

# far behind the best mix on none of Rastrigin, Rosenbrock and Ackley; genes of 20 and 100
DEFAULT_ISLANDS: tuple[str | Optimizer[Any], ...] = (
    GeneticAlgorithm(pop_size=50, mutation_eta=31), "sa", "sa", "cma"
)  # fmt: skip


@dataclass(frozen=True)
class IslandsResult(SearchResult):
    """Best individual of all islands, and how they went.

    Attributes:
        island: where the best was found first by number.
        rounds: intervals between migrations that each island did.
        migrations: the last rows of the migration log; give it as `replay` to repeat the run.
        evals_per_s: evaluations per second of the whole call, those before a resume left out.
        busy_share: share of the workers' time in which they were occupied.
    """

    island: int
    rounds: tuple[int, ...]
    migrations: pa.Table
    evals_per_s: float
    busy_share: float


@dataclass(frozen=True, kw_only=True)
class PopulationIslands:
    """An optimizer as a kind of islands; the problem is a fitness callable.

    Attributes:
        method: the optimizer.
        space: where it searches.
        device: `cpu`, `cuda` or `auto`; resolved in the worker.
        is_double: float64 instead of float32.
        emigration: see `migration.emigrants_of`.
        replacement: see `migration.immigrated`.
        is_batched: fitness takes all islands of a batch at once.
        pace: generations of this method that count as one.
        x0: individuals to start from, or None.
    """

    method: Optimizer[Any]
    space: SearchSpace = field(repr=False)
    device: str = "cpu"
    is_double: bool = False
    emigration: str = "best"
    replacement: str = "worst_if_better"
    is_batched: bool = False
    pace: int = 1
    x0: tuple[tuple[float, ...], ...] | None = field(default=None, repr=False)

    def evals(self, n_generations: int) -> int:
        """See `execution.islands_keeper.IslandKind`."""
        return self.method.size(self.space) * n_generations * self.pace

    def init(self, problem: Any, seed: int, islands: Sequence[int]) -> Any:
        """See `execution.islands_keeper.IslandKind`."""
        dtype = torch.float64 if self.is_double else torch.float32
        device = pick_device(self.device)
        batch = (len(islands),)
        return self.method.init(
            self.space, seed, device, dtype, batch, island=tuple(islands), x0=self.x0
        )

    def step(self, problem: Any, state: Any, n_generations: int) -> Any:
        """See `execution.islands_keeper.IslandKind`."""
        for _ in range(n_generations * self.pace):
            state, x = self.method.ask(state)
            state = self.method.tell(state, *self._evaluate(problem, x, state.clock))
        return state

    def emigrants(self, state: Any, n: int) -> Migrants:
        """See `execution.islands_keeper.IslandKind`."""
        ranked = self.method.ranked(state)
        return emigrants_of(ranked, n, self.emigration, state.clock, self._width(ranked))

    def immigrate(
        self, state: Any, own: Migrants, others: Migrants | None, rows: NDArray[np.int64]
    ) -> tuple[Any, NDArray[np.int8]]:
        """See `execution.islands_keeper.IslandKind`."""
        pool = [a.reshape(-1, *a.shape[2:]) for a in own]
        if others is not None:
            like = pool[0]
            came = [torch.tensor(a, dtype=like.dtype, device=like.device) for a in others]
            pool = [torch.cat(pair) for pair in zip(pool, came, strict=True)]
        at = torch.from_numpy(rows).to(pool[0].device)
        x, fitness, violation = (a[at.clamp(min=0)] for a in pool)
        fitness = torch.where(at < 0, -torch.inf, fitness)
        ranked = Ranked(x, fitness, violation)
        return immigrated(
            self.method, state, Migrants(*ranked), self.replacement, self._width(ranked)
        )

    def best(self, state: Any) -> Migrants:
        """See `execution.islands_keeper.IslandKind`."""
        return Migrants(*(a[:, :1].cpu().numpy() for a in self.method.ranked(state)))

    def summaries(self, state: Any) -> list[Summary]:
        """See `execution.islands_keeper.IslandKind`."""
        ranked = self.method.ranked(state)
        found = []
        for i in range(len(ranked.fitness)):
            one = Ranked(*(a[i] for a in ranked))
            known = describe(one, self.space, 0)
            found.append(
                Summary(
                    known["best"],
                    known["mean"],
                    known["diversity"],
                    known["violation"],
                    state.clock.is_constrained,
                )
            )
        return found

    def split(self, state: Any) -> list[Arrays]:
        """See `execution.islands_keeper.IslandKind`."""
        return [to_arrays(one) for one in split(state)]

    def join(self, parts: Sequence[Arrays], islands: Sequence[int]) -> Any:
        """See `execution.islands_keeper.IslandKind`."""
        kind, device = self.method.state_class, pick_device(self.device)
        return stack([from_arrays(kind, part, self.space, device) for part in parts])

    def _width(self, ranked: Ranked) -> Tensor:
        lower, upper = self.space.bounds(ranked.x.device, ranked.x.dtype)
        return torch.where(upper > lower, upper - lower, 1.0)

    def _evaluate(self, fitness: Fitness, x: Tensor, clock: Any) -> tuple[Tensor, Tensor | None]:
        """Fitness and violation of a batch, `(islands, size)`."""
        when = f" in generation {clock.generation}"
        if self.is_batched:
            return evaluate(fitness, x, f"islands {list(clock.islands)}{when}")
        parts = [
            evaluate(fitness, one, f"island {island}{when}")
            for one, island in zip(x, clock.islands, strict=True)
        ]
        told = torch.stack([f for f, _ in parts])
        if all(v is None for _, v in parts):
            return told, None
        zero = torch.zeros_like(told[0])
        return told, torch.stack([zero if v is None else v for _, v in parts])


@dataclass(frozen=True)
class _Given:
    """Source of an island's problem: hands over the fitness itself."""

    fitness: Fitness

    def __call__(self) -> Fitness:
        return self.fitness


def optimize_islands(
    fitness: Fitness | None,
    space: SearchSpace,
    islands: Sequence[str | Optimizer[Any]] = DEFAULT_ISLANDS,
    max_evals: int = 100_000,
    *,
    build: Callable[[], Fitness] | None = None,
    topology: str | Topology | Sequence[Sequence[float]] = "ring",
    migrate_every: int = 10,
    n_migrants: int = 2,
    emigration: str = "best",
    replacement: str = "worst_if_better",
    mode: str = "sync",
    seed: int = 0,
    x0: ArrayLike | None = None,
    target: float | None = None,
    max_seconds: float | None = None,
    executor: Executor | None = None,
    checkpoint_uri: str | None = None,
    key: str = "",
    replay: pa.Table | None = None,
    is_batched: bool = False,
    max_batch: int | None = None,
    log_rows: int = 100_000,
    device: str = "auto",
    dtype: torch.dtype = torch.float32,
    progress: Progress = SILENT,
    stage: str = "islands",
) -> IslandsResult:
    """Search by several populations that exchange individuals.

    Args:
        fitness: see `optimize`; picklable if the executor has other processes. None with `build`.
        space: where to search.
        islands: registered names or optimizers, one per island; equal ones share a batch. The
            default mixes crossover, long chains of small moves and a learned covariance.
        max_evals: evaluations at most over all islands, in whole intervals; one more checks the
            answer if there are violations (not with `build`).
        build: makes the fitness in the worker, in place of `fitness`.
        topology: `ring`, `torus`, `fully_connected`, `unconnected`, `random-K`, or a matrix whose
            entry (i, j) is the chance that island i pulls from island j at a migration.
        migrate_every: generations between migrations, of the largest population; smaller ones go
            as many times more, so that all islands evaluate about as much in an interval.
        n_migrants: individuals that each island offers; below half of a population.
        emigration: who leaves: `best`, `diverse`, `random`, `tournament`.
        replacement: whom they replace: `worst_if_better`, `worst`, `random`, `nearest`.
        mode: `sync`: the same bits for any executor, number of workers and after a resume;
            `async`: no island waits for another, and the migration log can be replayed.
        seed: seed of the search.
        x0: `(n, genes)` individuals that every island starts from.
        target: stop when a feasible fitness reaches this.
        max_seconds: start no interval after this many seconds.
        executor: where to run; this process if None.
        checkpoint_uri: directory for checkpoints; a run that finds one there goes on from it.
        key: what the fitness depends on (a digest of its data, say); kept with the checkpoint.
        replay: migration log of a run of the same settings, to repeat it bit by bit.
        is_batched: fitness takes `(islands, pop, genes)` and gives `(islands, pop)`: faster for
            small populations and on a GPU. It must give a row the same bits in any batch, or the
            bits will depend on the number of workers. Otherwise it is called island by island.
        max_batch: islands in one call of a worker at most.
        log_rows: rows of the migration log that are kept.
        device: where the islands compute: `cpu`, `cuda` or `auto`, resolved in the worker.
        dtype: float32 or float64.
        progress: told evaluations, best, mean, diversity, evaluations per second, migrations.
        stage: name in progress messages.

    Raises:
        ConfigError: no island, unknown topology, mode or policy, max_evals below one round, or
            too many migrants.
        ArtifactError: the checkpoint is of another search.
        DataError: fitness of another shape.
        PromoRayError: fitness raised.
    """
    if (fitness is None) == (build is None):
        raise ConfigError("optimize_islands needs either fitness or build")
    methods = [resolve_method(m) for m in islands]
    if not methods:
        raise ConfigError("optimize_islands needs at least one island; got none")
    _check_policies(emigration, replacement)
    sizes = [m.size(space) for m in methods]
    if n_migrants * 2 > min(sizes):
        raise ConfigError(f"n_migrants must be at most half of a population; got {n_migrants}")
    start = None if x0 is None else space.points(x0)
    if start is not None:
        key = f"{key} x0 {hashlib.sha256(start.tobytes()).hexdigest()}"
    x0_rows = None if start is None else tuple(map(tuple, start.tolist()))
    kinds = [
        PopulationIslands(
            method=m,
            space=space,
            device=str(device),
            is_double=dtype == torch.float64,
            emigration=emigration,
            replacement=replacement,
            is_batched=is_batched,
            pace=max(1, round(max(sizes) / size)),
            x0=x0_rows,
        )
        for m, size in zip(methods, sizes, strict=True)
    ]
    run = run_islands(
        kinds,
        _Given(fitness) if fitness is not None else build,
        max_evals=max_evals,
        mode=mode,
        topology=topology,
        migrate_every=migrate_every,
        n_migrants=n_migrants,
        seed=seed,
        executor=executor,
        checkpoint_uri=checkpoint_uri,
        key=f"{key} {hashlib.sha256(space.key().encode()).hexdigest()}",
        target=target,
        max_seconds=max_seconds,
        max_batch=max_batch,
        log_rows=log_rows,
        replay=replay,
        progress=progress,
        stage=stage,
    )
    result = _result(run, space, 1 if executor is None else executor.n_workers)
    is_constrained = any(row["is_constrained"] for row in result.history)
    if fitness is None or not is_constrained or result.best_violation:
        return result
    x = torch.tensor(result.best_x[None], dtype=dtype, device=pick_device(device))
    x = x.unsqueeze(0) if is_batched else x
    violation = recheck(fitness, x)
    return replace(result, best_violation=violation, n_evals=result.n_evals + 1)


def _check_policies(emigration: str, replacement: str) -> None:
    pairs: Mapping[str, tuple[str, Sequence[str]]] = {
        "emigration": (emigration, EMIGRATIONS),
        "replacement": (replacement, REPLACEMENTS),
    }
    for name, (value, known) in pairs.items():
        if value not in known:
            raise ConfigError(f"{name} must be one of {', '.join(known)}; got {value!r}")


def _result(run: IslandRun, space: SearchSpace, n_workers: int) -> IslandsResult:
    """Best individual of all islands: feasible first, then fitness; ties to the first island."""
    x, fitness, violation = (a[:, 0] for a in run.best)
    island = min(range(len(fitness)), key=lambda i: (float(violation[i]), -float(fitness[i])))
    wall_s = max(run.wall_s, 1e-9)
    return IslandsResult(
        best_x=space.exact(torch.from_numpy(x[island])),
        best_fitness=float(fitness[island]),
        best_violation=float(violation[island]),
        n_evals=run.n_evals,
        history=run.history,
        stop_reason=run.stop_reason,
        island=island,
        rounds=run.rounds,
        migrations=run.migrations,
        evals_per_s=run.n_new_evals / wall_s,
        busy_share=run.busy_s / (wall_s * n_workers),
    )
