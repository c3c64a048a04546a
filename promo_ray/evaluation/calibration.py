"""Whether predicted effects come true: by quantile of the prediction, predicted and observed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t

from promo_ray.errors import ConfigError, DataError
from promo_ray.evaluation.checks import check_level
from promo_ray.evaluation.policy_value import clustered_error
from promo_ray.response.inputs import finite_vector, group_codes


class Calibration(NamedTuple):
    """One entry per bin, bins by rising prediction; fields `(n_bins,)` but for the slope.

    Attributes:
        n: rows of the bin.
        predicted: mean predicted effect, outcome units.
        observed: mean doubly robust effect, outcome units.
        low: lower end of the interval of `observed`.
        high: upper end.
        slope: regression of observed on predicted over all rows; 1 = calibrated.
        slope_se: its standard error (heteroscedasticity-robust).
    """

    n: NDArray[np.int64]
    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    slope: float
    slope_se: float


def calibration(
    predicted: ArrayLike,
    score_difference: ArrayLike,
    *,
    n_bins: int = 10,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> Calibration:
    """Mean predicted and observed effect by quantile of the prediction.

    Source of the slope: Chernozhukov et al. 2018, best linear predictor of the effect.

    Args:
        predicted: `(n,)` effect predicted out of fold.
        score_difference: `(n,)` doubly robust score of the arm minus that of control.
        n_bins: quantile bins, >= 1; bins without rows are left out.
        groups: `(n,)` user of each row; intervals are clustered by it.
        level: level of the t intervals.

    Raises:
        ConfigError: n_bins < 1, or a level outside (0, 1).
        DataError: bad shape or value, the argument named.
    """
    check_level(level)
    if n_bins < 1:
        raise ConfigError(f"n_bins must be >= 1; got {n_bins}")
    effect = finite_vector(predicted, "predicted")
    scores = finite_vector(score_difference, "score_difference", len(effect))
    if not len(effect):
        raise DataError("must hold a row", where="predicted")
    codes = group_codes(groups, len(effect))
    edges = np.quantile(effect, np.linspace(0, 1, n_bins + 1)[1:-1])
    bins = np.searchsorted(edges, effect, side="left")
    rows = []
    for b in np.unique(bins):
        inside = bins == b
        own = scores[inside]
        se, n_groups = clustered_error(own - own.mean(), group_codes(codes[inside], len(own)))
        half = se * float(student_t.ppf(0.5 + level / 2, max(1, n_groups - 1)))
        rows.append((len(own), effect[inside].mean(), own.mean(), half))
    n, mean, observed, half_width = np.array(rows).T
    slope, slope_se = _slope(effect, scores, codes)
    return Calibration(
        n.astype(np.int64),
        mean,
        observed,
        observed - half_width,
        observed + half_width,
        slope,
        slope_se,
    )


def _slope(
    effect: NDArray[np.float64], scores: NDArray[np.float64], codes: NDArray[np.int64]
) -> tuple[float, float]:
    centered = effect - effect.mean()
    spread = float(centered @ centered)
    if spread <= 1e-12 * max(1.0, float(effect @ effect)):
        return float("nan"), float("nan")
    slope = float(centered @ scores) / spread
    residual = scores - scores.mean() - slope * centered
    se, _ = clustered_error(centered * residual, codes)
    return slope, se * len(effect) / spread
