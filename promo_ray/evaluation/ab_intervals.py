"""Intervals and tests of one arm, or of the difference of two, from their statistics."""

from __future__ import annotations

import math
from typing import NamedTuple

from scipy.optimize import brentq
from scipy.stats import norm
from scipy.stats import t as student_t

from promo_ray.evaluation.skewness import skewed_ends, skewed_z

Ends = tuple[float, float]


class Compared(NamedTuple):
    """A difference of two arms.

    Attributes:
        low: lower end of the interval of the difference.
        high: upper end.
        p_value: two-sided, of no difference.
    """

    low: float
    high: float
    p_value: float


def wilson_interval(share: float, n: int, level: float = 0.95) -> Ends:
    """Score interval of a proportion (Wilson 1927).

    Args:
        share: proportion found, in [0, 1].
        n: trials, >= 1.
        level: level of the interval.
    """
    z = float(norm.ppf(0.5 + level / 2))
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, center - half), min(1.0, center + half)


def score_statistic(share: float, n: int, base: float, n_base: int, difference: float) -> float:
    """Score test statistic of the hypothesis that two proportions differ by `difference`.

    The variance is that of the most likely proportions with exactly this difference, times
    N / (N - 1) (Miettinen and Nurminen 1985); closed form of Farrington and Manning 1990.

    Args:
        share: proportion of the arm.
        n: users of the arm.
        base: proportion of control.
        n_base: users of control.
        difference: hypothesis, in [-1, 1].
    """
    fitted = _fitted_share(share, n, base, n_base, difference)
    fitted_base = fitted - difference
    total = n + n_base
    variance = fitted * (1 - fitted) / n + fitted_base * (1 - fitted_base) / n_base
    gap = share - base - difference
    if variance <= 1e-15 * abs(gap):
        return math.copysign(math.inf, gap) if gap else 0.0
    return float(gap / (variance * total / (total - 1)) ** 0.5)


def _fitted_share(share: float, n: int, base: float, n_base: int, difference: float) -> float:
    """Most likely proportion of the arm, given that control's is lower by `difference`."""
    theta = n_base / n
    a = 1 + theta
    b = -(1 + theta + share + theta * base + difference * (theta + 2))
    c = difference**2 + difference * (2 * share + theta + 1) + share + theta * base
    d = -share * difference * (1 + difference)
    v = b**3 / (27 * a**3) - b * c / (6 * a**2) + d / (2 * a)
    u = math.copysign(max(0.0, b**2 / (9 * a**2) - c / (3 * a)) ** 0.5, v)
    w = (math.pi + math.acos(max(-1.0, min(1.0, v / u**3)) if u else 1.0)) / 3
    root = 2 * u * math.cos(w) - b / (3 * a)
    return max(0.0, difference, min(1.0, 1 + difference, root))


def compare_proportions(share: float, n: int, base: float, n_base: int, level: float) -> Compared:
    """Interval and test of a difference of proportions by inversion of `score_statistic`.

    Holds its level for rare events where Wald's interval fails; interval and p-value agree.
    """
    z = float(norm.ppf(0.5 + level / 2))
    effect = share - base
    p = 2 * float(norm.sf(abs(score_statistic(share, n, base, n_base, 0.0))))

    def above(difference: float) -> float:
        return min(score_statistic(share, n, base, n_base, difference), 1e9) - z

    def below(difference: float) -> float:
        return max(score_statistic(share, n, base, n_base, difference), -1e9) + z

    low = -1.0 if above(-1.0) <= 0 else float(brentq(above, -1.0, effect, xtol=1e-14))
    high = 1.0 if below(1.0) >= 0 else float(brentq(below, effect, 1.0, xtol=1e-14))
    return Compared(low, high, p)


def compare_means(
    effect: float, variance: Ends, freedom: Ends, level: float, skewness: float = 0.0
) -> Compared:
    """Interval and test of a difference of two independent estimates.

    Welch 1947, with the skewness of the difference taken in (Cressie and Whitford 1986).

    Args:
        effect: the difference.
        variance: of the two estimates.
        freedom: degrees of freedom of the two variances.
        level: level of the interval.
        skewness: third central moment of the difference over its variance.
    """
    se = sum(variance) ** 0.5
    if se == 0:
        return Compared(effect, effect, 1.0 if effect == 0 else 0.0)
    both = 1 / sum((v / se / se) ** 2 / f for v, f in zip(variance, freedom, strict=True))
    quantile = float(student_t.ppf(0.5 + level / 2, both))
    ends = skewed_ends(effect, se * se, skewness, quantile)
    return Compared(*ends, 2 * float(student_t.sf(abs(skewed_z(effect, se * se, skewness)), both)))


def relative_interval(effect: float, base: float, variance: Ends, level: float) -> Ends:
    """Interval of `effect / base` by the delta method on the log of the ratio of the two levels.

    The log takes most of the skewness off; whether 0 lies inside can differ from `compare_means`.

    Args:
        effect: difference to control.
        base: level of control.
        variance: of the levels of control and of the arm.
        level: level of the interval.

    Returns:
        NaN for both ends where one of the levels is not positive.
    """
    if not (base > 0 and base + effect > 0):
        return math.nan, math.nan
    se = (variance[0] / base**2 + variance[1] / (base + effect) ** 2) ** 0.5
    half = float(norm.ppf(0.5 + level / 2)) * se
    log = math.log1p(effect / base)
    high = math.expm1(log + half) if log + half < 700 else math.inf
    return math.expm1(log - half), high
