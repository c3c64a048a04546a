"""What every optimizer must do; each check raises AssertionError with what went wrong.

`check_optimizer(method)` runs them all. A new optimizer passes them with no code of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from promo_ray.optimizers import (
    Choice,
    Integer,
    Optimizer,
    Real,
    SearchSpace,
    Subset,
    from_bytes,
    optimize,
    split,
    stack,
    to_bytes,
)

# off zero, of unequal widths, one gene fixed, bounds that float32 cannot hold exactly
SPACE = SearchSpace.box([-3.1, 0.1, -7.0, 2.1, 100.1], [1.3, 0.7, 7.0, 2.1, 900.3])


def _no_even_second(x: Tensor) -> Tensor:
    """Repair: the second number must be odd."""
    second = x[..., 1:2]
    odd = torch.where(torch.remainder(second, 2) == 0, second + 1, second)
    return torch.cat([x[..., :1], odd, x[..., 2:]], dim=-1)


MIXED = SearchSpace(
    (
        Real(-2.0, 3.0),
        Integer(-5, 6),
        Choice(("percent", "amount", "message")),
        Subset(tuple(range(9)), 3),
        Integer(7, 7),
        Choice((True, False)),
    ),
    repair=_no_even_second,
)


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


def mixed(x: Tensor) -> Tensor:
    """Over `MIXED`; 0 at 0.5, 3, "amount", {1, 4, 8}, 7, True."""
    wanted = torch.tensor([1.0, 4.0, 8.0], dtype=x.dtype, device=x.device)
    missing = (x[..., 3:6, None] != wanted).all(-1).sum(-1)
    penalty = (x[..., 2] != 1).to(x.dtype) + missing.to(x.dtype) + (x[..., 7] != 0).to(x.dtype)
    return -(x[..., 0] - 0.5).square() - (x[..., 1] - 3).abs() / 5 - penalty


class Case(NamedTuple):
    """A space with a fitness on it, and the dtype of a run."""

    space: SearchSpace
    fitness: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    dtype: torch.dtype


def _mixed_under_rules(x: Tensor) -> tuple[Tensor, Tensor]:
    """`mixed` where the first gene must be >= 1: violations differ, some individuals are free."""
    return mixed(x), (1.0 - x[..., 0]).clamp(min=0)


CASES = (
    Case(SPACE, lambda x: (sphere(x), None), torch.float32),
    Case(MIXED, _mixed_under_rules, torch.float64),
)


def check_optimizer(method: Optimizer[Any]) -> None:
    """Run every check on an optimizer."""
    for dtype in (torch.float32, torch.float64):
        check_bounds_and_types(method, dtype)
        check_mixed_genes(method, dtype)
    for case in CASES:
        check_seed_gives_bits(method, case)
        check_batch_equals_singles(method, case)
        check_state_survives_files(method, case)
    check_smallest_spaces(method)
    check_best_never_gets_worse(method)
    check_worst_and_feasible(method)
    check_newcomers(method)
    check_constraints_hold(method)
    check_beats_random_search(method)


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise AssertionError(text)


def _run(
    method: Optimizer[Any],
    state: Any,
    n_generations: int,
    fitness: Callable[[Tensor], tuple[Tensor, Tensor | None]] = CASES[0].fitness,
) -> Any:
    for _ in range(n_generations):
        state, x = method.ask(state)
        state = method.tell(state, *fitness(x))
    return state


def _same(a: Any, b: Any) -> bool:
    return a.clock == b.clock and all(torch.equal(x, y) for x, y in zip(a[2:], b[2:], strict=True))


def check_bounds_and_types(method: Optimizer[Any], dtype: torch.dtype) -> None:
    """Every individual lies in the float64 box exactly, in the dtype and shape asked for."""
    lower = torch.tensor(SPACE.lower, dtype=torch.float64)
    upper = torch.tensor(SPACE.upper, dtype=torch.float64)
    is_fixed = lower == upper
    lower[is_fixed] = upper[is_fixed] = lower[is_fixed].to(dtype).double()
    state = method.init(SPACE, 1, dtype=dtype, batch=(2,))
    want = (2, method.size(SPACE), SPACE.n_genes)
    for _ in range(15):
        state, x = method.ask(state)
        _require(x.dtype == dtype, f"individuals must be {dtype}; got {x.dtype}")
        _require(x.device.type == "cpu", f"individuals must stay on the device; got {x.device}")
        _require(x.shape == want, f"individuals must be {want}; got {tuple(x.shape)}")
        inside = (x.double() >= lower) & (x.double() <= upper)
        _require(bool(inside.all()), "every gene must lie in its bounds")
        state = method.tell(state, sphere(x))
    ranked = method.ranked(state)
    _require(ranked.x.shape == want, f"ranked must have {want[1]} rows; got {ranked.x.shape[-2]}")


def check_mixed_genes(method: Optimizer[Any], dtype: torch.dtype) -> None:
    """In a mixed space with a repair, individuals are valid, and decode and encode undo each other.

    At 3,000 evaluations the answer is near the best.
    """
    state = method.init(MIXED, 2, dtype=dtype)
    for generation in range(-(-3_000 // method.size(MIXED))):
        state, x = method.ask(state)
        if generation < 10:
            for row in (*x[:3], method.ranked(state).x[0]):
                again = MIXED.encode(MIXED.decode(row))
                _require(bool((torch.from_numpy(again) == row).all()), "encode must undo decode")
            _require(torch.equal(MIXED.snap(x), x), "individuals must be repaired and whole")
        state = method.tell(state, mixed(x))
    found = float(method.ranked(state).fitness[0])
    _require(found > -1.0, f"mixed genes: fitness must be above -1; got {found}")


def check_seed_gives_bits(method: Optimizer[Any], case: Case) -> None:
    """One seed one result, another seed another; no global generator, no edit of an input."""
    before = torch.get_rng_state()
    first = method.init(case.space, 3, dtype=case.dtype)
    copy = type(first)(*first[:2], *(t.clone() for t in first[2:]))
    a, b, c = (
        _run(method, method.init(case.space, seed, dtype=case.dtype), 5, case.fitness)
        for seed in (3, 3, 4)
    )
    _require(_same(_run(method, first, 5, case.fitness), a), "the same seed must give the same")
    _require(_same(a, b), "the same seed must give the same bits")
    _require(_same(first, copy), "ask and tell must not change a state in place")
    _require(not torch.equal(method.ranked(a).x, method.ranked(c).x), "seeds must differ")
    same = torch.equal(before, torch.get_rng_state())
    _require(same, "the global generator must stay as it is")
    state, x = method.ask(a)
    told = [t for t in (x, *case.fitness(x)) if t is not None]
    kept = [t.clone() for t in told]
    method.tell(state, *told[1:])
    same = all(torch.equal(t, k) for t, k in zip(told, kept, strict=True))
    _require(same, "tell must not change its inputs")


def check_batch_equals_singles(method: Optimizer[Any], case: Case) -> None:
    """A batch of islands gives the bits of each island alone, also when split and stacked."""
    islands = [5, 6, 9, 8]
    start = method.init(case.space, 7, dtype=case.dtype, batch=(2, 2), island=islands)
    batch = _run(method, start, 6, case.fitness)
    both = method.ranked(batch)
    singles = [
        _run(method, method.init(case.space, 7, dtype=case.dtype, island=k), 6, case.fitness)
        for k in islands
    ]
    for k, single in enumerate(singles):
        for name, many, one in zip(both._fields, both, method.ranked(single), strict=True):
            _require(
                torch.equal(many[k // 2, k % 2], one),
                f"{name} of island {k} must be the same in a batch and alone",
            )
    parts = split(batch)
    _require(all(_same(a, b) for a, b in zip(parts, singles, strict=True)), "split must undo init")
    again = split(stack(parts))
    _require(all(_same(a, b) for a, b in zip(parts, again, strict=True)), "stack must undo split")


def check_smallest_spaces(method: Optimizer[Any]) -> None:
    """One gene, one value, and a box without width are searched like any other."""
    for space in (
        SearchSpace.box([-1.0], [1.0]),
        SearchSpace((Choice(("only",)),)),
        SearchSpace.box([2.0, 0.1], [2.0, 0.1]),
    ):
        found = optimize(sphere, space, method, 500, seed=1, device="cpu")
        space.points(found.best_x)  # raises if it is out of the box
        _require(found.is_feasible, f"must find an answer in {space}")


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
        _require(float(sphere(ranked.x[:1])) == best, "row 0 must hold the best individual")
        _require(bool((ranked.fitness.diff() <= 0).all()), "ranked must be best first")


def check_state_survives_files(method: Optimizer[Any], case: Case) -> None:
    """A state through safetensors goes on with the same bits."""
    half = _run(method, method.init(case.space, 13, dtype=case.dtype), 4, case.fitness)
    again = from_bytes(type(half), to_bytes(half), case.space, torch.device("cpu"))
    _require(_same(half, again), "a state must survive safetensors")
    a, b = (_run(method, state, 4, case.fitness) for state in (half, again))
    _require(_same(a, b), "a resumed run must not differ")


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
    violation[3:] = 1.0  # the individuals without a fitness break no rule, all others do
    ranked = method.ranked(method.tell(state, fitness, violation))
    _require(bool(ranked.fitness[0].isfinite()), "NaN must be worse than a broken rule")


def check_newcomers(method: Optimizer[Any]) -> None:
    """The best newcomer comes first; one of fitness -inf, or worse in row 0, stays out."""
    state = _run(method, method.init(SPACE, 23, batch=(2,)), 3)
    before = method.ranked(state)
    middle = (np.array(SPACE.lower) + np.array(SPACE.upper)) / 2
    x = torch.tensor(middle, dtype=torch.float32).expand(2, 1, -1).contiguous()
    fitness = torch.tensor([[1e3], [-torch.inf]])
    after = method.ranked(method.replace_worst(state, x, fitness))
    _require(bool((after.x[0, 0] == x[0, 0]).all()), "the best newcomer must come first")
    _require(float(after.fitness[0, 0]) == 1e3, "a newcomer must keep its fitness")
    _require(torch.equal(after.x[1], before.x[1]), "a newcomer of fitness -inf must stay out")
    worse = method.replace_worst(
        state, x, fitness * 0 - 1e30, ranks=torch.zeros(2, 1, dtype=torch.int64)
    )
    kept = method.ranked(worse)
    _require(torch.equal(kept.x[:, 0], before.x[:, 0]), "the best so far must not be lost")
    _run(method, worse, 2)


def check_constraints_hold(method: Optimizer[Any]) -> None:
    """A best on the edge of what is allowed is found, and the answer is feasible."""

    def fitness(x: Tensor) -> tuple[Tensor, Tensor]:
        return sphere(x), (1.0 - x[..., 0]).clamp(min=0)  # the first gene must be >= 1

    space = SearchSpace.box([-5.12] * 4, [5.12] * 4)
    found = optimize(fitness, space, method, 12_000, seed=3, device="cpu", dtype=torch.float64)
    _require(found.is_feasible, f"the answer must be feasible; violation {found.best_violation}")
    gap = abs(found.best_x - [1, 0.3, 0.3, 0.3]).max()
    _require(gap < 0.3, f"the best on the edge must be found within 0.3; off by {gap}")


def check_beats_random_search(method: Optimizer[Any], n_genes: int = 10) -> None:
    """At 10,000 evaluations better than uniform points, on three functions."""
    space = SearchSpace.box([-5.12] * n_genes, [5.12] * n_genes)
    generator = torch.Generator().manual_seed(19)
    points = torch.rand(10_000, n_genes, generator=generator) * 10.24 - 5.12
    for function in (sphere, rastrigin, ellipsoid):
        found = optimize(function, space, method, 10_000, seed=19, device="cpu").best_fitness
        floor = float(function(points).max())
        _require(found > floor, f"{function.__name__}: {found} must beat random search {floor}")
