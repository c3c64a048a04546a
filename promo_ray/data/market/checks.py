"""Checks of what the simulator is asked; every fault names the argument."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from promo_ray.errors import ConfigError, DataError


def whole_arms(values: ArrayLike, where: str) -> NDArray[np.int64]:
    """The same as int64.

    Raises:
        DataError: a value that is no whole number.
    """
    given = np.asarray(values)
    if given.dtype.kind not in "biuf":
        raise DataError(f"must hold whole numbers; got {given.dtype}", where=where)
    is_broken = given != np.floor(given)  # NaN too
    if is_broken.any():
        raise DataError(f"must hold whole numbers; got {given[is_broken][0]!s}", where=where)
    return given.astype(np.int64, copy=False)


def arms_of_users(values: ArrayLike | None, n: int, n_arms: int) -> NDArray[np.int64]:
    """`(n,)` int64 arm of each user; 0 = control for all if None.

    Raises:
        DataError: another shape, no whole numbers, or an arm that the menu lacks.
    """
    if values is None:
        return np.zeros(n, np.int64)
    found = whole_arms(values, "arm")
    if found.shape != (n,):
        raise DataError(f"must be ({n},); got {found.shape}", where="arm")
    if n and not 0 <= found.min() <= found.max() < n_arms:
        raise DataError(f"must be in [0, {n_arms}); got {found.min()}..{found.max()}", where="arm")
    return found


def check_users(user_ids: Sequence[str], n_users: int, width: int) -> None:
    """Every id is one of `MarketSimulator.user_ids`.

    Args:
        user_ids: ids.
        n_users: users of the market.
        width: digits of an id.

    Raises:
        DataError: an id that the market lacks.
    """
    for own in user_ids:
        digits = own[1:]
        is_known = own[:1] == "u" and len(digits) == width and digits.isdecimal()
        if not is_known or int(digits) >= n_users:
            raise DataError(f"must be users of the market; got {own!r}", where="user_ids")


def replicates(n_replicates: int) -> range:
    """Numbers of the replicates.

    Raises:
        ConfigError: fewer than 1.
    """
    if n_replicates < 1:
        raise ConfigError(f"n_replicates must be >= 1; got {n_replicates!r}")
    return range(n_replicates)
