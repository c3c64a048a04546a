"""Slope of effects that were seen on effects that were predicted, with an error by user."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def clustered_slope(
    column: Floats, target: Floats, weight: Floats, user: NDArray[np.int64], least: float
) -> tuple[float, float]:
    """Slope of a centered target on a centered column and its robust standard error.

    Args:
        column: `(n,)` float64, centered.
        target: `(n,)` float64, centered.
        weight: `(n,)` float64 > 0.
        user: `(n,)` int64 >= 0 user of each row; residuals are summed within users first.
        least: weighted sum of squares of the column up to which there is no slope.

    Returns:
        Slope and standard error, without a factor for few users; NaN if there is no slope.
    """
    side = weight * column
    size = float(side @ column)
    if size <= least:
        return float("nan"), float("nan")
    slope = float(side @ target) / size
    own = np.bincount(user, side * (target - slope * column))
    return slope, float(np.sqrt((own**2).sum())) / size
