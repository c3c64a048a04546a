"""`solve` and `solve_resident`: prices, certificate and a whole answer that keeps every row.

1. One pass finds the scale; a seeded sample is solved for the first prices. 2. Newton's method on
the smoothed dual over all users, until few users are near a tie. 3. Those are gathered (a bounded
number), a linear program shares what the others leave, and exchanges make it whole. All row
checks are exact. Only prices, sums and gathered users travel, never the data.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from promo_ray.allocation.dual import Limits, descend, limits_of
from promo_ray.allocation.exact import from_units, total_units, units
from promo_ray.allocation.gather import (
    Gather,
    Sample,
    best_slots,
    draw_sample,
    exact_parts,
    gather_near_ties,
    merge_gathers,
    merge_samples,
)
from promo_ray.allocation.integer import Relaxation, make_whole, pairs_of, relax
from promo_ray.allocation.kernel import (
    Floats,
    Ints,
    Pass,
    Reach,
    merge_passes,
    merge_reach,
    reach,
    smooth_pass,
)
from promo_ray.allocation.problem import (
    Allocation,
    AllocationProblem,
    Block,
    Certificate,
    Rows,
    right_hand_side,
)
from promo_ray.errors import DataError, PromoRayError
from promo_ray.execution.executor import Executor, Resident, SerialExecutor
from promo_ray.execution.threads import single_threaded
from promo_ray.telemetry import SILENT, Progress

BLOCK_USERS = 1 << 16
_SAMPLE_USERS = 4096
_KEEP_BASE, _KEEP_PER_ROW, _MOST_ROWS = 512, 64, 32  # users gathered: base + per row
_MAX_POLISH = 8  # linear programs
_FIRST_RAISE = 1e-7  # of a price whose row the decided users overfill
_FIRST_TAU, _SAMPLE_TAU = 0.1, 1e-3  # of the mean best value: first and last on the sample
_SECOND_TAU, _WARM_TAU = 0.005, 0.005  # first on all users
_LAST_TAU = 1e-11


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
        return _Run(resident, rows, rhs, seed, tolerance, progress).solve(warm)


class _Whole(NamedTuple):
    """A whole answer: prices of the decided, slots of the gathered, exact sums."""

    value: float
    lam: Floats
    position: Ints
    slot: NDArray[np.int32]
    slack: Floats
    n_split: int


class _Run:
    """One solve over resident blocks."""

    def __init__(
        self,
        resident: Resident[Block],
        rows: Rows,
        rhs: Floats,
        seed: int,
        tolerance: float,
        progress: Progress,
    ) -> None:
        self._resident, self._rows, self._rhs = resident, rows, rhs
        self._seed, self._tolerance, self._progress = seed, tolerance, progress
        self._n_keep = _KEEP_BASE + _KEEP_PER_ROW * min(rows.n, _MOST_ROWS)
        self._n_passes = 0
        self._bound, self._prices, self._lower = np.inf, np.zeros(rows.n), 0.0
        self._best: _Whole | None = None

    def solve(self, warm: Floats | None) -> ResidentAllocation:
        """Run all steps."""
        facts: Reach = self._pass(reach, merge_reach, self._rows)
        limits = limits_of(self._rhs, facts)
        lam = limits.start()
        if warm is not None:
            lam = np.where(limits.is_free, np.minimum(warm, limits.highest), lam)
        if facts.n_users > self._n_keep and (facts.use > self._rhs).any():
            lam = self._search(limits, lam, facts, is_warm=warm is not None)
        best = self._polish(limits, lam)
        counts = self._resident.map(count_users)
        bound = max(self._bound, best.value)  # rounding of the bound must not contradict
        return ResidentAllocation(
            prices=self._prices,
            value=best.value,
            bound=bound,
            gap=(bound - best.value) / bound if bound > 0 else 0.0,
            slack=best.slack,
            n_passes=self._n_passes,
            n_split_users=best.n_split,
            converged=self._is_converged(),
            decisions=tuple(self._decisions(best, counts)),
        )

    def _pass(self, function: Any, merge: Any, *args: Any) -> Any:
        self._n_passes += 1
        found = self._resident.reduce(function, merge, *args)
        self._progress("allocate", self._n_passes, 0, bound=float(self._bound))
        return found

    def _see_bound(self, bound: float, prices: Floats) -> None:
        if bound < self._bound:
            self._bound, self._prices = bound, prices

    def _is_converged(self) -> bool:
        return bool(self._bound - self._lower <= self._tolerance * abs(self._bound))

    def _search(self, limits: Limits, lam: Floats, facts: Reach, *, is_warm: bool) -> Floats:
        scale = limits.value_scale
        tau = _WARM_TAU * scale
        if not is_warm:
            sample: Sample = self._pass(
                draw_sample, merge_samples, self._seed, _SAMPLE_USERS, facts.n_users, facts.best
            )
            on_sample = functools.partial(_weighted_pass, sample, self._rows, self._seed)
            first = descend(on_sample, limits, lam, _FIRST_TAU * scale, 0, _SAMPLE_TAU * scale)
            lam, tau = first.lam, _SECOND_TAU * scale

        def on_all(lam: Floats, tau: float) -> Pass:
            found: Pass = self._pass(smooth_pass, merge_passes, self._rows, lam, tau, self._seed)
            return found

        found = descend(on_all, limits, lam, tau, self._n_keep, _LAST_TAU * scale)
        self._see_bound(found.bound, found.best)
        self._lower = max(self._lower, found.lower)
        return found.lam

    def _gather(self, limits: Limits, lam: Floats) -> tuple[Gather, list[int | None]]:
        """Users near a tie, and what all others leave of each row (None = no limit)."""
        near: Gather = self._pass(
            gather_near_ties,
            functools.partial(merge_gathers, self._n_keep),
            self._rows,
            lam,
            self._seed,
            self._n_keep,
        )
        self._see_bound(limits.cost(lam) + near.exact, lam)
        _, own = exact_parts(near.users, self._rows, near.slot)
        left: list[int | None] = []
        for limit, everyone, gathered in zip(self._rhs, near.use_parts, own, strict=True):
            others = total_units(everyone) - total_units(gathered)
            left.append(units(limit) - others if np.isfinite(limit) else None)
        return near, left

    def _polish(self, limits: Limits, lam: Floats) -> _Whole:
        for _ in range(_MAX_POLISH):
            near, left = self._gather(limits, lam)
            rate = _FIRST_RAISE
            while any(n is not None and n < 0 for n in left):
                is_over = np.array([n is not None and n < 0 for n in left])
                raised = np.maximum(lam * (1.0 + rate), lam + rate * limits.scale)
                lam = np.where(is_over, np.minimum(raised, limits.highest), lam)
                rate *= 4.0
                near, left = self._gather(limits, lam)
            relaxed = self._finish(lam, near, left)
            if self._is_converged():
                break
            lam = np.where(limits.is_free, np.minimum(relaxed.prices, limits.highest), lam)
        if self._best is None:
            raise PromoRayError("the allocation must end with an answer; none was found")
        return self._best

    def _finish(self, lam: Floats, near: Gather, left: list[int | None]) -> Relaxation:
        """Whole answer from the gathered users; kept if it is the best so far."""
        pairs = pairs_of(near.users, self._rows)
        room = np.array([np.inf if n is None else from_units(n) for n in left])
        relaxed = relax(pairs, len(near.slot), room)
        gathered_value, _ = exact_parts(near.users, self._rows, near.slot)
        decided = total_units(near.value_parts) - total_units(gathered_value)
        self._lower = max(self._lower, from_units(decided) + relaxed.value)
        chosen, rest = make_whole(pairs, len(near.slot), left, relaxed)
        slot = np.append(pairs.slot, -1)[chosen].astype(np.int32)
        value_parts, _ = exact_parts(near.users, self._rows, slot)
        value = from_units(decided + total_units(value_parts))
        if self._best is None or value > self._best.value:
            slack = np.array([np.inf if n is None else from_units(n) for n in rest])
            self._best = _Whole(value, lam, near.position, slot, slack, relaxed.n_split)
        return relaxed

    def _decisions(self, best: _Whole, counts: list[int]) -> Iterator[BlockDecision]:
        end = 0
        for n in counts:
            start, end = end, end + n
            own = slice(*np.searchsorted(best.position, [start, end]))
            yield BlockDecision(
                best.lam, self._seed, self._rows, best.position[own] - start, best.slot[own]
            )


def count_users(block: Block) -> int:
    """Users of a block."""
    return len(block.value)


def _weighted_pass(sample: Sample, rows: Rows, seed: int, lam: Floats, tau: float) -> Pass:
    return smooth_pass(sample.users, rows, lam, tau, seed, sample.weight)
