"""Sums of floats as integers: the same bits for any split of the rows and any order.

A float64 is cut into integer parts on fixed binary grids. Parts add up in int64 without
rounding, so adding is associative and commutative to the bit; the sum is rounded once, when it
is read. `part_sums` needs no knowledge of the data; `integer_slices` knows the largest value and
makes parts so short that a matrix product of them is exact in float64.

Source: Demmel and Nguyen 2015, Parallel reproducible summation (fixed bins); Ozaki, Ogita,
Oishi and Rump 2012, Error-free transformations of matrix multiplication (slices).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from promo_ray.errors import DataError

_EXPONENTS = (32, 0, -32, -64)  # grids of the parts, as powers of two
_LIMIT = 2.0**63  # larger values would overflow the first part
_BLOCK = 1 << 20  # rows whose parts (at most 2**32) add up below 2**53, exact in float64
N_SLICES = 3
SLICE_BITS = 16


def _parts(x: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    rest = x
    for exponent in _EXPONENTS:
        step = 2.0**exponent
        part = np.rint(rest / step)
        rest = rest - part * step
        yield part


def part_sums(x: NDArray[np.float64]) -> NDArray[np.int64]:
    """Sums over rows, as integer parts that add up exactly (up to 2**31 rows in all).

    Args:
        x: `(n,)` or `(n, d)` float64, finite, below 2**63; rounded to multiples of 2**-64.

    Returns:
        `(4,)` or `(4, d)` int64; see `part_values`.

    Raises:
        DataError: a value is not finite or too large.
    """
    total = np.zeros((len(_EXPONENTS), *x.shape[1:]), dtype=np.int64)
    check_range(x)
    for start in range(0, len(x), _BLOCK):
        for i, part in enumerate(_parts(x[start : start + _BLOCK])):
            total[i] += part.sum(axis=0).astype(np.int64)
    return total


def part_sums_by(
    x: NDArray[np.float64], labels: NDArray[np.int32], n_groups: int
) -> NDArray[np.int64]:
    """Sums over the rows of each group; see `part_sums`.

    Args:
        x: `(n, d)` float64.
        labels: `(n,)` int32 group of each row in [0, n_groups).
        n_groups: number of groups.

    Returns:
        `(4, n_groups, d)` int64.
    """
    d = x.shape[1]
    total = np.zeros((len(_EXPONENTS), n_groups, d), dtype=np.int64)
    check_range(x)
    for start in range(0, len(x), _BLOCK):
        stop = start + _BLOCK
        cells = (labels[start:stop, None].astype(np.int64) * d + np.arange(d)).ravel()
        for i, part in enumerate(_parts(x[start:stop])):
            sums = np.bincount(cells, weights=part.ravel(), minlength=n_groups * d)
            total[i] += sums.reshape(n_groups, d).astype(np.int64)
    return total


def part_values(parts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums as float64, each rounded once.

    Args:
        parts: `(4, ...)` int64 of `part_sums`.

    Returns:
        `(...)` float64.
    """
    low = _EXPONENTS[-1]
    flat = parts.reshape(len(_EXPONENTS), -1)
    values = [
        math.ldexp(
            float(sum(int(p) << (e - low) for p, e in zip(column, _EXPONENTS, strict=True))), low
        )
        for column in flat.T
    ]
    return np.array(values, dtype=np.float64).reshape(parts.shape[1:])


def check_range(x: NDArray[np.float64]) -> None:
    """Refuse values that have no exact sum.

    Raises:
        DataError: a value is not finite or not below 2**63.
    """
    bad = ~(np.abs(x) < _LIMIT)
    if bad.any():
        raise DataError(
            f"values must be finite and below 2**63; got {float(x[bad][0])!r}",
            where=f"column {int(np.argwhere(bad)[0][-1])}" if x.ndim == 2 else "values",
        )


def power_of_two_above(bound: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smallest powers of two above bounds >= 0 (1 where the bound is 0), same shape."""
    _, exponent = np.frexp(bound)
    return np.where(bound > 0, np.ldexp(1.0, exponent), 1.0)


def integer_slices(x: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows as integers of at most 16 bits, so that products of slices add up exactly.

    Args:
        x: `(n, d)` float64 with |x| <= scale.
        scale: `(d,)` float64, powers of two.

    Returns:
        `(n, 3 * d)` integer-valued float64 `[s1 | s2 | s3]` with
        x = scale * (s1 * 2**-16 + s2 * 2**-32 + s3 * 2**-48), rounded to scale * 2**-48.
    """
    rest = x / scale
    slices = []
    for _ in range(N_SLICES):
        rest = rest * 2.0**SLICE_BITS
        part = np.rint(rest)
        rest = rest - part
        slices.append(part)
    return np.concatenate(slices, axis=1)


def gram(slices: NDArray[np.float64]) -> NDArray[np.int64]:
    """Exact product of slices with themselves, `(3 * d, 3 * d)` int64 (up to 2**30 rows)."""
    total = np.zeros((slices.shape[1], slices.shape[1]), dtype=np.int64)
    for start in range(0, len(slices), _BLOCK):
        block = slices[start : start + _BLOCK]
        total += (block.T @ block).astype(np.int64)
    return total


def gram_values(total: NDArray[np.int64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Product of the rows that `gram` saw as slices.

    Args:
        total: `(3 * d, 3 * d)` int64 of `gram`.
        scale: `(d,)` float64 of `integer_slices`.

    Returns:
        `(d, d)` float64, symmetric.
    """
    d = len(scale)
    value = np.zeros((d, d))
    for order in range(2 * N_SLICES - 2, -1, -1):  # small terms first
        term = np.zeros((d, d), dtype=np.int64)
        for a in range(max(0, order - N_SLICES + 1), min(order, N_SLICES - 1) + 1):
            b = order - a
            term += total[a * d : (a + 1) * d, b * d : (b + 1) * d]
        value += term.astype(np.float64) * 2.0 ** (-SLICE_BITS * (order + 2))
    return value * scale[:, None] * scale[None, :]
