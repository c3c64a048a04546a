"""Allocation against HiGHS on the same seeded instances, in one process.

The baseline is the linear relaxation by SciPy's HiGHS interior point with crossover. It carries
one row per user, so that it is run up to 10,000 users only; `solve` is timed beyond.
"""

from __future__ import annotations

import functools
import math
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array, vstack

from promo_ray.allocation import AllocationProblem, solve
from promo_ray.execution.threads import single_threaded
from promo_ray.seeding import stream

_MOST_PEER_USERS = 10_000


class Case(NamedTuple):
    """One instance: family, users, offers, budgets, offer capacities or not."""

    family: str
    n: int
    m: int
    k: int
    has_capacity: bool = False


_QUICK = (Case("coupon", 10_000, 10, 1), Case("dense", 10_000, 10, 5))
_FULL = (
    *_QUICK,
    Case("capacity", 10_000, 10, 2, has_capacity=True),
    Case("coupon", 100_000, 10, 1),
    Case("dense", 100_000, 10, 5),
    Case("coupon", 1_000_000, 10, 1),
    Case("dense", 1_000_000, 10, 5),
)


def instance(case: Case, seed: int = 0) -> AllocationProblem:
    """Gamma values and costs; budgets 20 % of the use when everyone takes the best."""
    rng = stream(seed, "bench.allocation", case.family, case.n, case.k)
    value = rng.gamma(2.0, 1.0, (case.n, case.m)).astype(np.float32)
    costs = rng.gamma(2.0, 1.0, (case.k, case.n, case.m)).astype(np.float32)
    use = costs[:, np.arange(case.n), value.argmax(axis=1)].sum(axis=1, dtype=np.float64)
    capacity = np.full(case.m, case.n // 30, dtype=np.float64) if case.has_capacity else None
    return AllocationProblem(value=value, costs=costs, budgets=0.2 * use, capacity=capacity)


def linear_optimum(problem: AllocationProblem) -> float:
    """Optimum of the linear relaxation by HiGHS interior point."""
    n, m = problem.value.shape
    pair = np.arange(n * m)
    blocks = [coo_array((np.ones(n * m), (pair // m, pair)), shape=(n, n * m))]
    blocks += [coo_array(c.reshape(1, -1).astype(np.float64)) for c in problem.costs]
    limits = [np.ones(n), problem.budgets]
    if problem.capacity is not None:
        blocks.append(coo_array((np.ones(n * m), (pair % m, pair)), shape=(m, n * m)))
        limits.append(problem.capacity)
    found = linprog(
        -problem.value.ravel().astype(np.float64),
        A_ub=vstack(blocks).tocsr(),
        b_ub=np.concatenate(limits),
        bounds=(0, None),
        method="highs-ipm",
    )
    return -float(found.fun)


def keeps_rows(problem: AllocationProblem, choice: NDArray[np.int32]) -> bool:
    """Whether a choice of slots keeps every row, summed exactly and apart from the solver."""
    at = np.flatnonzero(choice >= 0)
    slot = choice[at]
    used = [math.fsum(c[at, slot].tolist()) for c in problem.costs]
    is_kept = all(u <= b for u, b in zip(used, problem.budgets.tolist(), strict=True))
    if problem.capacity is not None:
        given = np.bincount(slot, minlength=len(problem.capacity))
        is_kept = is_kept and bool((given <= problem.capacity).all())
    return is_kept


def _timed(work: Callable[[], Any], n_runs: int) -> tuple[Any, list[float]]:
    """Result of the last run, and processor seconds of each."""
    seconds = []
    result = None
    for _ in range(n_runs):
        started = time.process_time()
        result = work()
        seconds.append(time.process_time() - started)
    return result, seconds


def run(quick: bool = False) -> Iterator[dict[str, Any]]:
    """One record per case: processor seconds of one thread, gap, passes, ratio to HiGHS.

    Args:
        quick: small cases only, well under a minute.
    """
    for case in _QUICK if quick else _FULL:
        problem = instance(case)
        n_runs = 5 if case.n <= 100_000 else 1
        found, seconds = _timed(functools.partial(solve, problem), n_runs)
        record: dict[str, Any] = {
            "bench": "allocation",
            **case._asdict(),
            "cpu_s": statistics.median(seconds),
            "cpu_s_spread": max(seconds) - min(seconds),
            "value": found.value,
            "bound": found.bound,
            "gap": found.gap,
            "n_passes": found.n_passes,
            "n_split_users": found.n_split_users,
            "is_feasible": keeps_rows(problem, found.choice),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "machine": platform.machine(),
        }
        if case.n <= _MOST_PEER_USERS:
            with single_threaded():
                optimum, peer = _timed(functools.partial(linear_optimum, problem), 1)
            record["highs_cpu_s"] = peer[0]
            record["highs_bound"] = optimum
            record["times_faster_than_highs"] = peer[0] / record["cpu_s"]
            record["bound_over_highs"] = found.bound / optimum - 1.0
        yield record
