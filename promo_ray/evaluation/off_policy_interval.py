"""Intervals of off-policy estimates from moments, and when no verdict may be given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student_t

from promo_ray.evaluation.checks import MIN_EFFECTIVE_SAMPLE
from promo_ray.evaluation.off_policy_moments import Moments
from promo_ray.evaluation.skewness import skewed_ends

Floats = NDArray[np.float64]

_MAX_WEIGHT_GAP = 0.01  # mean weight may miss 1 by this, or by
_MAX_WEIGHT_ERRORS = 5.0  # standard errors: its mean is 1 wherever the log covers the policy
_LEAST_DIFFERENCE = 1e-9  # of weights: below it two policies are the same up to rounding


def effective_size(moments: Moments, side: int) -> float:
    """(sum |v|)^2 / sum v^2 of weights; `side` 0, 1, or 2 for the difference of two policies."""
    total, squares = moments.weights[side, :2].tolist()
    return float(total**2 / squares) if squares > 0 else 0.0


def effective_users(moments: Moments, side: int) -> float:
    """The same with the sums of |v| over each user's rows in place of v: at most the users."""
    total, squares = float(moments.weights[side, 0]), float(moments.by_user[side])
    return total**2 / squares if squares > 0 else 0.0


def skewed_interval(
    value: float, influence: Floats, moments: Moments, side: int, level: float
) -> tuple[float, float, float]:
    """Ends of an interval with the skewness of the estimate taken in, and its standard error.

    The ends are those of `skewed_ends` at the normal quantile, with the standard error put right
    for leverage (see `_carrying`) times Student's over the normal quantile at the number of rows
    with weight and event. Where a policy is mostly rewarded they stay open
    though no failure was seen: k includes one unseen event, see `_unseen_event`.

    Args:
        value: estimate.
        influence: `(d,)` its influence.
        moments: of the log.
        side: whose weights, see `effective_size`.
        level: of the interval, in (0, 1).

    Returns:
        low, high, standard error.
    """
    n, groups = moments.n, moments.n_groups
    if groups < 2 or not np.isfinite(influence).all():
        return -np.inf, np.inf, np.inf
    second = float(influence @ moments.second @ influence)
    base = influence[: moments.plan.n_base]
    third = float(np.einsum("i,j,k,ijk", base, base, base, moments.third))
    unseen = _unseen_event(moments, side)
    if unseen[0] <= 0 and second <= 1e-26 * np.abs(moments.second).max():  # only rounding
        return value, value, 0.0
    second = max(0.0, second)
    spread = second + unseen[0]
    k = (third + unseen[1]) / spread / n if spread > 0 else 0.0
    users = effective_users(moments, side)
    size = max(3.0, min(groups / n * effective_size(moments, side), users))
    variance = second * groups / (groups - 1) / n**2
    carrying = max(4.0, min(groups / n * _carrying(moments, side), users))
    events = max(3.0, size * _share_of_events(moments))
    widened = carrying / (carrying - 2.0) * student_factor(level, events)
    z = float(norm.ppf(0.5 + level / 2))
    ends = skewed_ends(value, variance * widened, k, z)
    return *ends, float(np.sqrt(variance))


def _carrying(moments: Moments, side: int) -> float:
    """(sum v^2)^2 / sum v^4 of the weights v: how few rows carry the variance.

    Fitted coefficients make the influence of the row i too small by its leverage, about
    v_i^2 / sum v^2; with squares put right by 1 / (1 - leverage)^2 (HC3 of MacKinnon and White
    1985) the variance grows by about 1 + 2 sum v^4 / (sum v^2)^2.
    """
    _, squares, _, fourths = moments.weights[side].tolist()
    return float(squares**2 / fourths) if fourths > 0 else float(moments.n)


def student_factor(level: float, size: float) -> float:
    """Squared ratio of Student's to the normal quantile: how few users widen an interval."""
    tail = 0.5 + level / 2
    ratio = float(student_t.ppf(tail, size - 1.0) / norm.ppf(tail))
    return ratio * ratio


def _share_of_events(moments: Moments) -> float:
    """(mean |r - mean r|)^2 / variance of r, exact for two values: few rewards, few degrees.

    With skewness g it is 4 / (4 + g^2); of a reward of 0 or 1 at rate p, 4 p (1 - p).
    """
    second, third = _rewards_around(moments, float(moments.rewards[0] / moments.n))
    return 4.0 / (4.0 + third * third / second**3) if second > 0 else 1.0


def _unseen_event(moments: Moments, side: int) -> tuple[float, float]:
    """Second and third power of the contribution of one more row of a rare kind of reward.

    Its size: third over second moment of the log's rewards around their mean or, if larger,
    around the mean under a policy: where what a policy does is mostly rewarded, the rare kind is
    a failure.
    """
    plan, size = moments.plan, 0.0
    centers = [float(moments.rewards[0] / moments.n)]
    for p in (side,) if side < 2 else range(plan.n_policies):
        weight, reward = moments.total[plan.base(p) : plan.base(p) + 2].tolist()
        if weight > 0:
            centers.append(reward / weight)
    for center in centers:
        second, third = _rewards_around(moments, center)
        if abs(third) > abs(size) * second:
            size = third / second
    _, squares, cubes, fourths = moments.weights[side].tolist()
    if squares <= 0:
        return 0.0, 0.0
    event = size * size * fourths / squares
    return event, event * size * cubes / squares


def _rewards_around(moments: Moments, center: float) -> tuple[float, float]:
    """Mean of (r - center)^2 and of (r - center)^3 in the log; 0, 0 if only rounding."""
    one, two, three = (moments.rewards / moments.n).tolist()
    second = two - 2.0 * one * center + center * center
    if second <= 1e-12 * (two + center * center):
        return 0.0, 0.0
    third = three - 3.0 * two * center + 3.0 * one * center**2 - center**3
    return second, third


def reason_to_withhold(moments: Moments, side: int) -> str:
    """Why the log supports no verdict on the policies; "" if it does.

    Args:
        moments: of the log.
        side: what is judged, see `effective_size`; a difference rests on the rows where the
            policies differ.
    """
    reason = lost_overlap(moments)
    if reason:
        return reason
    judged = [*range(moments.plan.n_policies)]
    is_same = side == 2 and moments.largest[2] <= _LEAST_DIFFERENCE
    if side == 2 and not is_same:
        judged.append(2)
    for p in judged:
        ess = min(effective_size(moments, p), effective_users(moments, p))
        if ess < MIN_EFFECTIVE_SAMPLE:
            where = " where the policies differ" if p == 2 else ""
            return (
                f"effective sample size must be at least {MIN_EFFECTIVE_SAMPLE:.0f}{where}; "
                f"got {ess:.0f} of {moments.n_groups} users"
            )
    mean = float(moments.rewards[0] / moments.n)
    if not is_same and _rewards_around(moments, mean)[0] <= 0:
        return f"all rewards are {mean:g}: the log cannot tell how often others would come"
    return ""


def lost_overlap(moments: Moments) -> str:
    """Why weights cannot stand for the policies, whatever the size of the log; "" if they can."""
    if moments.n_missing:
        rows = moments.n + moments.n_missing
        return f"propensities are missing in {moments.n_missing} of {rows} rows"
    if moments.n_unreached:
        return (
            f"no overlap: in {moments.n_unreached} of {moments.n} rows the policy chooses arms "
            "that the log could not give"
        )
    for p in range(moments.plan.n_policies):
        column = moments.plan.base(p)
        mean = float(moments.total[column] / max(1, moments.n))
        if moments.largest[p] <= 0:
            return "no overlap: the log holds no row that the policy could have written"
        gap = np.zeros(len(moments.total))
        gap[column], gap[0] = 1.0, -mean
        error = np.sqrt(max(0.0, float(gap @ moments.second @ gap))) / moments.n
        if abs(mean - 1.0) > max(_MAX_WEIGHT_GAP, _MAX_WEIGHT_ERRORS * error):
            return (
                f"no overlap: the mean importance weight must be near 1; got {mean:.3g} "
                f"(standard error {error:.2g}): the log cannot reach what the policy does, or "
                "its propensities are wrong"
            )
    return ""
