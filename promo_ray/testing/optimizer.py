"""What every optimizer must do; each check raises AssertionError with what went wrong.

`check_optimizer(method)` runs them all. A new optimizer passes them with no code of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from promo_ray.optimizers import Optimizer, SearchSpace, from_bytes, optimize, to_bytes

# off zero, of unequal widths, one gene fixed, bounds that float32 cannot hold exactly
SPACE = SearchSpace.box([-3.1, 0.1, -7.0, 2.0, 100.1], [1.3, 0.7, 7.0, 2.0, 900.3])


def sphere(x: Tensor) -> Tensor:
    """Smooth, one optimum; 0 at 0.3."""
    return -(x - 0.3).square().sum(-1)


def rastrigin(x: Tensor) -> Tensor:
    """Many optima; 0 at 0.7."""
    z = x - 0.7
    return -(z.square() - 10 * torch.cos(2 * torch.pi * z) + 10).sum(-1)


def ellipsoid(x: Tensor) -> Tensor:
    """Badly scaled, one optimum; 0 at -0.4."""
    weights = 10.0 ** torch.linspace(0, 4, x.shape[-1], dtype=x.dtype, device=x.device)
    return -(weights * (x + 0.4).square()).sum(-1)


def check_optimizer(method: Optimizer[Any]) -> None:
    """Run every check on an optimizer."""
    for dtype in (torch.float32, torch.float64):
        check_bounds_and_types(method, dtype)
    check_seed_gives_bits(method)
    check_batch_equals_singles(method)
    check_best_never_gets_worse(method)
    check_state_survives_files(method)
    check_worst_and_feasible(method)
    check_beats_random_search(method)


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise AssertionError(text)


def _run(method: Optimizer[Any], state: Any, n_generations: int) -> Any:
    for _ in range(n_generations):
        state, x = method.ask(state)
        state = method.tell(state, sphere(x))
    return state


def _same(a: Any, b: Any) -> bool:
    return a.clock == b.clock and all(torch.equal(x, y) for x, y in zip(a[2:], b[2:], strict=True))


def check_bounds_and_types(method: Optimizer[Any], dtype: torch.dtype) -> None:
    """Every individual lies in the float64 box exactly, in the dtype and shape asked for."""
    lower = torch.tensor(SPACE.lower, dtype=torch.float64)
    upper = torch.tensor(SPACE.upper, dtype=torch.float64)
    state = method.init(SPACE, 1, dtype=dtype, batch=(2,))
    for _ in range(15):
        state, x = method.ask(state)
        _require(x.dtype == dtype, f"individuals must be {dtype}; got {x.dtype}")
        want = (2, method.size(SPACE), SPACE.n_genes)
        _require(x.shape == want, f"individuals must be {want}; got {tuple(x.shape)}")
        inside = (x.double() >= lower) & (x.double() <= upper)
        _require(bool(inside.all()), "every gene must lie in its bounds")
        state = method.tell(state, sphere(x))


def check_seed_gives_bits(method: Optimizer[Any]) -> None:
    """One seed one result, another seed another; no global generator, no edit of a state."""
    before = torch.get_rng_state()
    first = method.init(SPACE, 3)
    copy = type(first)(*first[:2], *(t.clone() for t in first[2:]))
    a, b = _run(method, first, 5), _run(method, method.init(SPACE, 3), 5)
    _require(_same(a, b), "the same seed must give the same bits")
    _require(_same(first, copy), "ask and tell must not change a state in place")
    c = _run(method, method.init(SPACE, 4), 5)
    _require(not torch.equal(method.ranked(a).x, method.ranked(c).x), "seeds must differ")
    _require(torch.equal(before, torch.get_rng_state()), "the global generator must stay as it is")


def check_batch_equals_singles(method: Optimizer[Any]) -> None:
    """A batch of islands gives the bits of each island alone."""
    batch = _run(method, method.init(SPACE, 7, batch=(2, 2), island=5), 6)
    both = method.ranked(batch)
    for k in range(4):
        one = method.ranked(_run(method, method.init(SPACE, 7, island=5 + k), 6))
        for name, many, single in zip(one._fields, both, one, strict=True):
            _require(
                torch.equal(many[k // 2, k % 2], single),
                f"{name} of island {5 + k} must be the same in a batch and alone",
            )


def check_best_never_gets_worse(method: Optimizer[Any]) -> None:
    """Row 0 of `ranked` is the best so far, and ranks are in order."""
    state = method.init(SPACE, 11)
    best = -torch.inf
    for _ in range(15):
        state, x = method.ask(state)
        fitness = sphere(x)
        best = max(best, float(fitness.max()))
        state = method.tell(state, fitness)
        ranked = method.ranked(state)
        _require(float(ranked.fitness[0]) == best, "row 0 must hold the best fitness so far")
        _require(bool((ranked.fitness.diff() <= 0).all()), "ranked must be best first")


def check_state_survives_files(method: Optimizer[Any]) -> None:
    """A state through safetensors goes on with the same bits."""
    half = _run(method, method.init(SPACE, 13), 4)
    again = from_bytes(type(half), to_bytes(half), SPACE, torch.device("cpu"))
    _require(_same(half, again), "a state must survive safetensors")
    _require(_same(_run(method, half, 4), _run(method, again, 4)), "a resumed run must not differ")


def check_worst_and_feasible(method: Optimizer[Any]) -> None:
    """NaN and infinite fitness rank last; less violation beats more fitness."""
    state, x = method.ask(method.init(SPACE, 17))
    fitness = sphere(x)
    fitness[0], fitness[1], fitness[2] = torch.nan, torch.inf, -torch.inf
    violation = torch.zeros_like(fitness)
    violation[int(sphere(x)[3:].argmax()) + 3] = 1.0
    expected = torch.where(violation == 0, sphere(x), -torch.inf)[3:].max()
    ranked = method.ranked(method.tell(state, fitness, violation))
    _require(bool((ranked.violation[0] == 0).all()), "a feasible individual must come first")
    _require(bool(ranked.fitness[0] == expected), "NaN and infinite fitness must count as worst")


def check_beats_random_search(method: Optimizer[Any], n_genes: int = 10) -> None:
    """At 10,000 evaluations better than uniform points, on three functions."""
    space = SearchSpace.box([-5.12] * n_genes, [5.12] * n_genes)
    generator = torch.Generator().manual_seed(19)
    points = torch.rand(10_000, n_genes, generator=generator) * 10.24 - 5.12
    for function in (sphere, rastrigin, ellipsoid):
        found = optimize(function, space, method, 10_000, seed=19, device="cpu").best_fitness
        floor = float(function(points).max())
        _require(found > floor, f"{function.__name__}: {found} must beat random search {floor}")
