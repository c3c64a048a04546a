"""Prices of the rows: Newton's method on the smoothed dual, smoothing falling to nothing.

The dual g(lam) = lam . b + sum_i max(0, max_j s_ij) has one price per row whatever the number of
users; it is convex, and an upper bound of every allocation at any lam >= 0. Entropy smoothing at
temperature tau (Nesterov 2005) gives it a Hessian, summed in the same pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls

from promo_ray.allocation.kernel import Floats, Pass
from promo_ray.allocation.reach import Reach

_FALL = 0.2  # of tau per level; a Newton step then starts within its basin (x 0.05 does not)
_MARGIN = 1.0 + 2.0**-18  # above the highest useful price, by more than ties are told apart
_MAX_PASSES = 80
_ACCEPT = 1e-4  # share of the predicted fall that a step must reach (Armijo)


class Limits(NamedTuple):
    """Rows as the search of prices sees them.

    Attributes:
        rhs: `(R,)` right-hand sides.
        is_free: `(R,)` whether the row's price is searched; else it stays at its start.
        highest: `(R,)` price without any taker.
        scale: `(R,)` typical price: value per use when everyone takes the best.
        value_scale: mean best value of a user, currency.
    """

    rhs: Floats
    is_free: NDArray[np.bool_]
    highest: Floats
    scale: Floats
    value_scale: float

    def start(self) -> Floats:
        """Prices before the search: a row with nothing to give is closed by its price."""
        return np.where(self.rhs == 0, self.highest, 0.0)

    def cost(self, lam: Floats) -> float:
        """Sum of lam . b; rows without a price do not count, infinite ones have none."""
        priced = lam > 0
        return float(lam[priced] @ self.rhs[priced])


def limits_of(rhs: Floats, facts: Reach) -> Limits:
    """Limits from right-hand sides and facts about all users."""
    highest = facts.highest_price * _MARGIN
    is_free = (rhs > 0) & np.isfinite(rhs) & (highest > 0)
    per_use = np.divide(facts.best, facts.use, out=highest.copy(), where=facts.use > 0)
    return Limits(
        rhs, is_free, highest, np.minimum(per_use, highest), facts.best / max(1, facts.n_users)
    )


class Search(NamedTuple):
    """Outcome of `descend`.

    Attributes:
        lam: `(R,)` last prices; the near-tied users there carry the last of the budgets.
        best: `(R,)` prices of the least bound.
        bound: least exact dual value seen.
        lower: largest value of a fractional allocation seen.
        tau: last temperature.
        n_passes: evaluations.
    """

    lam: Floats
    best: Floats
    bound: float
    lower: float
    tau: float
    n_passes: int


def descend(
    evaluate: Callable[[Floats, float], Pass],
    limits: Limits,
    lam: Floats,
    tau: float,
    n_undecided: int,
    least_tau: float,
) -> Search:
    """Minimize the dual until at most `n_undecided` users are near a tie or tau is `least_tau`.

    Args:
        evaluate: smoothed pass over the users at prices and temperature.
        limits: rows.
        lam: `(R,)` start.
        tau: first temperature, currency.
        n_undecided: users that a linear program can take over.
        least_tau: last temperature, currency.
    """
    radius = 1.0
    found = evaluate(lam, tau)
    best, bound, lower, n_passes = lam, np.inf, 0.0, 1
    while True:
        exact = limits.cost(lam) + found.exact
        if exact < bound:
            best, bound = lam, exact
        lower = max(lower, _scaled_value(found, limits))
        step, fall = _newton_step(found, limits, lam, radius)
        is_level = fall <= max(0.01 * tau * found.n_undecided, 1e-14 * abs(bound))
        is_last = found.n_undecided <= n_undecided or tau <= least_tau
        if (is_level and is_last) or n_passes >= _MAX_PASSES:
            return Search(lam, best, bound, lower, tau, n_passes)
        if is_level:
            lam, tau = lam + step, max(_FALL * tau, least_tau)
            found = evaluate(lam, tau)
        else:
            trial = evaluate(lam + step, tau)
            before = limits.cost(lam) + found.smooth
            if limits.cost(lam + step) + trial.smooth <= before - _ACCEPT * fall:
                lam, found = lam + step, trial
                radius = min(4.0 * radius, 1e6)
            else:
                radius /= 8.0
                if radius < 1e-12:
                    tau = max(_FALL * tau, least_tau)
                    found, radius = evaluate(lam, tau), 1.0
                    n_passes += 1
        n_passes += 1


def _scaled_value(found: Pass, limits: Limits) -> float:
    """Value of the fractional choice scaled down until every row holds."""
    over = np.divide(found.use, limits.rhs, out=np.zeros_like(found.use), where=limits.is_free)
    return found.value / max(1.0, float(over.max(initial=0.0)))


def _newton_step(found: Pass, limits: Limits, lam: Floats, radius: float) -> tuple[Floats, float]:
    """Step to the least of the quadratic model over prices >= 0, and the fall it predicts.

    The model has the Hessian plus a diagonal that holds each price within about radius * scale
    (Levenberg); its least point is a non-negative least-squares problem (Lawson and Hanson 1974).
    """
    free = np.flatnonzero(limits.is_free)
    step = np.zeros_like(lam)
    if not len(free):
        return step, 0.0
    scale = limits.scale[free]
    slope = (limits.rhs[free] - found.use[free]) * scale
    model = found.curvature[np.ix_(free, free)] * np.outer(scale, scale)
    size = np.maximum(np.abs(slope), 1e-9 * np.abs(limits.rhs[free] * scale))
    damping = size / radius + 1e-12 * np.diag(model).max()
    factor = cholesky(model + np.diag(damping), lower=True)
    at = lam[free] / scale
    target = solve_triangular(factor, (model + np.diag(damping)) @ at - slope, lower=True)
    reached, _ = nnls(factor.T, target, maxiter=30 * len(free) + 100)
    move = np.minimum(reached, limits.highest[free] / scale) - at
    fall = -(slope @ move + 0.5 * move @ model @ move)
    step[free] = move * scale
    return step, float(fall)
