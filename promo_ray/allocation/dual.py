"""Prices of the rows: Newton's method on the smoothed dual, smoothing falling to nothing.

The dual g(lam) = lam . b + sum_i max(0, max_j s_ij) has one price per row whatever the number of
users; it is convex, and an upper bound of every allocation at any lam >= 0. Entropy smoothing at
temperature tau (Nesterov 2005) gives it a Hessian, summed in the same pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.linalg import LinAlgError
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from promo_ray.allocation.kernel import Floats, Pass
from promo_ray.allocation.problem import Rows
from promo_ray.allocation.survey import Survey

_FALL = 0.2  # of tau per level; a Newton step then starts within its basin (x 0.05 does not)
_MARGIN = 1.0 + 2.0**-18  # above the highest useful price, by more than ties are told apart
_ACCEPT = 1e-4  # share of the predicted fall that a step must reach (Armijo)
_MOST_BOX_ROUNDS, _MOST_RIDGES = 60, 8

Evaluate = Callable[[Floats, float], Pass]


class Limits(NamedTuple):
    """Rows as the search of prices sees them.

    Attributes:
        rhs: `(R,)` right-hand sides; minus the floor for floors.
        is_free: `(R,)` whether the row's price is searched; else it is 0.
        highest: `(R,)` price without any taker, infinite where a floor may pay more.
        scale: `(R,)` typical price: value per use when everyone takes the best.
        money: mean best value of a user, currency.
    """

    rhs: Floats
    is_free: NDArray[np.bool_]
    highest: Floats
    scale: Floats
    money: float

    def cost(self, lam: Floats) -> float:
        """Sum of lam . b; rows without a price do not count, infinite ones have none."""
        priced = lam > 0
        return float(lam[priced] @ self.rhs[priced])

    def within(self, lam: Floats) -> Floats:
        """Prices brought into their range."""
        clipped: Floats = np.where(self.is_free, np.clip(lam, 0.0, self.highest), 0.0)
        return clipped


def limits_of(rhs: Floats, rows: Rows, facts: Survey) -> Limits:
    """Limits from right-hand sides `(R,)` (floors as minus the floor) and facts about all users."""
    n_users, best, use = max(1, facts.n_users), facts.best, facts.use
    is_floor = np.arange(rows.n) >= rows.n_packing
    money = best / n_users if best > 0 else (facts.largest_value or 1.0)
    has_floors = bool((rhs[is_floor] < 0).any())
    highest = np.where(is_floor | has_floors, np.inf, facts.highest * _MARGIN)
    can_bind = (rhs > 0) & np.isfinite(rhs) & (facts.largest > 0)
    is_free = np.where(is_floor, rhs < 0, can_bind & (highest > 0))
    worth = max(best, money)
    scale = np.divide(worth, use, out=np.full(rows.n, money), where=use > 0)
    fallback = np.divide(money, facts.largest, out=np.ones(rows.n), where=facts.largest > 0)
    scale = np.where(is_floor, money, np.where(use > 0, np.minimum(scale, highest), fallback))
    return Limits(rhs, is_free, highest, scale, money)


class Found(NamedTuple):
    """Where a search of prices stands.

    Attributes:
        lam: `(R,)` prices.
        tau: temperature, currency.
        seen: the pass at these prices.
        radius: size of the trust region, in typical prices.
    """

    lam: Floats
    tau: float
    seen: Pass
    radius: float


def descend(
    evaluate: Evaluate,
    limits: Limits,
    lam: Floats,
    tau: float,
    n_near: int,
    least_tau: float,
    most_passes: int,
) -> Found:
    """Minimize the dual until at most `n_near` users are near a tie or tau is `least_tau`.

    Args:
        evaluate: smoothed pass over the users at prices and temperature.
        limits: rows.
        lam: `(R,)` start.
        tau: first temperature, currency.
        n_near: users that a linear program can take over.
        least_tau: last temperature, currency.
        most_passes: evaluations at most.
    """
    at = Found(lam, tau, evaluate(lam, tau), 1.0)
    for _ in range(most_passes):
        step, fall = newton_step(at.seen, limits, at.lam, at.radius)
        is_level = fall <= max(0.01 * at.tau * at.seen.n_near, 1e-14 * abs(at.seen.smooth))
        is_last = at.seen.n_near <= n_near or at.tau <= least_tau
        if is_level and is_last:
            break
        if is_level:
            lam, tau = at.lam + step, max(_FALL * at.tau, least_tau)
            at = Found(lam, tau, evaluate(lam, tau), at.radius)
            continue
        moved = stepped(evaluate, limits, at, step, fall)
        if moved.radius < 1e-3 * at.tau / limits.money:  # rounding hides what is left to gain
            if is_last:
                break
            tau = max(_FALL * at.tau, least_tau)
            moved = Found(at.lam, tau, evaluate(at.lam, tau), 10.0 * tau / limits.money)
        at = moved
    return at


def stepped(evaluate: Evaluate, limits: Limits, at: Found, step: Floats, fall: float) -> Found:
    """One step if it lowers the smoothed dual as predicted, else a smaller trust region."""
    trial = evaluate(at.lam + step, at.tau)
    gain = limits.cost(at.lam) + at.seen.smooth - limits.cost(at.lam + step) - trial.smooth
    if gain < _ACCEPT * fall:
        return at._replace(radius=at.radius / 8.0)
    grown = 4.0 if gain > 0.75 * fall else 1.0 if gain > 0.25 * fall else 0.25
    return Found(at.lam + step, at.tau, trial, min(grown * at.radius, 1e6))


def newton_step(found: Pass, limits: Limits, lam: Floats, radius: float) -> tuple[Floats, float]:
    """Step to the least of the quadratic model over the range of prices, and the fall it predicts.

    The model has the Hessian plus a diagonal that holds each price within about radius * scale
    (Levenberg 1944).
    """
    free = np.flatnonzero(limits.is_free)
    step = np.zeros_like(lam)
    if not len(free):
        return step, 0.0
    scale = limits.scale[free]
    slope = (limits.rhs[free] - found.use[free]) * scale
    model = found.curvature[np.ix_(free, free)] * np.outer(scale, scale)
    size = np.maximum(np.abs(slope), 1e-9 * np.abs(limits.rhs[free] * scale))
    at = lam[free] / scale
    ridge = 1e-12 * max(float(np.diag(model).max()), 1e-300)
    low, high = -at, limits.highest[free] / scale - at
    for _ in range(_MOST_RIDGES):  # rounding can leave a flat model indefinite
        try:
            move = box_minimum(model + np.diag(size / radius + ridge), slope, low, high)
            break
        except LinAlgError:
            ridge *= 100.0
    else:
        steep = np.abs(model).sum(axis=1) + size / radius
        move = np.clip(-slope / np.maximum(steep, 1e-300), low, high)
    step[free] = move * scale
    return step, float(-(slope @ move + 0.5 * move @ model @ move))


def box_minimum(matrix: Floats, slope: Floats, low: Floats, high: Floats) -> Floats:
    """Least of 1/2 x' A x + slope . x over low <= x <= high, A positive definite.

    Primal-dual active set method (Hintermueller, Ito and Kunisch 2003): bounds that the free
    minimum breaks are fixed together, fixed ones that pull inwards are let go together. Where it
    cycles, which a positive definite A allows, single exchanges follow (Murty 1974).
    """
    x = np.clip(np.zeros(len(slope)), low, high)
    side = np.zeros(len(slope), dtype=np.int8)  # -1 at low, 1 at high, 0 free
    for turn in range(_MOST_BOX_ROUNDS + 3 * len(slope)):
        free = side == 0
        x = np.where(side < 0, low, np.where(side > 0, high, 0.0))
        if free.any():
            pull = slope[free] + matrix[np.ix_(free, ~free)] @ x[~free]
            x[free] = cho_solve(cho_factor(matrix[np.ix_(free, free)]), -pull)
        gradient = matrix @ x + slope
        tiny = 1e-12 * (np.abs(slope) + np.abs(matrix).max() * np.abs(x))
        wanted = np.where(free & (x < low), -1, np.where(free & (x > high), 1, side))
        wanted = np.where((side < 0) & (gradient < -tiny), 0, wanted)
        wanted = np.where((side > 0) & (gradient > tiny), 0, wanted)
        change = np.flatnonzero(wanted != side)
        if not len(change):
            break
        if turn < _MOST_BOX_ROUNDS:
            side = wanted.astype(np.int8)
        else:
            side[change[-1]] = wanted[change[-1]]
    clipped: Floats = np.clip(x, low, high)
    return clipped
