"""How many users a test needs, and the smallest effect that it finds."""

from __future__ import annotations

import math
from numbers import Real
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import nct, norm
from scipy.stats import t as student_t

from promo_ray.errors import ConfigError
from promo_ray.evaluation.ab_moments import AbRows, contrast_of, estimate_of, moments_of, users_of
from promo_ray.evaluation.sequential import crossing, look_boundaries

_MANY = 1e6  # degrees of freedom from which Student's t is normal


class Baseline(NamedTuple):
    """What planning needs to know of a metric, from rows of the time before.

    Attributes:
        mean: mean, proportion or ratio.
        sd: standard deviation per user; of a ratio, that of its linear part (delta method).
        sd_adjusted: the same after the covariates.
        n_users: users that it was measured on.
    """

    mean: float
    sd: float
    sd_adjusted: float
    n_users: int


def baseline(
    outcome: ArrayLike,
    *,
    denominator: ArrayLike | None = None,
    covariate: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> Baseline:
    """Mean and scatter per user of a metric; arguments as of `ab_test`, from one arm or before."""
    rows = AbRows(outcome, np.zeros(np.shape(outcome)), denominator, covariate, groups)
    users = users_of(rows, 1)
    n = len(users.arm)
    half = moments_of(users, 1)
    value, variance = estimate_of(half, 0)
    doubled = half._replace(
        n=half.n.repeat(2), mean=half.mean.repeat(2, axis=0),
        scatter=half.scatter.repeat(2, axis=0), third=half.third.repeat(2, axis=0),
    )  # fmt: skip
    cut = contrast_of(doubled, 1).variance_cut
    sd = (variance * n) ** 0.5
    return Baseline(value, sd, sd * max(0.0, 1 - cut) ** 0.5, n)


class Plan(NamedTuple):
    """How the test will be read.

    Attributes:
        level: 1 minus the false alarm rate.
        n_comparisons: arms against control that share the level (Bonferroni).
        n_looks: evenly spaced looks with alpha spending; 1 = one look at the end.
        spending: see `sequential_test`.
    """

    level: float = 0.95
    n_comparisons: int = 1
    n_looks: int = 1
    spending: str = "pocock"

    @property
    def own_level(self) -> float:
        """Level of one comparison."""
        return 1 - (1 - self.level) / self.n_comparisons


def detection_power(
    effect: float,
    n_control: int,
    n_treated: int | None = None,
    *,
    sd: float | None = None,
    rate: float | None = None,
    variance_cut: float = 0.0,
    plan: Plan | None = None,
) -> float:
    """Chance that a two-sided test finds an effect.

    Means and ratios: noncentral t. Proportions: the score test's variance without an effect, the
    true one with it. Several looks: crossing chances of the boundaries under drift.

    Args:
        effect: true difference of means, proportions or ratios.
        n_control: users of control.
        n_treated: users of the arm; None = as many.
        sd: standard deviation per user, see `baseline`; give it or `rate`.
        rate: proportion under control.
        variance_cut: share of the variance that covariates take away, in [0, 1).
        plan: how the test will be read; None = one look at 95 %, one comparison.

    Raises:
        ConfigError: a number out of range.
    """
    n = n_control if n_treated is None else n_treated
    reading = plan or Plan()
    _check(n_control, n, sd, rate, variance_cut, reading)
    null, true = _errors(effect, n_control, n, sd, rate, variance_cut)
    if reading.n_looks > 1:
        shares = [(i + 1) / reading.n_looks for i in range(reading.n_looks)]
        critical = look_boundaries(shares, reading.own_level, reading.spending) * (null / true)
        found = crossing(shares, critical.tolist(), effect / true)
        return float(found.above.sum() + found.below.sum())
    alpha = 1 - reading.own_level
    freedom = n_control + n - 2
    if rate is not None or freedom > _MANY:
        z = float(norm.isf(alpha / 2)) * null
        return float(norm.cdf((effect - z) / true) + norm.cdf((-effect - z) / true))
    limit, shift = float(student_t.isf(alpha / 2, freedom)), effect / true
    chance = float(nct.sf(limit, freedom, shift) + nct.cdf(-limit, freedom, shift))
    # SciPy's noncentral t is NaN far out, where power is 0 or 1 to many digits
    return chance if math.isfinite(chance) else float(norm.sf(limit - abs(shift)))


def minimum_detectable_effect(
    n_control: int,
    n_treated: int | None = None,
    *,
    sd: float | None = None,
    rate: float | None = None,
    power: float = 0.8,
    variance_cut: float = 0.0,
    plan: Plan | None = None,
) -> float:
    """Smallest rise that the test finds with the power wanted; arguments as `detection_power`.

    Args:
        n_control: users of control.
        n_treated: users of the arm; None = as many.
        sd: standard deviation per user; give it or `rate`.
        rate: proportion under control.
        power: chance of finding it, in (0, 1).
        variance_cut: share of the variance that covariates take away.
        plan: how the test will be read.

    Raises:
        ConfigError: a number out of range, or no proportion up to 1 can be found.
    """
    _check_power(power, plan)
    n = n_control if n_treated is None else n_treated
    _check(n_control, n, sd, rate, variance_cut, plan or Plan())

    def missing(effect: float) -> float:
        found = detection_power(
            effect, n_control, n, sd=sd, rate=rate, variance_cut=variance_cut, plan=plan
        )
        return found - power

    _, se = _errors(0.0, n_control, n, sd, rate, variance_cut)
    if se == 0:
        return 0.0
    high = 1 - rate if rate is not None else 12 * se
    while rate is None and missing(high) < 0:
        high *= 2
    if missing(high) < 0:
        raise ConfigError(f"n is too small: no rise from rate {rate} is found with power {power}")
    return float(brentq(missing, 0.0, high, xtol=1e-12 * high)) if missing(0.0) < 0 else 0.0


def sample_size(
    effect: float,
    *,
    ratio: float = 1.0,
    sd: float | None = None,
    rate: float | None = None,
    power: float = 0.8,
    variance_cut: float = 0.0,
    plan: Plan | None = None,
) -> int:
    """Users of control that find an effect with the power wanted.

    Args:
        effect: true difference, not 0.
        ratio: users of the arm per user of control, > 0.
        sd: standard deviation per user; give it or `rate`.
        rate: proportion under control.
        power: chance of finding it, in (0, 1).
        variance_cut: share of the variance that covariates take away.
        plan: how the test will be read.

    Raises:
        ConfigError: a number out of range, or more than 1e12 users.
    """
    _check_power(power, plan)
    if effect == 0 or not math.isfinite(effect):
        raise ConfigError(f"effect must be finite and not 0; got {effect!r}")
    if not ratio > 0:
        raise ConfigError(f"ratio must be > 0; got {ratio!r}")

    def is_enough(n: int) -> bool:
        treated = max(2, math.ceil(n * ratio))
        found = detection_power(
            effect, n, treated, sd=sd, rate=rate, variance_cut=variance_cut, plan=plan
        )
        return found >= power

    high = 2
    while not is_enough(high):
        high *= 2
        if high > 1e12:
            raise ConfigError("effect is too small: more than 1e12 users would be needed")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _errors(
    effect: float, n_control: int, n: int, sd: float | None, rate: float | None, cut: float
) -> tuple[float, float]:
    """Standard error of the difference without and with the effect."""
    keep = (1 - cut) ** 0.5
    if rate is None:
        se = float(sd or 0.0) * keep * (1 / n_control + 1 / n) ** 0.5
        return se, se
    treated = rate + effect
    if not 0 <= treated <= 1:
        raise ConfigError(f"rate + effect must lie in [0, 1]; got {treated!r}")
    pooled = (n_control * rate + n * treated) / (n_control + n)
    null = (pooled * (1 - pooled) * (1 / n_control + 1 / n)) ** 0.5
    true = (rate * (1 - rate) / n_control + treated * (1 - treated) / n) ** 0.5
    return null * keep, true * keep


def _check_power(power: float, plan: Plan | None) -> None:
    reading = plan or Plan()
    least = (1 - reading.level) / max(1, reading.n_comparisons)  # power of no effect at all
    if not least < power < 1:
        raise ConfigError(f"power must lie in ({least:.3g}, 1); got {power!r}")


def _check(
    n_control: int, n: int, sd: float | None, rate: float | None, cut: float, plan: Plan
) -> None:
    if not all(isinstance(v, Real) and 2 <= v < math.inf for v in (n_control, n)):
        raise ConfigError(f"n must be >= 2 and finite in both arms; got {n_control!r} and {n!r}")
    if (sd is None) == (rate is None):
        raise ConfigError("exactly one of sd and rate must be given")
    if sd is not None and not 0 < sd < math.inf:
        raise ConfigError(f"sd must be > 0; got {sd!r}")
    if rate is not None and not 0 < rate < 1:
        raise ConfigError(f"rate must lie in (0, 1); got {rate!r}")
    if not 0 <= cut < 1:
        raise ConfigError(f"variance_cut must lie in [0, 1); got {cut!r}")
    if not 0 < plan.level < 1 or plan.n_comparisons < 1 or plan.n_looks < 1:
        raise ConfigError("plan needs a level in (0, 1), n_comparisons >= 1 and n_looks >= 1")
