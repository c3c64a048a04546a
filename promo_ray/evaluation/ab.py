"""A/B test for one planned look: arms beside control, with intervals and a verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm
from scipy.stats import t as student_t

from promo_ray.errors import ConfigError, DataError
from promo_ray.evaluation.ab_intervals import (
    Compared,
    compare_means,
    compare_proportions,
    relative_interval,
    score_statistic,
    wilson_interval,
)
from promo_ray.evaluation.ab_moments import (
    AbRows,
    ArmMoments,
    Contrast,
    block_moments,
    contrast_of,
    estimate_of,
    merge_moments,
    moments_of,
    users_of,
)
from promo_ray.evaluation.checks import Check, check_level, enough_users, failures
from promo_ray.evaluation.multiple import (
    CORRECTIONS,
    adjust_p_values,
    dunnett_critical,
    dunnett_p_values,
)
from promo_ray.evaluation.srm import sample_ratio
from promo_ray.execution import Executor

KINDS = ("auto", "mean", "proportion", "ratio")


class ArmResult(NamedTuple):
    """One arm, and its difference to control (NaN for control itself).

    Attributes:
        arm: number of the arm, 0 = control.
        n: users.
        mean: mean, proportion or ratio as found, not adjusted.
        low: lower end of the interval of the mean.
        high: upper end.
        effect: mean minus that of control, outcome units, adjusted for the covariates.
        effect_low: lower end of its interval.
        effect_high: upper end.
        p_value: two-sided, of no difference.
        relative: effect over the (adjusted) mean of control; NaN if that is not positive.
        relative_low: lower end of its interval; NaN unless both means are positive.
        relative_high: upper end.
        p_adjusted: p-value for the family of all arms, see `correction`.
        variance_cut: share of the effect's variance that the covariates took away.
        verdict: `better`, `worse`, `not shown` or `withheld`; `control` for control.
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
    relative_low: float
    relative_high: float
    p_adjusted: float
    variance_cut: float
    verdict: str


@dataclass(frozen=True)
class AbTest:
    """Outcome of an A/B test; iterates over its arms, control first.

    Attributes:
        arms: one entry per arm.
        kind: `mean`, `proportion` or `ratio`.
        estimator: what was computed, in words.
        level: level of the intervals and of the family of verdicts.
        correction: how p-values are adjusted for several arms.
        checks: what had to hold; a failed check withholds the verdicts.
    """

    arms: tuple[ArmResult, ...]
    kind: str
    estimator: str
    level: float
    correction: str
    checks: tuple[Check, ...]

    @property
    def withheld(self) -> tuple[str, ...]:
        """Why there is no verdict, one sentence per failed check; empty if there is one."""
        return failures(self.checks)

    def __iter__(self) -> Iterator[ArmResult]:
        return iter(self.arms)

    def __len__(self) -> int:
        return len(self.arms)

    def __getitem__(self, arm: int) -> ArmResult:
        return self.arms[arm]


def ab_test(
    outcome: ArrayLike,
    treatment: ArrayLike,
    *,
    kind: str = "auto",
    denominator: ArrayLike | None = None,
    covariate: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    expected: ArrayLike | None = None,
    correction: str = "holm",
    level: float = 0.95,
) -> AbTest:
    """Every arm beside control for one look at the data, planned beforehand.

    Means: Welch's t interval, corrected for skewness (Cressie and Whitford 1986). Proportions:
    Wilson's for each arm, Miettinen and Nurminen's (1985) for the difference, which hold their
    level for rare events. Ratios, and means of several rows per user: delta method, clustered by
    user. Covariates: CUPED. For looks while users still arrive use `sequential_test`.

    Args:
        outcome: `(n,)` outcome of each row.
        treatment: `(n,)` arm of each row, 0 = control; every arm needs 2 users.
        kind: `mean`, `proportion`, `ratio` (needs `denominator`), or `auto` (by the data).
        denominator: `(n,)` makes the metric sum of outcomes / sum of denominators of an arm.
        covariate: `(n,)` or `(n, d)` known before the treatment, to cut the variance.
        groups: `(n,)` user of each row; None = every row is a user.
        expected: `(n_arms,)` shares of the design; given, the sample ratio is checked.
        correction: of p-values for several arms: `holm`, `benjamini_hochberg`, `none`, or
            `dunnett`, which makes the intervals hold together as well.
        level: level of the intervals, in (0, 1).

    Returns:
        One entry per arm, control first. Verdicts are withheld if an arm has fewer than 100
        users or the sample ratio alarms.

    Raises:
        ConfigError: unknown kind, correction or level.
        DataError: bad shape or value, the argument named.
    """
    _check_settings(kind, correction, level)
    users = users_of(AbRows(outcome, treatment, denominator, covariate, groups))
    moments = moments_of(users, int(users.arm.max()) + 1)
    _check_moments(moments, kind)
    return ab_test_of_moments(
        moments, kind=kind, expected=expected, correction=correction, level=level
    )


def ab_test_over_blocks(
    blocks: Sequence[AbRows | Callable[[], AbRows]],
    n_arms: int,
    executor: Executor,
    *,
    kind: str = "auto",
    expected: ArrayLike | None = None,
    correction: str = "holm",
    level: float = 0.95,
) -> AbTest:
    """`ab_test` over blocks of users: only moments travel; same bits for any number of workers.

    Args:
        blocks: blocks, or callables that read one in the worker; all rows of a user in one block.
        n_arms: arms of the trial, control included.
        executor: runs the blocks.
        kind: see `ab_test`.
        expected: see `ab_test`.
        correction: see `ab_test`.
        level: see `ab_test`.

    Raises:
        ConfigError: see `ab_test`.
        DataError: see `ab_test`.
    """
    _check_settings(kind, correction, level)
    resident = executor.load(blocks)
    try:
        moments = resident.reduce(block_moments, merge_moments, n_arms)
    finally:
        resident.release()
    _check_moments(moments, kind)
    return ab_test_of_moments(
        moments, kind=kind, expected=expected, correction=correction, level=level
    )


def ab_test_of_moments(
    moments: ArmMoments,
    *,
    kind: str = "auto",
    expected: ArrayLike | None = None,
    correction: str = "holm",
    level: float = 0.95,
) -> AbTest:
    """`ab_test` from merged moments; figures that an arm of under 2 users lacks are NaN."""
    _check_settings(kind, correction, level)
    is_proportion = (
        moments.is_binary and not moments.n_covariates and kind in ("auto", "proportion")
    )
    found = "proportion" if is_proportion else "mean"
    if moments.has_denominator and not moments.is_binary:
        found = "ratio"
    pairs = [(a, contrast_of(moments, a)) for a in range(1, len(moments.n))]
    compared = [_compare(moments, a, c, is_proportion, level) for a, c in pairs]
    if correction == "dunnett":
        z = [_z(moments, a, c, is_proportion) for a, c in pairs]
        base, *own = np.nan_to_num([pairs[0][1].variance[0], *(c.variance[1] for _, c in pairs)])
        adjusted = dunnett_p_values(z, own, base)
        joint = 2 * float(norm.cdf(dunnett_critical(own, base, level))) - 1
        compared = [
            span._replace(low=wide.low, high=wide.high)
            for span, (a, c) in zip(compared, pairs, strict=True)
            for wide in [_compare(moments, a, c, is_proportion, joint)]
        ]
    else:
        raw = np.nan_to_num([c.p_value for c in compared], nan=1.0)
        adjusted = adjust_p_values(raw, correction)
    checks = _checks(moments, expected)
    has_verdict = all(c.passed for c in checks)
    results = [_control(moments, is_proportion, level)]
    for (a, contrast), span, p in zip(pairs, compared, adjusted.tolist(), strict=True):
        verdict = _verdict(contrast.effect, p, level) if has_verdict else "withheld"
        results.append(_treated(moments, a, contrast, span, p, verdict, is_proportion, level))
    return AbTest(tuple(results), found, _words(found, moments), level, correction, checks)


def _check_settings(kind: str, correction: str, level: float) -> None:
    check_level(level)
    if kind not in KINDS:
        raise ConfigError(f"kind must be auto, mean, proportion or ratio; got {kind!r}")
    if correction not in CORRECTIONS:
        raise ConfigError(f"correction must be one of {', '.join(CORRECTIONS)}; got {correction!r}")


def _check_moments(moments: ArmMoments, kind: str) -> None:
    if kind == "proportion" and not moments.is_binary:
        raise DataError("must be 0 or 1, one row per user, for kind 'proportion'", where="outcome")
    if kind == "ratio" and not moments.has_denominator:
        raise ConfigError("kind 'ratio' needs a denominator, or several rows per user")
    short = np.flatnonzero(moments.n < 2)
    if len(short):
        raise DataError(f"must hold 2 rows per arm; arm {short[0]} has fewer", where="treatment")
    if moments.has_denominator and not (moments.mean[:, 1] > 0).all():
        raise DataError("must sum to more than 0 in every arm", where="denominator")


def _checks(moments: ArmMoments, expected: ArrayLike | None) -> tuple[Check, ...]:
    enough = enough_users(int(moments.n.min()))
    if expected is None or not moments.n.sum():
        return (enough,)
    return (enough, sample_ratio(moments.n, expected))


def _compare(
    moments: ArmMoments, arm: int, contrast: Contrast, is_proportion: bool, level: float
) -> Compared:
    if math.isnan(contrast.se):
        return Compared(math.nan, math.nan, math.nan)
    if is_proportion:
        share, base = float(moments.mean[arm, 0]), float(moments.mean[0, 0])
        return compare_proportions(share, int(moments.n[arm]), base, int(moments.n[0]), level)
    return compare_means(*contrast[:3], level, contrast.skewness)


def _z(moments: ArmMoments, arm: int, contrast: Contrast, is_proportion: bool) -> float:
    if is_proportion and not math.isnan(contrast.se):
        share, base = float(moments.mean[arm, 0]), float(moments.mean[0, 0])
        return score_statistic(share, int(moments.n[arm]), base, int(moments.n[0]), 0.0)
    if contrast.se > 0:
        return contrast.z
    return math.copysign(math.inf, contrast.effect) if abs(contrast.effect) > 0 else 0.0


def _verdict(effect: float, p: float, level: float) -> str:
    is_shown = p <= 1 - level and abs(effect) > 0
    return ("better" if effect > 0 else "worse") if is_shown else "not shown"


def _own(
    moments: ArmMoments, arm: int, is_proportion: bool, level: float
) -> tuple[float, float, float]:
    """Mean of an arm with its interval."""
    n = int(moments.n[arm])
    value, variance = estimate_of(moments, arm)
    if math.isnan(value):
        return value, value, value
    if is_proportion:
        return value, *wilson_interval(value, n, level)
    half = float(student_t.ppf(0.5 + level / 2, n - 1)) * variance**0.5
    return value, value - half, value + half


def _control(moments: ArmMoments, is_proportion: bool, level: float) -> ArmResult:
    mean, low, high = _own(moments, 0, is_proportion, level)
    no = math.nan
    return ArmResult(
        0, int(moments.n[0]), mean, low, high, no, no, no, no, no, no, no, no, no, "control"
    )


def _treated(
    moments: ArmMoments,
    arm: int,
    contrast: Contrast,
    span: Compared,
    p_adjusted: float,
    verdict: str,
    is_proportion: bool,
    level: float,
) -> ArmResult:
    mean, low, high = _own(moments, arm, is_proportion, level)
    effect, base = contrast.effect, contrast.base
    relative = effect / base if base > 0 else math.nan
    ends = relative_interval(effect, base, contrast.variance, level)
    return ArmResult(
        arm, int(moments.n[arm]), mean, low, high, effect, span.low, span.high, span.p_value,
        relative, *ends, p_adjusted, contrast.variance_cut, verdict,
    )  # fmt: skip


def _words(kind: str, moments: ArmMoments) -> str:
    words = {
        "mean": "difference of means, Welch t interval corrected for skewness",
        "proportion": "difference of proportions, Miettinen-Nurminen score interval",
        "ratio": "difference of ratios, delta method by user, corrected for skewness",
    }[kind]
    d = moments.n_covariates
    return f"{words}, adjusted for {d} covariate{'s' if d > 1 else ''} (CUPED)" if d else words
