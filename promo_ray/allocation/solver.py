"""`solve` and `solve_resident`: prices, certificate and a whole answer that keeps every row.

1. One pass finds the scale; a seeded sample is solved for the first prices. 2. Newton's method on
the smoothed dual over all users, until few users are near a tie. 3. Those are gathered (a bounded
number), a linear program shares what the others leave, and exchanges make it whole. All row
checks are exact. Only prices, sums and gathered users travel, never the data.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from promo_ray.allocation.gather import best_slots
from promo_ray.allocation.kernel import Floats, Ints
from promo_ray.allocation.problem import (
    Allocation,
    AllocationProblem,
    Block,
    Certificate,
    Rows,
    right_hand_side,
)
from promo_ray.allocation.run import Run, Whole
from promo_ray.errors import ConvergenceWarning, DataError
from promo_ray.execution.executor import Executor, Resident, SerialExecutor
from promo_ray.execution.threads import single_threaded
from promo_ray.telemetry import SILENT, Progress

BLOCK_USERS = 1 << 16
_COARSE_GAP = 1e-3  # above it, pairs that no whole answer can hold are worth leaving out


class BlockDecision(NamedTuple):
    """All that decides one block: prices, and the slots of its gathered users.

    Attributes:
        prices: `(R,)` prices that decide the others.
        seed: seed of the ties.
        rows: shape of the rows.
        user: `(t,)` int64 index in the block.
        slot: `(t,)` int32, -1 = no offer.
    """

    prices: Floats
    seed: int
    rows: Rows
    user: Ints
    slot: NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class ResidentAllocation(Certificate):
    """Certificate, and per block what `choose_block` needs; see `Allocation`.

    Attributes:
        decisions: one per block; `resident.map(choose_block, each=decisions)` gives the slots.
    """

    decisions: tuple[BlockDecision, ...]


def choose_block(block: Block, decision: BlockDecision) -> NDArray[np.int32]:
    """`(n,)` int32 slot of each user of a block, -1 = no offer."""
    choice = best_slots(block, decision.rows, decision.prices, decision.seed)
    choice[decision.user] = decision.slot
    return choice


def solve(
    problem: AllocationProblem,
    executor: Executor | None = None,
    warm_prices: ArrayLike | None = None,
    tolerance: float = 1e-7,
    seed: int = 0,
    *,
    block_users: int = BLOCK_USERS,
    progress: Progress = SILENT,
) -> Allocation:
    """Allocate at most one offer to each user; see `AllocationProblem` and `Allocation`.

    Args:
        problem: values, use and limits.
        executor: where to run; this process if None.
        warm_prices: `(k + n_offers,)` prices of a similar problem to start from.
        tolerance: relative distance between bound and best fractional allocation, > 0.
        seed: seed of the sample and of the split of ties.
        block_users: users per block; part of the problem, as sums are made block by block.
        progress: told the passes done, the bound and the value.

    Returns:
        The same bits for every executor and number of workers.
    """
    resident = (executor or SerialExecutor()).load(problem.blocks(block_users))
    try:
        found = solve_resident(
            resident,
            problem.budgets,
            capacity=problem.capacity,
            warm_prices=warm_prices,
            tolerance=tolerance,
            seed=seed,
            progress=progress,
        )
        choice = np.concatenate(resident.map(choose_block, each=found.decisions))
    finally:
        resident.release()
    fields = {f: getattr(found, f) for f in Certificate.__dataclass_fields__}
    return Allocation(**fields, choice=choice)


def solve_resident(
    resident: Resident[Block],
    budgets: ArrayLike,
    *,
    capacity: ArrayLike | None = None,
    warm_prices: ArrayLike | None = None,
    tolerance: float = 1e-7,
    seed: int = 0,
    progress: Progress = SILENT,
) -> ResidentAllocation:
    """Allocate over blocks that an executor holds; the data stay where they are.

    Args:
        resident: shards of type `Block`, all with the same number of budgets.
        budgets: `(k,)` >= 0; infinity = no limit.
        capacity: `(n_offers,)` >= 0 right-hand sides of the offer rows, or None.
        warm_prices: `(k + n_offers,)` prices to start from.
        tolerance: see `solve`.
        seed: see `solve`.
        progress: see `solve`.

    Raises:
        DataError: an argument has the wrong shape, is NaN or negative.
    """
    limit = right_hand_side(budgets, "budgets", None)
    more = np.empty(0) if capacity is None else right_hand_side(capacity, "capacity", None)
    rows, rhs = Rows(len(limit), len(more)), np.concatenate([limit, more])
    if not tolerance > 0:
        raise DataError(f"must be > 0; got {tolerance}", where="tolerance")
    warm = None
    if warm_prices is not None:
        warm = right_hand_side(warm_prices, "warm_prices", rows.n)
    with single_threaded():
        found = Run(resident, rows, rhs, seed, tolerance, progress).solve(warm)
        n_passes = found.n_passes
        best, chosen_rows = found.whole, rows
        if found.has_oversize and found.bound - best.value > _COARSE_GAP * found.bound:
            fitting = rows._replace(most=tuple(rhs.tolist()))
            other = Run(resident, fitting, rhs, seed, tolerance, progress).solve(None)
            n_passes += other.n_passes
            if other.whole.value > best.value:
                best, chosen_rows = other.whole, fitting
        counts = resident.map(count_users)
    if not found.is_converged:
        warnings.warn(
            f"allocation stopped after {n_passes} passes; its bound may be improvable",
            ConvergenceWarning,
            stacklevel=2,
        )
    return ResidentAllocation(
        prices=found.prices,
        value=best.value,
        bound=found.bound,
        gap=(found.bound - best.value) / found.bound if found.bound > 0 else 0.0,
        slack=best.slack,
        n_passes=n_passes,
        n_split_users=best.n_split,
        converged=found.is_converged,
        decisions=tuple(_decisions(best, chosen_rows, seed, counts)),
    )


def count_users(block: Block) -> int:
    """Users of a block."""
    return len(block.value)


def _decisions(best: Whole, rows: Rows, seed: int, counts: list[int]) -> Iterator[BlockDecision]:
    end = 0
    for n in counts:
        start, end = end, end + n
        own = slice(*np.searchsorted(best.position, [start, end]))
        yield BlockDecision(best.lam, seed, rows, best.position[own] - start, best.slot[own])
