"""Gain over spend of the best policy for each spend, many offers at their own costs.

Each user's offers, by cost, have an upper concave hull of value; the best policy for a spend takes
the steps of all hulls in falling order of value per cost. So one sort gives the whole path. Source:
Sverdrup, Wu, Athey and Wager 2023 (maq), whose curve this is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from promo_ray.errors import DataError
from promo_ray.evaluation.checks import MIN_EFFECTIVE_SAMPLE, check_level
from promo_ray.evaluation.off_policy_interval import student_factor
from promo_ray.evaluation.skewness import skewed_ends
from promo_ray.response.inputs import finite_matrix, group_codes

Floats = NDArray[np.float64]


class GainCurve(NamedTuple):
    """Gain over spend, all per head; every field `(n_points,)` float64, currency units.

    Attributes:
        spend: expected cost of the policy that may spend so much.
        gain: doubly robust value of the policy against control.
        low: pointwise lower end of the interval; -infinity with fewer than 100 users.
        high: pointwise upper end; infinity with fewer than 100 users.
    """

    spend: Floats
    gain: Floats
    low: Floats
    high: Floats

    def at(self, spend: float) -> tuple[float, float, float]:
        """Gain, low and high at a spend, between points in proportion, flat after the last."""
        ends = (self.gain, self.low, self.high)
        gain, low, high = (float(np.interp(spend, self.spend, y)) for y in ends)
        return gain, low, high


class _Steps(NamedTuple):
    """Steps up the hulls, best first: `(k,)` user, cost and score that the user has after it."""

    ratio: Floats
    user: NDArray[np.int64]
    cost: Floats
    score: Floats
    added_cost: Floats
    added_score: Floats


def gain_curve(
    value: ArrayLike,
    cost: ArrayLike,
    scores: ArrayLike,
    *,
    n_points: int = 40,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> GainCurve:
    """What the best policy for each spend earns, judged by doubly robust scores.

    The interval is that of the gain at the spend named, so the error of the price that leads to
    this spend is inside: the influence of a user is own score - slope of the curve * own cost.
    Steps of one value per cost are taken together; between their ends the curve is straight.

    Args:
        value: `(n, m)` predicted incremental value of each offer, out of fold.
        cost: `(n, m)` predicted cost, >= 0.
        scores: `(n, m + 1)` doubly robust scores of the net outcome (`aipw_scores`, contact costs
            taken off), arm 0 = control.
        n_points: points of the curve at equal distances of spend, 0 and the largest included.
        groups: `(n,)` user of each row.
        level: level of the pointwise interval, in (0, 1).

    Raises:
        ConfigError: a level outside (0, 1).
        DataError: bad shape or value, the argument named.
    """
    check_level(level)
    values = finite_matrix(value, "value")
    n, m = values.shape
    costs = finite_matrix(cost, "cost", n)
    truth = finite_matrix(scores, "scores", n)
    if costs.shape != (n, m) or truth.shape != (n, m + 1):
        raise DataError(f"must be ({n}, {m}) and ({n}, {m + 1})", where="cost, scores")
    if costs.min(initial=0.0) < 0:
        raise DataError("must be >= 0", where="cost")
    if n_points < 2:
        raise DataError(f"must be >= 2; got {n_points!r}", where="n_points")
    steps = _steps(values, costs, truth)
    spend, gain = np.cumsum(steps.added_cost) / n, np.cumsum(steps.added_score) / n
    if not len(spend):
        return GainCurve(np.zeros(2), np.zeros(2), np.zeros(2), np.zeros(2))
    ends = _ends(steps.ratio, spend, n_points)
    spends, gains = np.append(0.0, spend[ends - 1]), np.append(0.0, gain[ends - 1])
    codes = None if groups is None else group_codes(groups, n)
    event = _event(truth)
    low, high = _intervals(steps, ends, spends, gains, n, codes, level, event)
    return GainCurve(spends, gains, low, high)


def _steps(values: Floats, costs: Floats, truth: Floats) -> _Steps:
    """All steps of all users' hulls in falling order of value per cost."""
    n, m = values.shape
    left = np.arange(n)
    own_value, own_cost, own_score = np.zeros(n), np.zeros(n), np.zeros(n)
    found: list[tuple[NDArray[np.int64] | Floats, ...]] = []
    for _ in range(m):
        ratio = np.full(len(left), 0.0)
        best = np.zeros(len(left), dtype=np.int64)
        for j in range(m):
            more, dearer = values[left, j] - own_value, costs[left, j] - own_cost
            with np.errstate(divide="ignore", invalid="ignore"):
                each = np.where((more > 0) & (dearer >= 0), more / dearer, 0.0)
            better = each > ratio
            ratio, best = np.where(better, each, ratio), np.where(better, j, best)
        goes = ratio > 0
        left, best, ratio = left[goes], best[goes], ratio[goes]
        if not len(left):
            break
        cost, score = costs[left, best], truth[left, best + 1] - truth[left, 0]
        found.append((ratio, left, cost, score, cost - own_cost[goes], score - own_score[goes]))
        own_value, own_cost, own_score = values[left, best], cost, score
    if not found:
        nothing = np.zeros(0)
        return _Steps(nothing, np.zeros(0, np.int64), nothing, nothing, nothing, nothing)
    ratio, user, *rest = (np.concatenate(parts) for parts in zip(*found, strict=True))
    # stable: equal ratios of one user stay in the order of the hull
    order = np.argsort(-ratio, kind="stable")
    return _Steps(ratio[order], user[order], *(part[order] for part in rest))


def _ends(ratio: Floats, spend: Floats, n_points: int) -> NDArray[np.int64]:
    """Steps taken at the points of the curve: never part of the steps of one ratio.

    Their order is that of the file; a spend that pays for some of them is one by lot, on the
    straight line between the points before and after them.
    """
    runs = np.append(0, np.flatnonzero(np.append(ratio[1:] != ratio[:-1], True)) + 1)
    grid = np.linspace(0.0, spend[-1], n_points)[1:-1]
    at = np.searchsorted(spend[runs[1:] - 1], grid, side="right")
    after = at[1:][at[1:] == at[:-1]] + 1  # where a run is longer than a gap of the grid
    ends = np.unique(np.concatenate([runs[at], runs[np.minimum(after, len(runs) - 1)], runs[-1:]]))
    return ends[ends > 0]


def _intervals(
    steps: _Steps,
    ends: NDArray[np.int64],
    spend: Floats,
    gain: Floats,
    n: int,
    codes: NDArray[np.int64] | None,
    level: float,
    event: float,
) -> tuple[Floats, Floats]:
    """Pointwise ends from the influences at each point, summed by user.

    One event of typical size may have gone unseen where few were seen; it keeps intervals open.
    """
    n_users = n if codes is None else int(codes.max()) + 1
    if n_users < MIN_EFFECTIVE_SAMPLE:
        low, high = np.full((2, len(spend)), np.inf)
        low[1:] *= -1.0
        low[0] = high[0] = 0.0
        return low, high
    z = float(norm.ppf(0.5 + level / 2))
    slope = _slopes(spend, gain)
    score, cost = np.zeros(n), np.zeros(n)
    low, high = np.zeros(len(ends) + 1), np.zeros(len(ends) + 1)
    start = 0
    for k, end in enumerate(ends.tolist(), start=1):
        part = slice(start, end)
        score[steps.user[part]], cost[steps.user[part]] = steps.score[part], steps.cost[part]
        own = score - slope[k] * cost
        own -= own.mean()
        if codes is not None:
            own = np.bincount(codes, weights=own)
        squares = own * own
        second, third = float(squares.sum()), float(squares @ own)
        skew = third / second / n if second > 0 else 0.0
        # few users carry most of it where scores are rare and large: Student's at their number
        size = max(3.0, float(np.abs(own).sum()) ** 2 / second) if second > 0 else 3.0
        variance = second * size / (size - 1.0) / n**2 * student_factor(level, size)
        rare = event**2 / max(second + event**2, 1e-300)
        trust = _trust(own, third, rare)
        low[k], high[k] = skewed_ends(float(gain[k]), variance, skew, z, event * rare / n, trust)
        start = end
    return low, high


def _trust(own: Floats, third: float, rare: float) -> float:
    """Share of the center's shift that the third moment of a few heavy rows supports.

    James and Stein's factor, 1 - noise / signal of the third moment; what it takes away is given
    back as far as hardly any event was seen (`rare` near 1), where one more would shift it anyway.
    """
    cubes = own * own * own
    noise = float(cubes @ cubes)
    signal = third * third
    kept = 1.0 - noise / signal if noise < signal else 0.0
    return kept + (1.0 - kept) * rare


def _event(truth: Floats) -> float:
    """Size of a rare large score: root of fourth over second power of effects, all offers."""
    second = fourth = 0.0
    for j in range(1, truth.shape[1]):
        effect = truth[:, j] - truth[:, 0]
        effect -= effect.mean()
        effect *= effect
        second += float(effect.sum())
        fourth += float(effect @ effect)
    return float(np.sqrt(fourth / second)) if second > 0 else 0.0


def _slopes(spend: Floats, gain: Floats) -> Floats:
    """Slope of the curve at its points, over an eighth of it to either side."""
    last = len(spend) - 1
    at = np.arange(len(spend))
    reach = max(1, last // 8)
    left, right = np.maximum(at - reach, 0), np.minimum(at + reach, last)
    width = spend[right] - spend[left]
    rise = gain[right] - gain[left]
    return np.where(width > 0, rise / np.where(width > 0, width, 1.0), 0.0)
