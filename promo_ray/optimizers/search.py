"""One population from start to end in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from promo_ray.errors import ConfigError, DataError, PromoRayError
from promo_ray.optimizers.memetic import Memetic
from promo_ray.optimizers.population import Optimizer
from promo_ray.optimizers.ranking import Ranked
from promo_ray.optimizers.space import SearchSpace, pick_device
from promo_ray.registry import build
from promo_ray.telemetry import SILENT, Progress

Fitness = Callable[[Tensor], Tensor | tuple[Tensor, Tensor]]
S = TypeVar("S")

_HISTORY_ROWS = 50
_HELD_BYTES = 31 << 20  # glibc adapts to blocks below 32 MiB
_EVALS_FOR_SWEEP = 200  # per gene


@dataclass(frozen=True)
class SearchResult:
    """Best individual found and how the search went.

    Attributes:
        best_x: `(genes,)` float64, inside the bounds exactly; `space.decode` gives its values.
        best_fitness: its fitness; -inf if no evaluation gave a finite one.
        best_violation: its violation, measured once more at the end; 0 = feasible.
        n_evals: evaluations done.
        history: per generation, or every so many of a long search (or per round and island):
            scalars such as `n_evals`, `best` and its `violation`, `mean` (of finite fitness) and
            `diversity` (mean standard deviation of a gene as a share of its range).
        stop_reason: `max_evals`, `max_seconds` or `target`.
    """

    best_x: NDArray[np.float64]
    best_fitness: float
    best_violation: float
    n_evals: int
    history: tuple[dict[str, float], ...]
    stop_reason: str

    @property
    def is_feasible(self) -> bool:
        """The best individual breaks no rule and has a finite fitness."""
        return self.best_violation == 0 and bool(np.isfinite(self.best_fitness))


def evaluate(fitness: Fitness, x: Tensor, who: str) -> tuple[Tensor, Tensor | None]:
    """Fitness and violation of individuals `(..., size, genes)`, each `(..., size)`.

    Args:
        fitness: what the user gave.
        x: individuals.
        who: whose they are, for errors.

    Raises:
        PromoRayError: fitness raised.
        DataError: it gave no tensors of that shape, or changed the individuals.
    """
    version = 0 if x.is_inference() else x._version
    try:
        values = fitness(x)
    except PromoRayError:
        raise
    except Exception as error:
        kind = type(error).__name__
        raise PromoRayError(f"fitness must not raise; {who}: {kind}: {error}") from error
    if not x.is_inference() and x._version != version:
        raise DataError("must not change the individuals that it is given", where="fitness")
    told, violation, *rest = values if isinstance(values, tuple) else (values, None)
    if rest:
        raise DataError("must be fitness, or fitness and violation", where=f"fitness of {who}")
    for name, value in (("fitness", told), ("violation", violation)):
        if value is None and name == "violation":
            continue
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        if shape != tuple(x.shape[:-1]):
            want = f"must be a tensor of shape {tuple(x.shape[:-1])}; got {shape}"
            raise DataError(want, where=f"{name} of {who}")
    return told, violation


def recheck(fitness: Fitness, x: Tensor) -> float:
    """Violation of one individual `(..., 1, genes)`, measured anew; +inf if it is no number."""
    _, violation = evaluate(fitness, x, "the answer")
    found = 0.0 if violation is None else float(violation.reshape(()))
    return max(found, 0.0) if np.isfinite(found) else float("inf")


def describe(ranked: Ranked, space: SearchSpace, n_evals: int) -> dict[str, float]:
    """Scalars of one population for the history."""
    fitness = ranked.fitness.double()
    finite = torch.isfinite(fitness)
    mean = torch.where(finite, fitness, 0).sum() / finite.sum().clamp(min=1)
    lower, upper = space.bounds(ranked.x.device, ranked.x.dtype)
    width = torch.where(upper > lower, upper - lower, 1.0)
    # std of torch walks down columns, at sixteen times the cost
    variance = (ranked.x - ranked.x.mean(dim=0)).square_().mean(dim=0)
    return {
        "n_evals": n_evals,
        "best": float(fitness[0]),
        "violation": float(ranked.violation[0]),
        "mean": float(mean),
        "diversity": float((variance.sqrt() / width).mean()),
    }


def resolve_method(method: str | Optimizer[Any]) -> Optimizer[Any]:
    """Optimizer of a registered name, with its defaults."""
    if isinstance(method, str):
        found: Optimizer[Any] = build("optimizers", {"method": method})
        return found
    if isinstance(method, type) or not hasattr(method, "tell"):
        raise ConfigError(f"method must be a name or an optimizer; got {method!r}")
    return method


def optimize(
    fitness: Fitness,
    space: SearchSpace,
    method: str | Optimizer[Any] = "auto",
    max_evals: int = 100_000,
    *,
    max_seconds: float | None = None,
    seed: int = 0,
    x0: ArrayLike | None = None,
    target: float | None = None,
    device: str | torch.device = "auto",
    dtype: torch.dtype = torch.float32,
    progress: Progress = SILENT,
) -> SearchResult:
    """Search a space for the largest fitness.

    Args:
        fitness: pure function of `(pop, genes)` individuals on `device` that gives `(pop,)`
            fitness, or (fitness, violation >= 0); NaN or infinite fitness counts as worst.
        space: where to search.
        method: registered name (`auto`, `cma`, `de`, `ga`, `pso`, `sa`) or an optimizer.
        max_evals: evaluations at most, in whole generations.
        max_seconds: stop after the generation in which so much time has gone by; the answer then
            depends on the machine.
        seed: the same seed gives the same bits on one kind of device.
        x0: `(n, genes)` individuals to start from.
        target: stop when the best feasible fitness reaches this.
        device: `cpu`, `cuda` or `auto`.
        dtype: float32 or float64; float64 if more than five digits of an answer matter.
        progress: told the evaluations done and the best fitness.

    Returns:
        The best individual. With violations, one evaluation of the budget checks it once more;
        `is_feasible` says what came out.

    Raises:
        ConfigError: unknown method, or max_evals below one generation.
        DataError: fitness of another shape, or one that changes the individuals.
        PromoRayError: fitness raised.
    """
    if isinstance(method, str) and method == Memetic.method:
        method = Memetic(sweeps=max_evals >= _EVALS_FOR_SWEEP * space.n_genes)
    method = resolve_method(method)
    size = method.size(space)
    if max_seconds is not None and not max_seconds >= 0:
        raise ConfigError(f"max_seconds must be >= 0; got {max_seconds}")
    if max_evals < size:
        raise ConfigError(f"max_evals must be >= pop_size = {size}; got {max_evals}")
    _hold_memory()
    started = time.monotonic()
    state = method.init(space, seed, pick_device(device), dtype, x0=x0)
    every = max(1, -(-(max_evals // size) // _HISTORY_ROWS))
    history: list[dict[str, float]] = []
    n_evals = 0
    stop_reason = ""
    while not stop_reason:
        state, x = method.ask(state)
        told = evaluate(fitness, x, f"generation {state.clock.generation}")
        state = method.tell(state, *told)
        n_evals += size
        if n_evals + size + state.clock.is_constrained > max_evals:
            stop_reason = "max_evals"
        elif max_seconds is not None and time.monotonic() - started >= max_seconds:
            stop_reason = "max_seconds"
        is_row = bool(stop_reason) or (n_evals // size) % every == 0
        if not is_row and target is None:
            continue
        ranked = method.ranked(state)
        if target is not None and ranked.violation[0] == 0 and ranked.fitness[0] >= target:
            stop_reason, is_row = "target", True
        if is_row:
            history.append(describe(ranked, space, n_evals))
            progress("optimize", n_evals, max_evals, best=history[-1]["best"])
    violation = float(ranked.violation[0])
    if state.clock.is_constrained and violation == 0 and n_evals < max_evals:
        violation = recheck(fitness, ranked.x[:1])
        n_evals += 1
    return SearchResult(
        best_x=space.exact(ranked.x[0]),
        best_fitness=float(ranked.fitness[0]),
        best_violation=violation,
        n_evals=n_evals,
        history=tuple(history),
        stop_reason=stop_reason,
    )


def _hold_memory() -> None:
    """Let the allocator keep what one generation frees for the next.

    glibc gives memory back to the system above a threshold that follows the largest block freed;
    without this a generation of 1,000 x 100 spends a fifth of its time on page faults. No page of
    the block is touched.
    """
    torch.empty(_HELD_BYTES, dtype=torch.uint8)
