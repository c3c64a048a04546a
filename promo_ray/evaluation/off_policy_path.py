"""The automatic off-policy estimate: paths of ever weaker cuts, followed to where nothing is cut.

Weights cut at c make `clipped_snips` and its doubly robust form ("clipped sndr") precise and
biased. t, the share of weight that c cuts off, falls to 0 as c grows, and with it the bias. Over
the cuts the bias is taken as an integrated Brownian motion in t from 0 at t = 0, so the value at
t = 0 follows from all cuts together by generalized least squares; the size of the motion is
averaged over a grid by its likelihood. Both paths' answers are weighted by 1 / posterior variance.

The covariance of two cuts is sigma^2 sum(u u') / (sum u sum u'), as for rewards whose scatter does
not depend on the weights: a sandwich would be small exactly where a rare reward was missed, and
pull the answer down. sigma^2 makes it equal to the sandwich, clustered by user, at one mild cut.
Sources: Swaminathan and Joachims 2015 (self-normalized weights); Su et al. 2020 (cuts in sequence);
Wahba 1978 (integrated Brownian motion as the prior of a smooth path).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.evaluation.off_policy_moments import CUTS, Moments

Floats = NDArray[np.float64]

_LEAST_TAIL = 0.002  # share of weight below which a cut is no cut
_MILD_TAIL = 0.4  # the strongest cut of less than this sets the size of the noise
_ROUNDING = 1e-13  # share of its terms below which a sum of squares is their rounding
_SIZES = np.geomspace(0.1, 5.0, 6)  # of the motion, in units of the policy's lift over the log


class PathValue(NamedTuple):
    """Value at no cut, its posterior variance, and the `(d,)` influence on the columns."""

    value: float
    variance: float
    influence: Floats


def path_value(moments: Moments, policy: int, *, has_model: bool) -> PathValue:
    """Value that the self-normalized estimates tend to as their cut weakens.

    Args:
        moments: of a plan with cut columns of kind "clip" and a model.
        policy: which policy of the moments.
        has_model: whether the doubly robust form is followed, or `clipped_snips`.

    Returns:
        The value; NaN where the rewards under the weights do not vary, so nothing can be followed.
    """
    values, rows, weights = _estimates(moments, policy, has_model)
    mean = moments.total / moments.n
    sums = weights @ moments.second @ weights.T / moments.n**2
    size = weights @ mean
    tail = np.maximum(0.0, 1.0 - size / size[-1])
    noise = sums / np.outer(size, size)
    mild = int(np.flatnonzero(tail < _MILD_TAIL)[0])
    own = rows[mild].copy()
    shared = 0.0
    if has_model:
        model = np.zeros_like(own)
        at = moments.plan.base(policy) + 3
        model[at], model[0] = 1.0, -mean[at]
        shared = max(0.0, float(model @ moments.second @ model)) / moments.n**2
        own -= model
    scatter = float(own @ moments.second @ own)
    if not scatter > _ROUNDING * float(np.abs(own) @ np.abs(moments.second) @ np.abs(own)):
        return PathValue(float("nan"), shared, rows[-1])
    noise *= scatter / moments.n**2 / noise[mild, mild]
    keep = (tail > _LEAST_TAIL) | (np.arange(len(tail)) == len(tail) - 1)
    tail[-1] = 0.0
    lift = max(abs(values[-1] - mean[1]), 0.5 * float(np.sqrt(noise[-1, -1] + shared)))
    value, variance, share = _follow(values[keep], noise[np.ix_(keep, keep)], tail[keep], lift)
    return PathValue(value, variance + shared, share @ rows[keep])


def _estimates(moments: Moments, policy: int, has_model: bool) -> tuple[Floats, Floats, Floats]:
    """Values, influences and the weight's column of each cut, the strongest first, none last."""
    plan, mean = moments.plan, moments.total / moments.n
    base = plan.base(policy)
    # columns of a weight u, u r, u q
    places = [(at, at + 1, at + 2) for at in (plan.cut(policy, k) for k in range(len(CUTS)))]
    places.append((base, base + 1, base + 2))
    values = np.zeros(len(places))
    rows, weights = np.zeros((2, len(places), len(mean)))
    for k, (u, reward, model) in enumerate(places):
        ratio = (mean[reward] - (mean[model] if has_model else 0.0)) / mean[u]
        rows[k, reward], rows[k, u] = 1.0 / mean[u], -ratio / mean[u]
        values[k], weights[k, u] = ratio, 1.0
        if has_model:
            rows[k, model], rows[k, base + 3], rows[k, 0] = -1.0 / mean[u], 1.0, -mean[base + 3]
            values[k] += mean[base + 3]
    return values, rows, weights


def _follow(
    values: Floats, noise: Floats, tail: Floats, lift: float
) -> tuple[float, float, Floats]:
    """Value at tail 0, its posterior variance, and the weights of the cuts in it."""
    least, most = np.minimum.outer(tail, tail), np.maximum.outer(tail, tail)
    motion = least * least * (3.0 * most - least) / 2.0
    jitter = 1e-9 * float(np.trace(noise)) / len(values) * np.eye(len(values)) + 1e-300
    sizes, found = _SIZES * lift, []
    for size in sizes.tolist():
        root = np.linalg.cholesky(noise + size**2 * motion + jitter)
        y, one = np.linalg.solve(root, np.column_stack([values, np.ones(len(values))])).T
        precision = float(one @ one)
        gap = y - one * float(one @ y) / precision
        fit = -float(np.log(np.diag(root)).sum()) - 0.5 * (np.log(precision) + float(gap @ gap))
        found.append((fit, precision, np.linalg.solve(root.T, one) / precision))
    fits = np.array([f for f, _, _ in found])
    chance = np.exp(fits - fits.max())
    chance /= chance.sum()
    shares = np.array([share for _, _, share in found])
    means = shares @ values
    value = float(chance @ means)
    within = np.array([1.0 / precision for _, precision, _ in found])
    return value, float(chance @ (within + (means - value) ** 2)), chance @ shares
