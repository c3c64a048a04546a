"""Checks of the arrays that estimators take; every fault names the argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from promo_ray.errors import DataError


def finite_matrix(values: ArrayLike, name: str, n: int | None = None) -> NDArray[np.float64]:
    """`(n, d)` float64 copy-free view of a matrix without NaN or infinity.

    Raises:
        DataError: another shape, another number of rows than `n`, or a value not finite.
    """
    array = _floats(values, name)
    if array.ndim != 2:
        raise DataError(f"must have two dimensions; got {array.ndim}", where=name)
    return _checked(array, name, n)


def finite_vector(values: ArrayLike, name: str, n: int | None = None) -> NDArray[np.float64]:
    """`(n,)` float64 vector without NaN or infinity; see `finite_matrix`."""
    array = _floats(values, name)
    if array.ndim != 1:
        raise DataError(f"must have one dimension; got {array.ndim}", where=name)
    return _checked(array, name, n)


def arms(
    values: ArrayLike, name: str, n: int | None = None, n_arms: int | None = None
) -> NDArray[np.int64]:
    """`(n,)` int64 arms, 0 = control.

    Args:
        values: whole numbers.
        name: argument named in errors.
        n: rows that there must be.
        n_arms: arms that exist; if None, every arm from 0 to the largest must occur.

    Raises:
        DataError: not whole numbers in 0..n_arms - 1, a missing arm, or another length.
    """
    raw = finite_vector(values, name, n)
    found = raw.astype(np.int64)
    if not np.array_equal(found, raw) or (len(found) and found.min() < 0):
        raise DataError("must hold whole numbers from 0 (control) up", where=name)
    counts = np.bincount(found, minlength=n_arms or 0)
    if n_arms is not None and len(counts) > n_arms:
        raise DataError(f"must lie in 0..{n_arms - 1}; got {len(counts) - 1}", where=name)
    if n_arms is None:
        if len(counts) < 2:
            raise DataError("must hold control (0) and at least one other arm", where=name)
        if not counts.all():
            absent = int(np.flatnonzero(counts == 0)[0])
            raise DataError(
                f"must hold every arm 0..{len(counts) - 1}; got no row of {absent}", where=name
            )
    return found


def propensities(
    values: ArrayLike, name: str, arm: NDArray[np.int64], n_arms: int
) -> NDArray[np.float64]:
    """`(n,)` probability of the arm that each row got.

    Args:
        values: `(n,)` of that arm, or `(n, n_arms)` of every arm with rows that sum to 1.
        name: argument named in errors.
        arm: `(n,)` int64.
        n_arms: number of arms.

    Raises:
        DataError: a probability outside (0, 1], another shape, a row that does not sum to 1, or an
            arm without a chance in a row.
    """
    array = _floats(values, name)
    if np.isnan(array).any():
        bad = int(np.argwhere(np.isnan(array))[0][0])
        raise DataError(
            f"must be known in every row; row {bad} has none (leave them all out to have them "
            "estimated)",
            where=name,
        )
    if array.ndim == 2:
        if array.shape != (len(arm), n_arms):
            raise DataError(f"must be ({len(arm)}, {n_arms}); got {array.shape}", where=name)
        if not np.allclose(array.sum(axis=1), 1.0, atol=1e-6):
            raise DataError("rows must sum to 1", where=name)
        if len(array) and array.min() <= 0:
            bad, lost = (int(i) for i in np.argwhere(array <= 0)[0])
            raise DataError(
                f"no overlap: arm {lost} has chance {array[bad, lost]:g} in row {bad}; leave out "
                "the rows that could not get every arm",
                where=name,
            )
        array = array[np.arange(len(arm)), arm]
    array = finite_vector(array, name, len(arm))
    if n_arms > 1 and len(array) and array.max() == 1:
        raise DataError(
            f"no overlap: row {int(array.argmax())} could get one arm alone; leave out the rows "
            "that could not get every arm",
            where=name,
        )
    if len(array) and not (array.min() > 0 and array.max() <= 1):
        bad = int(np.flatnonzero((array <= 0) | (array > 1))[0])
        raise DataError(f"must lie in (0, 1]; got {array[bad]:g} in row {bad}", where=name)
    return array


def group_codes(groups: ArrayLike | None, n: int) -> NDArray[np.int64]:
    """`(n,)` dense group numbers; every row its own group if `groups` is None.

    Raises:
        DataError: another length, or a missing value.
    """
    if groups is None:
        return np.arange(n, dtype=np.int64)
    return names_of(groups, "groups", n)[1]


def names_of(values: ArrayLike, name: str, n: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Sorted names, and the number of each row's name `(n,)`.

    Raises:
        DataError: another length, a missing value, or texts beside numbers.
    """
    given = np.asarray(values)
    if given.shape != (n,):
        raise DataError(f"must be ({n},); got {given.shape}", where=name)
    is_missing = np.asarray(pd.isna(given))
    if is_missing.any():
        raise DataError(
            f"must be known in every row; row {is_missing.argmax()} has none", where=name
        )
    try:
        names, codes = np.unique(given, return_inverse=True)
    except TypeError as error:
        raise DataError(f"must be all texts or all numbers ({error})", where=name) from error
    return names, codes.astype(np.int64)


def _floats(values: ArrayLike, name: str) -> NDArray[Any]:
    try:
        if np.asarray(values).dtype.kind in "mM":
            raise DataError("must be numbers; got dates or times", where=name)
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"must be numbers ({error})", where=name) from error


def _checked(array: NDArray[Any], name: str, n: int | None) -> NDArray[np.float64]:
    if n is not None and len(array) != n:
        raise DataError(f"must have {n} rows; got {len(array)}", where=name)
    if not np.isfinite(array).all():
        bad = int(np.argwhere(~np.isfinite(array))[0][0])
        raise DataError(f"must be finite; row {bad} is not", where=name)
    return array
