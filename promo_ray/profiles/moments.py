"""Mean and variance of columns over shards, exact to the last rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.errors import DataError
from promo_ray.profiles.exact import part_sums, part_values
from promo_ray.registry import register


class MomentsState(NamedTuple):
    """Moments so far.

    Attributes:
        n: rows; 0 before the first pass.
        mean: `(d,)` float64.
        var: `(d,)` float64, divisor n; None before the second pass.
    """

    n: int
    mean: NDArray[np.float64]
    var: NDArray[np.float64] | None


class MomentsStats(NamedTuple):
    """Rows and integer parts `(4, d)` of the sums of one pass."""

    n: int
    parts: NDArray[np.int64]


@register("moments")
@dataclass(frozen=True)
class Moments:
    """Mean, then mean square around it: two passes over `(n, d)` float64 arrays.

    Sums are integer parts (`promo_ray.profiles.exact`), so the bits do not depend on the split
    of the rows, which the pairwise update of Chan, Golub and LeVeque 1983 cannot promise. The two
    passes avoid its reason to be, the cancellation in E[x**2] - E[x]**2.
    """

    def init(self, seed: int) -> MomentsState:
        """State before the first pass; the seed is not used."""
        return MomentsState(0, np.zeros(0), None)

    def partial(self, shard: NDArray[np.float64], state: MomentsState) -> MomentsStats:
        """Sums of one shard: of values in the first pass, of squared deviations in the second."""
        if state.n == 0:
            return MomentsStats(len(shard), part_sums(shard))
        deviation = shard - state.mean
        return MomentsStats(len(shard), part_sums(deviation * deviation))

    def merge(self, a: MomentsStats, b: MomentsStats) -> MomentsStats:
        """Sums of both."""
        return MomentsStats(a.n + b.n, a.parts + b.parts)

    def update(self, state: MomentsState, stats: MomentsStats) -> MomentsState:
        """Mean after the first pass, variance after the second.

        Raises:
            DataError: no row.
        """
        if stats.n == 0:
            raise DataError("moments need at least one row; got none")
        value = part_values(stats.parts) / stats.n
        if state.n == 0:
            return MomentsState(stats.n, value, None)
        return state._replace(var=value)

    def done(self, state: MomentsState) -> bool:
        """Whether the variance is known."""
        return state.var is not None


def standardize(x: NDArray[np.float64], state: MomentsState) -> NDArray[np.float64]:
    """Columns with mean 0 and variance 1; a column that does not vary becomes 0.

    Args:
        x: `(n, d)` float64.
        state: final state of `Moments`.

    Returns:
        `(n, d)` float64.
    """
    if state.var is None:
        raise DataError("standardize needs the final state of Moments; got the first pass only")
    spread = np.sqrt(state.var)
    return (x - state.mean) / np.where(spread > 0, spread, 1.0)
