"""Exact sums of float32 numbers, in any order and from any number of blocks.

A float32 is a whole number below 2**24 times a power of two that its exponent names. A sum kept
as 256 integers, one per exponent, is exact and the same for every order and split; int64 holds
2**39 users. Rows are then checked in whole units of 2**-149, the smallest float32, with Python's
integers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_UNIT_BITS = 149


def total(parts: NDArray[np.int64]) -> float:
    """Correctly rounded sum of `(256,)` parts."""
    return from_units(total_units(parts))


def units(value: float) -> int:
    """Whole units of 2**-149 in a finite number, rounded down; exact for float32 sums."""
    numerator, denominator = float(value).as_integer_ratio()
    return (numerator << _UNIT_BITS) // denominator


def total_units(parts: NDArray[np.int64]) -> int:
    """Exact sum of `(256,)` parts in units of 2**-149."""
    filled = np.flatnonzero(parts)
    return sum(
        p << max(0, e - 1) for e, p in zip(filled.tolist(), parts[filled].tolist(), strict=True)
    )


def from_units(count: int) -> float:
    """Nearest float64 of a number of units (to zero below the smallest float64)."""
    return count / (1 << _UNIT_BITS)
