"""Prices of several budgets, menu by menu, all menus of a batch in step.

The dual of a menu is convex in its prices. Every pass over the users at some prices gives one
allocation; the best mixture of those met that keeps all budgets is a small linear program, whose
own prices say where to look next (Dantzig and Wolfe 1960). Looking short of them, towards the
best bound so far, takes fewer passes (in-out separation, Ben-Ameur and Neto 2007).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Evaluate = Callable[[NDArray[np.int64], Doubles], tuple[Doubles, Doubles]]

_MOST_PASSES = 80
_MOST_PIVOTS = 100  # per pass; a few are usual
_SHORT = 0.6  # of the way from the prices of the mixture to those of the best bound
_ROUND = 1e-12  # of values and shares of budgets, all about 1: what counts as nothing


class _Mixtures:
    """Linear programs, one per menu: the best mixture of allocations that keeps the budgets.

    Max sum x_t value_t with sum x_t use_t + slack = 1 for each budget, sum x_t = 1, all >= 0, by
    the primal simplex method. Columns: no offers at all, slacks, then allocations.

    Args:
        n: menus.
        k: budgets.
    """

    def __init__(self, n: int, k: int) -> None:
        self.k, self.size = k, k + 1
        self.value: Doubles = np.zeros((n, self.size + _MOST_PASSES))
        self.use: Doubles = np.zeros((n, self.size + _MOST_PASSES, k + 1))
        self.use[:, 0, k] = 1.0
        self.use[:, np.arange(1, k + 1), np.arange(k)] = 1.0
        self.basis = np.tile(np.array([*range(1, k + 1), 0]), (n, 1))
        self.inverse: Doubles = np.tile(np.eye(k + 1), (n, 1, 1))

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Forget all menus but some."""
        for name in ("value", "use", "basis", "inverse"):
            setattr(self, name, getattr(self, name)[rows])

    def add(self, value: Doubles, use: Doubles) -> None:
        """An allocation of every menu: `(n,)` and `(n, k)`."""
        self.value[:, self.size] = value
        self.use[:, self.size, : self.k] = use
        self.use[:, self.size, self.k] = 1.0
        self.size += 1

    def prices(self) -> Doubles:
        """`(n, k + 1)` of the budgets, and of the mixture's shares."""
        own = np.take_along_axis(self.value, self.basis, 1)
        found: Doubles = (own[:, None, :] @ self.inverse)[:, 0]
        return found

    def improve(self) -> None:
        """Pivot to the best mixture."""
        at = np.arange(len(self.value))
        use, value = self.use[:, : self.size], self.value[:, : self.size]
        for _ in range(_MOST_PIVOTS):
            gain = value - (use @ self.prices()[:, :, None])[:, :, 0]
            enter = gain.argmax(axis=1)
            column = (self.inverse @ use[at, enter][:, :, None])[:, :, 0]
            level = np.maximum(self.inverse.sum(axis=2), 0.0)  # all right-hand sides are 1
            steps = np.full_like(level, np.inf)
            np.divide(level, column, out=steps, where=column > 1e-9)
            leave = steps.argmin(axis=1)
            moves = (gain[at, enter] > _ROUND) & np.isfinite(steps[at, leave])
            if not moves.any():
                return
            m, out = at[moves], leave[moves]
            row = self.inverse[m, out] / column[m, out][:, None]
            self.inverse[m] -= column[m][:, :, None] * row[:, None, :]
            self.inverse[m, out] = row
            self.basis[m, out] = enter[moves]

    def best(self) -> tuple[Doubles, Doubles]:
        """Value `(n,)` and use `(n, k)` of the mixtures, which keep every budget."""
        share = np.maximum(self.inverse.sum(axis=2), 0.0)
        value = (share * np.take_along_axis(self.value, self.basis, 1)).sum(axis=1)
        own = np.take_along_axis(self.use, self.basis[:, :, None], 1)
        is_slack = (self.basis >= 1) & (self.basis <= self.k)
        use = (np.where(is_slack, 0.0, share)[:, None, :] @ own)[:, 0]
        # what rounding left too much
        most = np.maximum(use.max(axis=1), 1.0)[:, None]
        return value / most[:, 0], use[:, : self.k] / most


def priced(evaluate: Evaluate, limit: Doubles, first: Doubles, tolerance: float) -> Doubles:
    """Value, bound, prices and spend of menus under several budgets.

    Args:
        evaluate: of numbers of menus `(b,)` and prices `(b, K)`: value `(b,)` and use `(b, K)`
            of the allocation in which every user takes the best at these prices.
        limit: `(K,)` > 0 budgets over all users.
        first: `(n, K)` >= 0 prices to begin with; a guess is made where all are 0.
        tolerance: relative gap between value and bound at which the search ends.

    Returns:
        `(n, 2 + 2 K)` value, bound, prices and spend. The value is that of a mixture of
        allocations which keeps all budgets: whole for all but a few users.
    """
    n, k = first.shape
    rows = np.arange(n)
    worth, use = evaluate(rows, np.zeros((n, k)))
    out = np.column_stack([worth, worth, np.zeros((n, k)), use])
    rows = rows[(use > limit).any(axis=1)]
    if not len(rows):
        return out
    worth, use = worth[rows], use[rows] / limit
    mixtures = _Mixtures(len(rows), k)
    mixtures.add(np.ones(len(rows)), use)
    bound, best = np.ones(len(rows)), np.zeros((len(rows), k))
    price = first[rows] * limit / worth[:, None]
    guess = np.where(use > 1, 0.5 / np.maximum(use, 1.0), 0.0)
    price = np.where(price.any(axis=1, keepdims=True), price, guess)
    for turn in range(2, _MOST_PASSES + 1):
        value, use = evaluate(rows, price * worth[:, None] / limit)
        value, use = value / worth, use / limit
        dual = value + (price * (1.0 - use)).sum(axis=1)
        is_better = dual < bound
        bound = np.where(is_better, dual, bound)
        best = np.where(is_better[:, None], price, best)
        mixtures.add(value, use)
        mixtures.improve()
        found, spent = mixtures.best()
        there = np.maximum(mixtures.prices()[:, :k], 0.0)
        following = there + _SHORT * (best - there)
        is_done = (bound - found <= tolerance * bound) | (following == price).all(axis=1)
        if turn == _MOST_PASSES:
            is_done[:] = True
        done = rows[is_done]
        scale = worth[is_done][:, None]
        out[done] = np.column_stack([
            scale * found[is_done, None], scale * bound[is_done, None],
            scale * best[is_done] / limit, limit * spent[is_done],
        ])  # fmt: skip
        if is_done.all():
            break
        rows, worth, bound, best = (a[~is_done] for a in (rows, worth, bound, best))
        price = following[~is_done]
        mixtures.keep(~is_done)
    return out
