"""One population from start to end in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from promo_ray.errors import ConfigError
from promo_ray.optimizers.population import Optimizer, Ranked
from promo_ray.optimizers.space import SearchSpace, pick_device
from promo_ray.registry import build
from promo_ray.telemetry import SILENT, Progress

Fitness = Callable[[Tensor], Tensor | tuple[Tensor, Tensor]]
S = TypeVar("S")


@dataclass(frozen=True)
class SearchResult:
    """Best individual found and how the search went.

    Attributes:
        best_x: `(genes,)` float64.
        best_fitness: its fitness; -inf if no evaluation gave a finite one.
        best_violation: its violation; 0 = feasible.
        n_evals: evaluations done.
        history: per generation (or round and island): scalars such as `n_evals`, `best`, `mean`
            (of finite fitness) and `diversity` (mean standard deviation of a gene as a share of
            its range).
        stop_reason: `max_evals` or `target`.
    """

    best_x: NDArray[np.float64]
    best_fitness: float
    best_violation: float
    n_evals: int
    history: tuple[dict[str, float], ...]
    stop_reason: str


def step(method: Optimizer[S], state: S, fitness: Fitness) -> S:
    """One generation: ask, evaluate, tell."""
    state, x = method.ask(state)
    values = fitness(x)
    if isinstance(values, tuple):
        return method.tell(state, *values)
    return method.tell(state, values)


def describe(ranked: Ranked, space: SearchSpace, n_evals: int) -> dict[str, float]:
    """Scalars of one population for the history."""
    fitness = ranked.fitness.double()
    finite = torch.isfinite(fitness)
    mean = torch.where(finite, fitness, 0).sum() / finite.sum().clamp(min=1)
    lower, upper = space.bounds(ranked.x.device, ranked.x.dtype)
    width = torch.where(upper > lower, upper - lower, 1.0)
    return {
        "n_evals": n_evals,
        "best": float(fitness[0]),
        "mean": float(mean),
        "diversity": float((ranked.x.double().std(dim=0, correction=0) / width).mean()),
    }


def resolve_method(method: str | Optimizer[Any]) -> Optimizer[Any]:
    """Optimizer of a registered name, with its defaults."""
    if isinstance(method, str):
        found: Optimizer[Any] = build("optimizers", {"method": method})
        return found
    return method


def optimize(
    fitness: Fitness,
    space: SearchSpace,
    method: str | Optimizer[Any] = "ga",
    max_evals: int = 10_000,
    *,
    seed: int = 0,
    x0: ArrayLike | None = None,
    target: float | None = None,
    device: str | torch.device = "auto",
    dtype: torch.dtype = torch.float32,
    progress: Progress = SILENT,
) -> SearchResult:
    """Search a space for the largest fitness.

    Args:
        fitness: `(pop, genes)` tensor on `device` to `(pop,)` fitness, or to (fitness,
            violation); NaN or infinite fitness counts as worst.
        space: where to search.
        method: registered name (`ga`, `pso`) or an optimizer.
        max_evals: evaluations at most, in whole generations; >= the population.
        seed: the same seed gives the same bits on one kind of device.
        x0: `(n, genes)` individuals to start from.
        target: stop when the best feasible fitness reaches this.
        device: `cpu`, `cuda` or `auto`.
        dtype: float32 or float64.
        progress: told the evaluations done and the best fitness.

    Raises:
        ConfigError: unknown method, or max_evals below one generation.
        DataError: fitness of another shape.
    """
    method = resolve_method(method)
    n_asked = method.size(space)
    if max_evals < n_asked:
        raise ConfigError(f"max_evals must be >= pop_size = {n_asked}; got {max_evals}")
    state = method.init(space, seed, pick_device(device), dtype, x0=x0)
    n_generations = max_evals // n_asked
    history = []
    stop_reason = "max_evals"
    for generation in range(1, n_generations + 1):
        state = step(method, state, fitness)
        ranked = method.ranked(state)
        n_evals = generation * n_asked
        history.append(describe(ranked, space, n_evals))
        progress("optimize", n_evals, max_evals, best=history[-1]["best"])
        if target is not None and history[-1]["best"] >= target and ranked.violation[0] == 0:
            stop_reason = "target"
            break
    ranked = method.ranked(state)
    return SearchResult(
        best_x=ranked.x[0].double().cpu().numpy(),
        best_fitness=float(ranked.fitness[0]),
        best_violation=float(ranked.violation[0]),
        n_evals=n_evals,
        history=tuple(history),
        stop_reason=stop_reason,
    )
