"""Intervals and test statistics of estimates whose distribution is skewed.

With k = (third central moment of the estimate) / (its variance) the ends are
value + (z^2 / 3 + 1 / 6) k -+ z sqrt(variance + z^2 k^2 / 4): the second-order center of
Hall 1992 (for one mean also Johnson 1978, for two Cressie and Whitford 1986), under the root the
width of the score interval of a Poisson count (Cai 2005).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def skewed_ends(
    value: float, variance: float, k: float, z: float, least: float = 0.0, trust: float = 1.0
) -> tuple[float, float]:
    """Ends of the interval, which always holds the value.

    Args:
        value: estimate.
        variance: of the estimate.
        k: its third central moment over its variance.
        z: quantile, > 0.
        least: under the root |k| counts as at least this.
        trust: the center is shifted by this times the shift.
    """
    center = value + (z * z / 3.0 + 1.0 / 6.0) * k * trust
    half = z * float(np.sqrt(variance + (z * max(abs(k), least)) ** 2 / 4.0))
    return min(value, center - half), max(value, center + half)


def skewed_z(value: float, variance: float, k: float) -> float:
    """The z at which an end of the interval is 0; 0 where value + k / 6 has the other sign.

    In units of the standard error, z^2 is the positive root of
    (5 k^2 / 36) a^2 + (1 - 2 w k / 3) a - w^2 = 0, w = value + k / 6: the square of either end's
    equation, whose other root is negative.

    Args:
        value: estimate.
        variance: of the estimate, > 0.
        k: its third central moment over its variance.
    """
    se = variance**0.5
    skew, shifted = k / se, (value + k / 6.0) / se
    lead, middle = 5.0 * skew * skew / 36.0, 1.0 - 2.0 * shifted * skew / 3.0
    root = middle + (middle * middle + 4.0 * lead * shifted * shifted) ** 0.5
    return shifted * (2.0 / root) ** 0.5 if shifted * value > 0 else 0.0
