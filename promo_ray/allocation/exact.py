"""Exact sums of float32 numbers, in any order and from any number of blocks.

Numbers of one binary exponent are multiples of one unit and below 2**24 of it, so a float64 holds
the sum of 2**29 of them without rounding. A sum kept as 256 such parts, one per exponent, is
exact and the same for every order and split; rows are then checked in whole units of 2**-149,
the smallest float32, with Python's integers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_PARTS = 256
_UNIT_BITS = 149
_EXPONENT_OF_ONE = 127


def parts_of(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Exact sum of `(n,)` float32 as `(256,)` float64 parts; parts of blocks add exactly."""
    exponent = (values.view(np.int32) >> 23) & 255
    return np.bincount(exponent, weights=values, minlength=N_PARTS).astype(np.float64)


def parts_by_row(
    row: NDArray[Any], n_rows: int, values: NDArray[np.float32] | None
) -> NDArray[np.float64]:
    """Exact sums of values grouped by row.

    Args:
        row: `(n,)` integer row of each value.
        n_rows: number of rows.
        values: `(n,)` float32, or None for ones.

    Returns:
        `(n_rows, 256)` float64 parts.
    """
    parts = np.zeros((n_rows, N_PARTS))
    if values is None:
        parts[:, _EXPONENT_OF_ONE] = np.bincount(row, minlength=n_rows)
        return parts
    exponent = (values.view(np.int32) >> 23) & 255
    where = row.astype(np.int64) * N_PARTS + exponent
    return parts + np.bincount(where, weights=values, minlength=parts.size).reshape(parts.shape)


def total(parts: NDArray[np.float64]) -> float:
    """Correctly rounded sum of parts."""
    return math.fsum(parts.tolist())


def units(value: float) -> int:
    """Whole units of 2**-149 in a finite number, rounded down; exact for float32 sums."""
    numerator, denominator = float(value).as_integer_ratio()
    return (numerator << _UNIT_BITS) // denominator


def total_units(parts: NDArray[np.float64]) -> int:
    """Exact sum of parts in units of 2**-149."""
    return sum(units(p) for p in parts[np.flatnonzero(parts)].tolist())


def from_units(count: int) -> float:
    """Nearest float64 of a number of units (to zero below the smallest float64)."""
    return count / (1 << _UNIT_BITS)
