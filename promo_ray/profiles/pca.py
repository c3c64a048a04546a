"""Principal components from a covariance that shards add up exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.errors import ConfigError, DataError
from promo_ray.execution.threads import single_threaded
from promo_ray.profiles.exact import (
    gram,
    gram_values,
    integer_slices,
    part_sums,
    part_values,
    power_of_two_above,
)
from promo_ray.registry import register


class PcaState(NamedTuple):
    """What is known after a pass.

    Attributes:
        n: rows; 0 before the first pass.
        mean: `(d,)` float64.
        scale: `(d,)` float64, powers of two above every deviation from the mean.
        components: `(n_components, d)` float64, orthonormal rows; empty before the second pass.
        explained_variance: `(n_components,)` float64, divisor n - 1, descending.
        explained_variance_ratio: `(n_components,)` float64, share of the total variance.
    """

    n: int
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    components: NDArray[np.float64]
    explained_variance: NDArray[np.float64]
    explained_variance_ratio: NDArray[np.float64]


class RangeStats(NamedTuple):
    """First pass: rows, integer parts `(4, d)` of the sums, smallest and largest `(d,)`."""

    n: int
    parts: NDArray[np.int64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


_EMPTY = np.zeros(0)
PcaStats = RangeStats | NDArray[np.int64]  # the second pass is the `(3 d, 3 d)` Gram of slices


@register("pca")
@dataclass(frozen=True, kw_only=True)
class Pca:
    """Eigenvectors of the covariance of `(n, d)` float64 arrays, in two passes.

    The first pass finds the mean, the second the scatter around it. The scatter is a product of
    16-bit integer slices, exact in float64 at BLAS speed, so its bits do not depend on the
    split of the rows; slices resolve 2**-48 of the largest deviation. The entry of largest size
    in each component is positive.

    Source: Jolliffe 2002, Principal Component Analysis; slices: Ozaki et al. 2012.
    """

    n_components: int = 2
    whiten: bool = False  # scores with variance 1

    def __post_init__(self) -> None:
        if self.n_components < 1:
            raise ConfigError(f"n_components must be >= 1; got {self.n_components!r}")

    def init(self, seed: int) -> PcaState:
        """State before the first pass; the seed is not used."""
        return PcaState(0, _EMPTY, _EMPTY, np.zeros((0, 0)), _EMPTY, _EMPTY)

    def partial(self, shard: NDArray[np.float64], state: PcaState) -> PcaStats:
        """Sums and ranges of one shard in the first pass, products of slices in the second."""
        if state.n:
            return gram(integer_slices(shard - state.mean, state.scale))
        if len(shard) == 0:
            empty = np.full(shard.shape[1], np.inf)
            return RangeStats(0, part_sums(shard), empty, -empty)
        return RangeStats(len(shard), part_sums(shard), shard.min(axis=0), shard.max(axis=0))

    def merge(self, a: PcaStats, b: PcaStats) -> PcaStats:
        """Statistics of both."""
        if isinstance(a, RangeStats) and isinstance(b, RangeStats):
            low, high = np.minimum(a.low, b.low), np.maximum(a.high, b.high)
            return RangeStats(a.n + b.n, a.parts + b.parts, low, high)
        total: NDArray[np.int64] = np.asarray(a) + np.asarray(b)
        return total

    def update(self, state: PcaState, stats: PcaStats) -> PcaState:
        """Mean after the first pass, components after the second.

        Raises:
            DataError: fewer than two rows, or fewer columns than components.
        """
        if isinstance(stats, RangeStats):
            if stats.n < 2 or len(stats.low) < self.n_components:
                raise DataError(
                    f"PCA needs 2 rows and {self.n_components} columns; "
                    f"got {stats.n} and {len(stats.low)}"
                )
            mean = part_values(stats.parts) / stats.n
            scale = power_of_two_above(np.maximum(stats.high - mean, mean - stats.low))
            return state._replace(n=stats.n, mean=mean, scale=scale)
        covariance = gram_values(stats, state.scale) / (state.n - 1)
        with single_threaded():
            values, vectors = np.linalg.eigh(covariance)
        values = np.maximum(values[::-1][: self.n_components], 0.0)
        rows = np.ascontiguousarray(vectors.T[::-1][: self.n_components])
        largest = np.abs(rows).argmax(axis=1)
        rows = rows * np.where(rows[np.arange(len(rows)), largest] < 0, -1.0, 1.0)[:, None]
        total = float(np.trace(covariance))
        ratio = values / total if total > 0 else np.zeros_like(values)
        return state._replace(
            components=rows, explained_variance=values, explained_variance_ratio=ratio
        )

    def done(self, state: PcaState) -> bool:
        """Whether the components are known."""
        return len(state.components) > 0

    def transform(self, x: NDArray[np.float64], state: PcaState) -> NDArray[np.float64]:
        """Scores of rows; the bits of a row do not depend on the other rows.

        Args:
            x: `(n, d)` float64.
            state: final state.

        Returns:
            `(n, n_components)` float64.
        """
        deviation = x - state.mean
        scores = np.zeros((len(x), len(state.components)))
        # one column at a time: a BLAS product may round a row by its place in the block
        for j in range(x.shape[1]):
            scores += deviation[:, j, None] * state.components[None, :, j]
        if self.whiten:
            spread = np.sqrt(state.explained_variance)
            scores = scores / np.where(spread > 0, spread, 1.0)
        return scores
