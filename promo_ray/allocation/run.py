"""One search: prices by Newton's method, near-tied users gathered, a whole answer kept exact."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.allocation.dual import Limits, descend, limits_of
from promo_ray.allocation.exact import from_units, total_units, units
from promo_ray.allocation.gather import (
    Gather,
    Sample,
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
    merge_passes,
    smooth_pass,
)
from promo_ray.allocation.problem import Block, Rows
from promo_ray.allocation.reach import Reach, merge_reach, reach
from promo_ray.errors import DataError, PromoRayError
from promo_ray.execution.executor import Resident
from promo_ray.telemetry import Progress

_SAMPLE_USERS = 4096
_KEEP_BASE, _KEEP_PER_ROW, _MOST_ROWS = 512, 64, 32  # users gathered: base + per row
_MAX_POLISH = 6  # linear programs
_FIRST_RAISE = 1e-7  # of a price whose row the decided users overfill
_FIRST_TAU, _SAMPLE_TAU = 0.1, 1e-3  # of the mean best value: first and last on the sample
_SECOND_TAU = 0.005  # first on all users
_LAST_TAU = 1e-11


class Whole(NamedTuple):
    """A whole answer: prices of the decided, slots of the gathered, exact sums."""

    value: float
    lam: Floats
    position: Ints
    slot: NDArray[np.int32]
    slack: Floats
    n_split: int


class Outcome(NamedTuple):
    """What a search found.

    Attributes:
        prices: `(R,)` prices of the least bound.
        bound: that bound.
        whole: the best whole answer.
        is_converged: the bound is within the tolerance of a fractional answer.
        has_oversize: some pair of positive value alone needs more than a row has.
        n_passes: passes over all users.
    """

    prices: Floats
    bound: float
    whole: Whole
    is_converged: bool
    has_oversize: bool
    n_passes: int


class Run:
    """One search for prices and a whole answer over resident blocks."""

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
        self._best: Whole | None = None

    def solve(self, warm: Floats | None) -> Outcome:
        """Run all steps."""
        facts: Reach = self._pass(reach, merge_reach, self._rows)
        if facts.n_bad:
            raise DataError(
                "values must be finite or -inf and use finite and >= 0; "
                f"got {facts.n_bad} other pairs",
                where="blocks",
            )
        limits = limits_of(self._rhs, facts)
        lam = limits.start()
        if warm is not None:
            lam = np.where(limits.is_free, np.minimum(warm, limits.highest), lam)
        if facts.n_users <= self._n_keep or not (facts.use > self._rhs).any():
            whole = self._polish(limits, lam)
        else:
            lam = self._start(limits, lam, facts) if warm is None else lam
            for n_open in (self._n_keep, self._n_keep // 16, 0):
                lam = self._search(limits, lam, n_open)
                whole = self._polish(limits, lam)
                if self._is_converged():
                    break
                lam = self._prices  # users far from a tie decide: go on to finer prices
        bound = max(self._bound, whole.value)  # rounding of the bound must not contradict
        return Outcome(
            self._prices,
            bound,
            whole,
            self._is_converged(),
            bool((facts.largest_use > self._rhs).any()),
            self._n_passes,
        )

    def _pass(self, function: Any, merge: Any, *args: Any) -> Any:
        self._n_passes += 1
        found = self._resident.reduce(function, merge, *args)
        known = {"bound": float(self._bound)} if np.isfinite(self._bound) else {}
        self._progress("allocate", self._n_passes, 0, **known)
        return found

    def _see_bound(self, bound: float, prices: Floats) -> None:
        if bound < self._bound:
            self._bound, self._prices = bound, prices

    def _is_converged(self) -> bool:
        return bool(self._bound - self._lower <= self._tolerance * abs(self._bound))

    def _start(self, limits: Limits, lam: Floats, facts: Reach) -> Floats:
        """Prices of a seeded sample, its budgets in proportion."""
        sample: Sample = self._pass(
            draw_sample, merge_samples, self._seed, _SAMPLE_USERS, facts.n_users, facts.best
        )
        on_sample = functools.partial(_weighted_pass, sample, self._rows, self._seed)
        scale = limits.value_scale
        return descend(on_sample, limits, lam, _FIRST_TAU * scale, 0, _SAMPLE_TAU * scale).lam

    def _search(self, limits: Limits, lam: Floats, n_open: int) -> Floats:
        """Prices of all users, until at most `n_open` of them are near a tie."""

        def on_all(lam: Floats, tau: float) -> Pass:
            found: Pass = self._pass(smooth_pass, merge_passes, self._rows, lam, tau, self._seed)
            return found

        scale = limits.value_scale
        found = descend(on_all, limits, lam, _SECOND_TAU * scale, n_open, _LAST_TAU * scale)
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

    def _polish(self, limits: Limits, lam: Floats) -> Whole:
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
            self._best = Whole(value, lam, near.position, slot, slack, relaxed.n_split)
        return relaxed


def _weighted_pass(sample: Sample, rows: Rows, seed: int, lam: Floats, tau: float) -> Pass:
    return smooth_pass(sample.users, rows, lam, tau, seed, sample.weight)
