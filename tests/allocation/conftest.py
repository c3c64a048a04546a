"""Seeded allocation problems and independent oracles for them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from promo_ray.allocation import Allocation, AllocationProblem


def random_problem(seed: int, max_users: int = 40, max_slots: int = 6) -> AllocationProblem:
    """Small problem with every oddity: ties, zero rows, no limit, ineligible slots, lists."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, max_users + 1)), int(rng.integers(1, max_slots + 1))
    k = int(rng.integers(0, 4))
    is_grid = rng.random() < 0.4
    value = rng.integers(-1, 4, (n, m)) if is_grid else rng.normal(1, 1, (n, m))
    costs = rng.integers(0, 3, (k, n, m)) if is_grid else rng.exponential(1, (k, n, m))
    value = value.astype(np.float32)
    value[rng.random((n, m)) < 0.15] = -np.inf
    costs = costs.astype(np.float32)
    budgets = rng.uniform(0, 0.6, k) * costs.max(axis=2).sum(axis=1)
    budgets[rng.random(k) < 0.1] = 0.0
    budgets[rng.random(k) < 0.1] = np.inf
    more: dict[str, Any] = {}
    if rng.random() < 0.5:
        n_offers = m if rng.random() < 0.5 else int(rng.integers(1, 9))
        more["capacity"] = np.floor(rng.uniform(0, 0.6 * n + 1, n_offers))
        if n_offers != m or rng.random() < 0.3:
            more["offer_idx"] = rng.integers(0, n_offers, (n, m)).astype(np.int32)
        if rng.random() < 0.5:
            more["capacity_use"] = rng.exponential(1, (n, m)).astype(np.float32)
    return AllocationProblem(value=value, costs=costs, budgets=budgets, **more)


def odd_problem(seed: int) -> AllocationProblem:
    """Some thousand users with heavy tails or ties, odd scales of money and narrow rows."""
    rng = np.random.default_rng(seed)
    n, m, k = int(rng.integers(700, 4000)), int(rng.integers(1, 8)), int(rng.integers(1, 4))
    value = rng.pareto(1.2, (n, m)) if seed % 2 else rng.integers(-1, 4, (n, m))
    costs = rng.exponential(1, (k, n, m)) if seed % 3 else rng.integers(0, 3, (k, n, m))
    scale = 10.0 ** rng.integers(-6, 6)
    value = value.astype(np.float32)
    value[rng.random((n, m)) < 0.15] = -np.inf
    costs = (costs * scale).astype(np.float32)
    budgets = rng.uniform(0, 0.6, k) * costs.max(axis=2).sum(axis=1) * 10.0 ** -rng.integers(0, 3)
    capacity = np.floor(rng.uniform(0, 0.4 * n, 30) * 10.0 ** -rng.integers(0, 3))
    return AllocationProblem(
        value=value,
        costs=costs,
        budgets=budgets,
        capacity=capacity,
        offer_idx=rng.integers(0, 30, (n, m)).astype(np.int32),
    )


def dense_problem(n: int, m: int, k: int, seed: int, tight: float = 0.2) -> AllocationProblem:
    """Gamma values and costs; budgets a share of the use when everyone takes the best."""
    rng = np.random.default_rng(seed)
    value = rng.gamma(2, 1, (n, m)).astype(np.float32)
    costs = rng.gamma(2, 1, (k, n, m)).astype(np.float32)
    use = costs[:, np.arange(n), value.argmax(axis=1)].sum(axis=1, dtype=np.float64)
    return AllocationProblem(value=value, costs=costs, budgets=tight * use)


def tied_problem(n: int, m: int = 6) -> AllocationProblem:
    """Every user has the same values and costs."""
    grid = np.arange(1, m + 1, dtype=np.float32)
    value = np.broadcast_to(grid, (n, m)).copy()
    costs = np.broadcast_to(grid**1.5, (1, n, m)).copy()
    return AllocationProblem(value=value, costs=costs, budgets=np.array([0.7 * n]))


def rows_of(problem: AllocationProblem) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrix, right-hand side and values over the eligible pairs, one row per user first."""
    n, k = len(problem.value), len(problem.costs)
    user, slot = np.nonzero(np.isfinite(problem.value))
    matrix = [np.equal.outer(np.arange(n), user).astype(float)]
    matrix.append(problem.costs[:, user, slot].astype(float).reshape(k, len(user)))
    limit = [np.ones(n), problem.budgets]
    if problem.capacity is not None:
        offer = slot if problem.offer_idx is None else problem.offer_idx[user, slot]
        use = 1.0 if problem.capacity_use is None else problem.capacity_use[user, slot]
        matrix.append(np.equal.outer(np.arange(len(problem.capacity)), offer) * use)
        limit.append(problem.capacity)
    return np.concatenate(matrix), np.concatenate(limit), problem.value[user, slot].astype(float)


def linear_optimum(problem: AllocationProblem) -> float:
    """Best fractional value by HiGHS."""
    matrix, limit, value = rows_of(problem)
    if not len(value):
        return 0.0
    kept = np.isfinite(limit)
    return -float(linprog(-value, A_ub=matrix[kept], b_ub=limit[kept], bounds=(0, 1)).fun)


def whole_optimum(problem: AllocationProblem) -> float:
    """Best whole value by HiGHS branch and bound."""
    matrix, limit, value = rows_of(problem)
    if not len(value):
        return 0.0
    kept = np.isfinite(limit)
    rows = LinearConstraint(matrix[kept], -np.inf, limit[kept])
    found = milp(-value, constraints=rows, integrality=np.ones(len(value)), bounds=Bounds(0, 1))
    return -float(found.fun)


def brute_force(problem: AllocationProblem) -> float:
    """Best whole value by trying all choices."""
    n, m = problem.value.shape
    every = np.array(list(itertools.product(range(-1, m), repeat=n)))
    return max(_value_or_none(problem, c) for c in every)


def _value_or_none(problem: AllocationProblem, choice: np.ndarray) -> float:
    at = np.flatnonzero(choice >= 0)
    values = problem.value[at, choice[at]]
    if not np.isfinite(values).all():
        return 0.0
    use = exact_use(problem, choice)
    limit = limits_of(problem)
    return math.fsum(values.tolist()) if (use <= limit).all() else 0.0


def limits_of(problem: AllocationProblem) -> np.ndarray:
    """Right-hand sides: budgets, then capacities."""
    more = np.empty(0) if problem.capacity is None else problem.capacity
    return np.concatenate([problem.budgets, more])


def exact_use(problem: AllocationProblem, choice: np.ndarray) -> np.ndarray:
    """Correctly rounded use of each row."""
    at = np.flatnonzero(choice >= 0)
    slot = choice[at]
    use = [math.fsum(c[at, slot].tolist()) for c in problem.costs]
    if problem.capacity is not None:
        offer = slot if problem.offer_idx is None else problem.offer_idx[at, slot]
        amount = (
            np.ones(len(at)) if problem.capacity_use is None else problem.capacity_use[at, slot]
        )
        use += [math.fsum(amount[offer == o].tolist()) for o in range(len(problem.capacity))]
    return np.array(use)


def check_answer(problem: AllocationProblem, found: Allocation) -> None:
    """Rows exact, pairs eligible, value and certificate consistent."""
    n = len(problem.value)
    assert found.choice.shape == (n,)
    assert found.choice.dtype == np.int32
    at = np.flatnonzero(found.choice >= 0)
    values = problem.value[at, found.choice[at]]
    assert np.isfinite(values).all()
    assert found.value == math.fsum(values.tolist())
    use, limit = exact_use(problem, found.choice), limits_of(problem)
    assert (use <= limit).all()
    finite = np.isfinite(limit)
    np.testing.assert_allclose(
        found.slack[finite], (limit - use)[finite], atol=1e-9 * max(1.0, use.max(initial=0.0))
    )
    assert (found.slack >= 0).all()
    assert found.value <= found.bound
    assert found.gap == pytest.approx((found.bound - found.value) / max(found.bound, 1e-300))
    assert found.prices.shape == limit.shape
    assert (found.prices >= 0).all()
    assert np.isfinite(found.prices).all()


@pytest.fixture(scope="session")
def make_random() -> Callable[..., AllocationProblem]:
    return random_problem


@pytest.fixture(scope="session")
def make_odd() -> Callable[..., AllocationProblem]:
    return odd_problem


@pytest.fixture(scope="session")
def make_dense() -> Callable[..., AllocationProblem]:
    return dense_problem


@pytest.fixture(scope="session")
def make_tied() -> Callable[..., AllocationProblem]:
    return tied_problem


@pytest.fixture(scope="session")
def check() -> Callable[[AllocationProblem, Allocation], None]:
    return check_answer


@pytest.fixture(scope="session")
def optimum() -> dict[str, Callable[[AllocationProblem], float]]:
    return {"linear": linear_optimum, "whole": whole_optimum, "brute": brute_force}
