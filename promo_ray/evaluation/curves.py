"""Qini and uplift among the top scores, all in outcome units per head.

For one arm against control, rows by falling score; in the top fraction f, Yt and Yc are the
outcome sums and Nt and Nc the counts of the two arms (with propensities: sums and counts weighted
by their inverse). Qini curve Q(f) = (Yt - Yc Nt / Nc) / Nt(1), so Q(1) is the average effect;
qini = integral of Q(f) - f Q(1), auuc = integral of Q(f). They are never divided by a
"perfect" curve, which depends on noise.
Sources: Radcliffe 2007; Yadlowsky et al. 2021.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from promo_ray.errors import DataError
from promo_ray.evaluation.checks import MIN_EFFECTIVE_SAMPLE, check_level
from promo_ray.response.inputs import arms, finite_vector, group_codes
from promo_ray.seeding import stream


class Curve(NamedTuple):
    """Points of a curve: `x` and `y` are `(n_points,)` float64, `x` not falling."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]


class CurveEstimate(NamedTuple):
    """A measure of a curve with its bootstrap percentile interval and standard error.

    These are NaN for fewer than 100 users.
    """

    value: float
    low: float
    high: float
    se: float


class _Ranked(NamedTuple):
    """Rows by falling score; `ends` are the last rows of runs of equal scores."""

    is_treated: NDArray[np.bool_]
    outcome: NDArray[np.float64]
    weight: NDArray[np.float64]
    groups: NDArray[np.int64]
    ends: NDArray[np.int64]

    def curve(self, count: NDArray[np.float64] | None = None) -> Curve:
        """Qini curve from 0 to 1; `count` are bootstrap copies of each row."""
        head = np.ones(len(self.outcome)) if count is None else count
        treated = np.where(self.is_treated, self.weight * head, 0.0)
        control = np.where(self.is_treated, 0.0, self.weight * head)
        at = self.ends
        n_t, n_c = np.cumsum(treated)[at], np.cumsum(control)[at]
        y_t = np.cumsum(treated * self.outcome)[at]
        y_c = np.cumsum(control * self.outcome)[at]
        heads = np.cumsum(head)[at]
        # With no control so far the sum of controls is 0, and so is what it stands for.
        scaled = np.where(n_c > 0, y_c * n_t / np.where(n_c > 0, n_c, 1.0), 0.0)
        y = (y_t - scaled) / max(n_t[-1], np.finfo(np.float64).tiny)
        return Curve(np.concatenate([[0.0], heads / heads[-1]]), np.concatenate([[0.0], y]))


def qini_curve(
    score: ArrayLike,
    treatment: ArrayLike,
    outcome: ArrayLike,
    *,
    propensity: ArrayLike | None = None,
    seed: int | None = None,
) -> Curve:
    """Qini curve of a score.

    Args:
        score: `(n,)` larger means treat sooner.
        treatment: `(n,)` 0 = control, 1 = treated.
        outcome: `(n,)` outcome.
        propensity: `(n,)` probability of the arm that each row got; if None, equal within arms.
        seed: order of equal scores: None joins the ends of a run of equal scores by a straight
            line (their average order), a number draws an order.

    Returns:
        Curve of fraction treated in [0, 1] and gain per head in outcome units.

    Raises:
        DataError: bad shape or value, or an arm without rows; the argument named.
    """
    return _rank(score, treatment, outcome, propensity, None, seed).curve()


def qini(
    score: ArrayLike,
    treatment: ArrayLike,
    outcome: ArrayLike,
    *,
    propensity: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    n_boot: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> CurveEstimate:
    """Area between the Qini curve and the straight line to its end, outcome units per head.

    The interval is a percentile Poisson bootstrap over users with the score fixed.

    Args:
        score: see `qini_curve`.
        treatment: see `qini_curve`.
        outcome: see `qini_curve`.
        propensity: see `qini_curve`.
        groups: `(n,)` user of each row; rows are users if None.
        n_boot: resamples; 0 gives NaN for the interval.
        level: level of the interval.
        seed: seed of the resamples.
    """
    check_level(level)
    ranked = _rank(score, treatment, outcome, propensity, groups, None)
    return _estimate(lambda count: _area(ranked.curve(count)), ranked.groups, n_boot, level, seed)


def auuc(
    score: ArrayLike,
    treatment: ArrayLike,
    outcome: ArrayLike,
    *,
    propensity: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    n_boot: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> CurveEstimate:
    """Area under the Qini curve, outcome units per head: qini plus half of the average effect.

    Mean gain over all shares treated; a score without information has half of the average effect.
    Arguments as in `qini`.
    """
    check_level(level)
    ranked = _rank(score, treatment, outcome, propensity, groups, None)

    def area(count: NDArray[np.float64] | None) -> float:
        curve = ranked.curve(count)
        return float(np.trapezoid(curve.y, curve.x))

    return _estimate(area, ranked.groups, n_boot, level, seed)


def uplift_at(
    score: ArrayLike,
    treatment: ArrayLike,
    outcome: ArrayLike,
    fraction: float = 0.3,
    *,
    propensity: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    n_boot: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> CurveEstimate:
    """Difference of mean outcomes between the arms among the top scores.

    Equal scores at the border enter in proportion. Arguments as in `qini`.

    Args:
        score: see `qini_curve`.
        treatment: see `qini_curve`.
        outcome: see `qini_curve`.
        fraction: share of rows with the highest scores, in (0, 1].
        propensity: see `qini_curve`.
        groups: see `qini`.
        n_boot: see `qini`.
        level: see `qini`.
        seed: see `qini`.
    """
    if not 0 < fraction <= 1:
        raise DataError(f"must lie in (0, 1]; got {fraction!r}", where="fraction")
    check_level(level)
    ranked = _rank(score, treatment, outcome, propensity, groups, None)
    return _estimate(
        lambda count: _top(ranked, fraction, count), ranked.groups, n_boot, level, seed
    )


def _rank(
    score: ArrayLike,
    treatment: ArrayLike,
    outcome: ArrayLike,
    propensity: ArrayLike | None,
    groups: ArrayLike | None,
    seed: int | None,
) -> _Ranked:
    scores = finite_vector(score, "score")
    n = len(scores)
    arm = arms(treatment, "treatment", n, n_arms=2)
    if not 0 < arm.sum() < n:
        raise DataError("must hold both arms, 0 and 1", where="treatment")
    y = finite_vector(outcome, "outcome", n)
    weight = np.ones(n)
    if propensity is not None:
        known = finite_vector(propensity, "propensity", n)
        if known.min() <= 0 or known.max() > 1:
            raise DataError("must lie in (0, 1]", where="propensity")
        weight = 1.0 / known
    if seed is None:
        order = np.argsort(-scores, kind="stable")
        ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    else:
        order = np.lexsort((stream(seed, "ties").random(n), -scores))
        ends = np.arange(n)
    codes = group_codes(groups, n)
    return _Ranked(arm[order] == 1, y[order], weight[order], codes[order], ends)


def _area(curve: Curve) -> float:
    return float(np.trapezoid(curve.y - curve.x * curve.y[-1], curve.x))


def _top(ranked: _Ranked, fraction: float, count: NDArray[np.float64] | None) -> float:
    head = np.ones(len(ranked.outcome)) if count is None else count
    within = np.cumsum(head)
    ends = ranked.ends
    last = int(np.searchsorted(within[ends], fraction * within[-1] * (1 - 1e-12)))
    first = 0 if last == 0 else int(ends[last - 1]) + 1
    below = 0.0 if first == 0 else float(within[first - 1])
    run = float(within[ends[last]]) - below
    share = (fraction * float(within[-1]) - below) / run if run else 0.0
    weight = ranked.weight * head
    weight[first : ends[last] + 1] *= min(1.0, share)
    weight[ends[last] + 1 :] = 0.0
    treated, control = weight * ranked.is_treated, weight * ~ranked.is_treated
    if not treated.sum() or not control.sum():
        return float("nan")
    y = ranked.outcome
    return float(treated @ y / treated.sum() - control @ y / control.sum())


def _estimate(
    measure: Callable[[NDArray[np.float64] | None], float],
    groups: NDArray[np.int64],
    n_boot: int,
    level: float,
    seed: int,
) -> CurveEstimate:
    """A measure of all rows, and its percentiles under Poisson(1) copies `(n,)` of each group."""
    size, value = int(groups.max()) + 1, measure(None)
    if size < MIN_EFFECTIVE_SAMPLE:
        return CurveEstimate(value, float("nan"), float("nan"), float("nan"))
    counts = (stream(seed, "bootstrap", b).poisson(1.0, size) for b in range(n_boot))
    draws = np.array([measure(count.astype(np.float64)[groups]) for count in counts])
    draws = draws[np.isfinite(draws)]
    if len(draws) < 2:
        return CurveEstimate(value, float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2])
    return CurveEstimate(value, float(low), float(high), float(draws.std(ddof=1)))
