"""Partial pooling of estimates: items towards their category's mean, categories towards all.

Parametric empirical Bayes (Morris 1983, JASA 78:47-55; Efron and Morris 1975). With estimates
y_i ~ N(theta_i, V_i) and theta_i ~ N(mu_g, A), item i keeps the share 1 - B_i of its distance from
the mean, B_i = V_i / (V_i + A). A is the fixed point of
A = sum w_i (f (y_i - mu)^2 - V_i) / sum w_i with w_i = 1 / (V_i + A) and f = k / (k - r), which
takes out what is lost to r estimated means.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MAX_ITER = 200


class Pooled(NamedTuple):
    """Pooled estimates.

    Attributes:
        mean: `(n,)` posterior means.
        se: `(n,)` posterior standard errors.
        group_mean: `(g,)` means of groups.
        group_se: `(g,)` their standard errors, for a new item of the group: spread included.
        spread: standard deviation of items about their group's mean.
    """

    mean: Floats
    se: Floats
    group_mean: Floats
    group_se: Floats
    spread: float


def pool(
    estimate: Floats, se: Floats, group: NDArray[np.int64], n_groups: int, strength: float = 1.0
) -> Pooled:
    """Pool estimates of items within groups, and groups within all.

    Args:
        estimate: `(n,)` estimates.
        se: `(n,)` standard errors; infinite = no evidence.
        group: `(n,)` group of each item in [0, n_groups).
        n_groups: number of groups.
        strength: factor on the sampling variances where they decide how much to pool.
    """
    counts = np.isfinite(se)
    y, variance, own = estimate[counts], se[counts] ** 2, group[counts]
    n_used = len(np.unique(own))
    if not len(y):
        wide = np.full(n_groups, np.inf)
        return Pooled(estimate.copy(), se.copy(), np.zeros(n_groups), wide, np.inf)
    spread2 = _spread(y, variance, own, n_groups, n_used)
    weight = 1.0 / (variance + spread2)
    total = np.bincount(own, weight, n_groups)
    has = total > 0
    raw = np.divide(
        np.bincount(own, weight * y, n_groups), total, out=np.zeros(n_groups), where=has
    )
    raw_var = np.divide(1.0, total, out=np.full(n_groups, np.inf), where=has)
    one = np.zeros(int(has.sum()), dtype=np.int64)
    between = _spread(raw[has], raw_var[has], one, 1, 1)
    top_weight = 1.0 / (raw_var[has] + between)
    top = float(top_weight @ raw[has] / top_weight.sum())
    top_var = 1.0 / float(top_weight.sum())
    group_share = _share(raw_var, between)
    group_mean = raw + group_share * (top - raw)
    group_var = np.where(has, raw_var, 0.0) * (1.0 - group_share) + group_share**2 * (
        top_var + np.where(has, 0.0, between)
    )
    item_var = np.where(counts, se, np.inf) ** 2
    share = _share(strength * item_var, spread2)
    center = group_mean[group]
    away = np.where(counts, estimate, center) - center
    mean = center + (1.0 - share) * away
    kept = np.where(counts, item_var, 0.0) * (1.0 - share) + np.where(counts, 0.0, spread2)
    # Morris's term for the error of the estimated spread
    doubt = 2.0 / max(1, len(y) - n_used - 2) * share**2 * away**2
    var = kept + share**2 * group_var[group] + np.where(counts, doubt, 0.0)
    return Pooled(
        mean, np.sqrt(var), group_mean, np.sqrt(group_var + spread2), float(np.sqrt(spread2))
    )


def _share(variance: Floats, spread2: float) -> Floats:
    """Share of the way to the mean: V / (V + A), 1 without evidence, 0 where V is 0."""
    finite = np.isfinite(variance)
    some = np.where(finite, variance, 1.0)
    share = np.divide(some, some + spread2, out=np.zeros_like(some), where=some + spread2 > 0)
    return np.where(finite, share, 1.0)


def _spread(y: Floats, variance: Floats, group: NDArray[np.int64], n: int, n_used: int) -> float:
    """Variance A of true values about their group's mean, >= 0; see the module's formula."""
    k = len(y)
    if k - n_used < 1:
        return 0.0
    spread2 = float(np.var(y))
    for _ in range(_MAX_ITER):
        weight = 1.0 / np.maximum(variance + spread2, 1e-300)
        total = np.bincount(group, weight, n)
        mean = np.bincount(group, weight * y, n) / np.maximum(total, 1e-300)
        gap = (y - mean[group]) ** 2 * k / (k - n_used)
        new = max(0.0, float(weight @ (gap - variance) / weight.sum()))
        if abs(new - spread2) <= 1e-10 * max(1.0, spread2):
            return new
        spread2 = new
    return spread2
