"""The linear relaxation as general solvers want it, and what their answers are worth.

It carries one row per user, and a column per eligible pair of user and slot.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix

from promo_ray.bench.allocation_instances import Array, Floats, Instance
from promo_ray.bench.allocation_judges import lagrangian

Record = dict[str, Any]

_WHOLE = 1e-6  # a share of an offer within this of 0 or 1 counts as whole


class Timer:
    """Processor and wall seconds of the solver's own call, and of building its model before."""

    def __init__(self) -> None:
        self._cpu, self._wall = [time.process_time()], [time.perf_counter()]

    def mark(self) -> None:
        """End of the model, then end of the solve."""
        self._cpu.append(time.process_time())
        self._wall.append(time.perf_counter())

    def record(self) -> Record:
        """Seconds after two marks."""
        build, solve = np.diff(self._cpu).tolist()
        return {"build_s": build, "cpu_s": solve, "wall_s": self._wall[2] - self._wall[1]}


class Program(NamedTuple):
    """Linear relaxation `min cost x, matrix x <= limit, x >= 0`, a column per eligible pair.

    Rows are users, then the R rows of the instance (floors with turned signs). `user` and `slot`
    are those of each column.
    """

    cost: Floats
    matrix: Any
    limit: Floats
    user: NDArray[np.int64]
    slot: NDArray[np.int64]


def program(instance: Instance) -> Program:
    """The linear relaxation of an instance as general solvers want it."""
    n, k = len(instance.value), len(instance.budgets)
    user, slot = np.nonzero(np.isfinite(instance.value))
    rows: list[Array] = [user]
    entries: list[Array] = [np.ones(len(user))]
    for i, cost in enumerate(instance.costs):
        rows.append(np.full(len(user), n + i))
        entries.append(cost[user, slot])
    start = n + k
    if instance.capacity is not None:
        use = instance.capacity_use
        rows.append(
            start + (slot if instance.offer_idx is None else instance.offer_idx[user, slot])
        )
        entries.append(np.ones(len(user)) if use is None else use[user, slot])
        start += len(instance.capacity)
    limit = instance.limits()
    if instance.segment_idx is not None:
        rows.append(start + instance.segment_idx[user])
        entries.append(np.full(len(user), -1.0))
        limit[start - n :] *= -1.0
    matrix = csc_matrix(
        (
            np.stack(entries, axis=1).astype(np.float64).ravel(),
            np.stack(rows, axis=1).astype(np.int32).ravel(),
            np.arange(0, len(rows) * len(user) + 1, len(rows), dtype=np.int32),
        ),
        shape=(n + len(limit), len(user)),
    )
    value = instance.value[user, slot].astype(np.float64)
    return Program(-value, matrix, np.concatenate([np.ones(n), limit]), user, slot)


def judged(instance: Instance, lp: Program, x: Floats, prices: Floats) -> Record:
    """What a peer's raw fractional answer and prices are worth."""
    n = len(instance.value)
    over = lp.matrix @ x - lp.limit
    size = np.abs(lp.limit[n:])
    size = np.maximum(size, 1e-3 * size.max(initial=1e-9))  # a limit of 0 has no relative excess
    is_split = np.minimum(x, np.abs(1.0 - x)) > _WHOLE
    return {
        "bound": lagrangian(instance, np.maximum(prices, 0.0)),
        "objective": -float(lp.cost @ x),
        "row_violation": max(0.0, float((over[n:] / size).max(initial=0.0))),
        "user_violation": max(0.0, float(over[:n].max(initial=0.0))),
        "n_split_users": len(np.unique(lp.user[is_split])),
    }
