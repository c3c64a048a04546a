"""Plain A/B comparison of arms: means and proportions with intervals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from scipy.stats import t as student_t

from promo_ray.errors import ConfigError, DataError
from promo_ray.response.inputs import arms, finite_vector


class ArmResult(NamedTuple):
    """One arm, and its difference to control (NaN for control itself).

    Attributes:
        arm: number of the arm, 0 = control.
        n: rows.
        mean: mean outcome.
        low: lower end of the interval of the mean.
        high: upper end.
        effect: mean minus that of control, outcome units.
        effect_low: lower end of its interval.
        effect_high: upper end.
        p_value: two-sided, of no difference.
        relative: effect over the mean of control; NaN if that is not positive.
    """

    arm: int
    n: int
    mean: float
    low: float
    high: float
    effect: float
    effect_low: float
    effect_high: float
    p_value: float
    relative: float


def ab_test(
    outcome: ArrayLike,
    treatment: ArrayLike,
    *,
    kind: str = "auto",
    level: float = 0.95,
) -> tuple[ArmResult, ...]:
    """Every arm beside control for one look at the data, planned beforehand.

    Means: Welch's t interval (Welch 1947). Proportions: Wilson's interval for each arm and
    Newcombe's hybrid interval (1998, method 10) for the difference, pooled z test.

    Args:
        outcome: `(n,)` one row per user.
        treatment: `(n,)` arm of each row, 0 = control; every arm needs 2 rows.
        kind: `mean`, `proportion`, or `auto` (proportion if every outcome is 0 or 1).
        level: level of the intervals, in (0, 1).

    Returns:
        One entry per arm, control first. Several arms are not corrected for each other.

    Raises:
        ConfigError: unknown kind or level.
        DataError: bad shape or value, the argument named.
    """
    if not 0 < level < 1:
        raise ConfigError(f"level must lie in (0, 1); got {level!r}")
    y = finite_vector(outcome, "outcome")
    arm = arms(treatment, "treatment", len(y))
    is_binary = bool(np.isin(y, (0.0, 1.0)).all())
    if kind not in ("auto", "mean", "proportion"):
        raise ConfigError(f"kind must be auto, mean or proportion; got {kind!r}")
    if kind == "proportion" and not is_binary:
        raise DataError("must be 0 or 1 for kind 'proportion'", where="outcome")
    samples = [y[arm == a] for a in range(int(arm.max()) + 1)]
    short = [a for a, s in enumerate(samples) if len(s) < 2]
    if short:
        raise DataError(f"must hold 2 rows per arm; arm {short[0]} has fewer", where="treatment")
    if kind == "mean" or (kind == "auto" and not is_binary):
        return tuple(_mean(a, s, samples[0], level) for a, s in enumerate(samples))
    return tuple(_proportion(a, s, samples[0], level) for a, s in enumerate(samples))


def _mean(
    arm: int, own: NDArray[np.float64], control: NDArray[np.float64], level: float
) -> ArmResult:
    n, mean, variance = len(own), float(own.mean()), float(own.var(ddof=1)) / len(own)
    half = float(student_t.ppf(0.5 + level / 2, n - 1)) * variance**0.5
    interval = (mean - half, mean + half)
    if arm == 0:
        return _control(n, mean, interval)
    base, base_variance = float(control.mean()), float(control.var(ddof=1)) / len(control)
    effect, se = mean - base, (variance + base_variance) ** 0.5
    if se == 0:
        p = 1.0 if effect == 0 else 0.0
        return _against(arm, n, mean, interval, effect, (effect, effect), p, base)
    freedom = se**4 / (variance**2 / (n - 1) + base_variance**2 / (len(control) - 1))
    half = float(student_t.ppf(0.5 + level / 2, freedom)) * se
    p = 2 * float(student_t.sf(abs(effect) / se, freedom))
    return _against(arm, n, mean, interval, effect, (effect - half, effect + half), p, base)


def _proportion(
    arm: int, own: NDArray[np.float64], control: NDArray[np.float64], level: float
) -> ArmResult:
    n, mean = len(own), float(own.mean())
    interval = wilson_interval(mean, n, level)
    if arm == 0:
        return _control(n, mean, interval)
    n_base, base = len(control), float(control.mean())
    low, high = interval
    base_low, base_high = wilson_interval(base, n_base, level)
    effect = mean - base
    span = (
        effect - ((mean - low) ** 2 + (base_high - base) ** 2) ** 0.5,
        effect + ((high - mean) ** 2 + (base - base_low) ** 2) ** 0.5,
    )
    pooled = float((own.sum() + control.sum()) / (n + n_base))
    se = (pooled * (1 - pooled) * (1 / n + 1 / n_base)) ** 0.5
    p = 2 * float(norm.sf(abs(effect) / se)) if se else 1.0
    return _against(arm, n, mean, interval, effect, span, p, base)


def wilson_interval(share: float, n: int, level: float = 0.95) -> tuple[float, float]:
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


def _control(n: int, mean: float, interval: tuple[float, float]) -> ArmResult:
    nan = float("nan")
    return ArmResult(0, n, mean, *interval, nan, nan, nan, nan, nan)


def _against(
    arm: int,
    n: int,
    mean: float,
    interval: tuple[float, float],
    effect: float,
    span: tuple[float, float],
    p: float,
    base: float,
) -> ArmResult:
    relative = effect / base if base > 0 else float("nan")
    return ArmResult(arm, n, mean, *interval, effect, *span, p, relative)
