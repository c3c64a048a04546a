"""Boosted regression trees with one setting of the library, kept as plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from promo_ray.errors import ConfigError
from promo_ray.execution.threads import single_threaded
from promo_ray.numerics.tree_ensemble import TreeEnsemble


@dataclass(frozen=True, kw_only=True)
class Boosting:
    """Size and damping of an ensemble; small on purpose, effects are faint.

    Attributes:
        max_iter: trees.
        max_leaf_nodes: leaves per tree, at most 64.
        min_samples_leaf: rows per leaf at least.
        learning_rate: share of each tree that is added.
        l2_regularization: ridge on leaf values, in units of rows.
    """

    max_iter: int = 80
    max_leaf_nodes: int = 8
    min_samples_leaf: int = 100
    learning_rate: float = 0.05
    l2_regularization: float = 5.0

    def __post_init__(self) -> None:
        if not 2 <= self.max_leaf_nodes <= 64:
            raise ConfigError(f"max_leaf_nodes must be in 2..64; got {self.max_leaf_nodes!r}")
        if self.max_iter < 1 or self.min_samples_leaf < 1:
            raise ConfigError("max_iter and min_samples_leaf must be >= 1")
        if self.learning_rate <= 0 or self.l2_regularization < 0:
            raise ConfigError("learning_rate must be > 0 and l2_regularization >= 0")

    def fit(
        self,
        x: NDArray[np.float64],
        y: NDArray[np.float64],
        weight: NDArray[np.float64] | None = None,
        monotone: Sequence[int] | None = None,
        seed: int = 0,
    ) -> TreeEnsemble:
        """Least-squares ensemble; the same bits for the same input on one platform.

        Args:
            x: `(n, d)` float64; with no column or no row the ensemble is the mean of `y`.
            y: `(n,)` float64.
            weight: `(n,)` float64 row weights.
            monotone: `(d,)` 1 where the prediction must not fall in the column, 0 elsewhere.
            seed: draws the rows that bins are taken from when there are over 200,000.
        """
        if not x.size:
            return _constant(float(np.average(y, weights=weight)) if len(y) else 0.0, x.shape[1])
        model = HistGradientBoostingRegressor(
            max_iter=self.max_iter,
            max_leaf_nodes=self.max_leaf_nodes,
            min_samples_leaf=self.min_samples_leaf,
            learning_rate=self.learning_rate,
            l2_regularization=self.l2_regularization,
            early_stopping=False,
            monotonic_cst=None if monotone is None else list(monotone),
            random_state=seed,
        )
        with single_threaded():
            model.fit(x, y, sample_weight=weight)
        return TreeEnsemble.from_sklearn(model)


def _constant(value: float, n_features: int) -> TreeEnsemble:
    empty_int, empty = np.zeros(0, dtype=np.int32), np.zeros(0)
    return TreeEnsemble(
        feature=empty_int,
        threshold=empty,
        is_missing_left=np.zeros(0, dtype=bool),
        left=empty_int,
        right=empty_int,
        value=empty,
        offset=np.zeros(1, dtype=np.int64),
        baseline=value,
        n_features=n_features,
    )
