"""Average effects by segment, and whether segments differ at all."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2

from promo_ray.errors import ConfigError
from promo_ray.evaluation.ab import AbTest, ab_test_of_moments
from promo_ray.evaluation.ab_moments import AbRows, ArmMoments, contrast_of, moments_of, users_of
from promo_ray.evaluation.multiple import CORRECTIONS, adjust_p_values
from promo_ray.response.inputs import names_of

Floats = NDArray[np.float64]


class SegmentEffects(NamedTuple):
    """Effects by segment.

    Attributes:
        segments: names, sorted.
        tests: `ab_test` of each segment; its `p_adjusted` is for the arms of that segment alone.
        p_adjusted: `(n_segments, n_treated)` p-values adjusted over all segments and arms.
        heterogeneity_p: `(n_treated,)` of the hypothesis that all segments have one effect
            (Cochran 1954); without a small one, differences between segments are no finding.
        effect: `(n_treated,)` effects of all users, segments weighted by their users
            (post-stratified).
        se: `(n_treated,)` standard errors of `effect`.
    """

    segments: tuple[str, ...]
    tests: tuple[AbTest, ...]
    p_adjusted: Floats
    heterogeneity_p: Floats
    effect: Floats
    se: Floats


def effects_by_segment(
    outcome: ArrayLike,
    treatment: ArrayLike,
    segment: ArrayLike,
    *,
    denominator: ArrayLike | None = None,
    covariate: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    expected: ArrayLike | None = None,
    correction: str = "holm",
    level: float = 0.95,
) -> SegmentEffects:
    """Every arm beside control in every segment; arguments as of `ab_test`.

    Args:
        outcome: `(n,)` outcome of each row.
        treatment: `(n,)` arm of each row, 0 = control.
        segment: `(n,)` segment of each row, strings or whole numbers, known before the treatment;
            a user counts in the segment of their first row.
        denominator: see `ab_test`.
        covariate: see `ab_test`.
        groups: see `ab_test`.
        expected: see `ab_test`; the sample ratio is checked in every segment.
        correction: `holm`, `benjamini_hochberg` or `none`.
        level: level of the intervals.

    Raises:
        ConfigError: unknown correction or level.
        DataError: bad shape or value, the argument named.
    """
    if correction not in CORRECTIONS or correction == "dunnett":
        raise ConfigError(
            f"correction must be holm, benjamini_hochberg or none; got {correction!r}"
        )
    users = users_of(AbRows(outcome, treatment, denominator, covariate, groups))
    names, code = names_of(segment, "segment", len(np.asarray(treatment)))
    n_arms = int(users.arm.max()) + 1
    cells = code[users.first] * n_arms + users.arm
    moments = moments_of(users, len(names) * n_arms, cells)
    parts = [moments.cells(s * n_arms, (s + 1) * n_arms) for s in range(len(names))]
    tests = tuple(
        ab_test_of_moments(part, expected=expected, correction=correction, level=level)
        for part in parts
    )
    p = np.nan_to_num([[arm.p_value for arm in test.arms[1:]] for test in tests], nan=1.0)
    overall = [_pooled(parts, a) for a in range(1, n_arms)]
    return SegmentEffects(
        tuple(str(v) for v in names.tolist()),
        tests,
        adjust_p_values(p.ravel(), correction).reshape(p.shape),
        *(np.array(column) for column in zip(*overall, strict=True)),
    )


def _pooled(parts: list[ArmMoments], arm: int) -> tuple[float, float, float]:
    """Heterogeneity p-value, post-stratified effect and its standard error of one arm."""
    found = [contrast_of(part, arm) for part in parts]
    effect, se = np.array([c.effect for c in found]), np.array([c.se for c in found])
    is_known = np.isfinite(effect) & np.isfinite(se)
    if not (se[is_known] > 0).any():
        return float("nan"), float("nan"), float("nan")
    size = np.array([part.n.sum() for part in parts], dtype=np.float64)[is_known]
    effect, se, share = effect[is_known], se[is_known], size / size.sum()
    varies = se > 0  # a segment without any outcome has an effect of 0, but no error to test by
    weight = 1 / se[varies] ** 2
    mean = float(weight @ effect[varies] / weight.sum())
    statistic, freedom = float(weight @ (effect[varies] - mean) ** 2), int(varies.sum()) - 1
    p = float(chi2.sf(statistic, freedom)) if freedom else 1.0
    return p, float(share @ effect), float((share**2 @ se**2) ** 0.5)
