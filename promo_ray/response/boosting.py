"""Boosted regression trees with one setting of the library, kept as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from promo_ray.errors import ConfigError
from promo_ray.execution.threads import single_threaded
from promo_ray.numerics.tree_ensemble import TreeEnsemble

Floats = NDArray[np.float64]
_MAX_BINS = 255  # of scikit-learn


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
        x: Floats,
        y: Floats,
        weight: Floats | None = None,
        monotone: Sequence[int] | None = None,
        *,
        is_binary: bool = False,
    ) -> TreeEnsemble:
        """Least-squares or logistic ensemble; the same bits for the same input on one platform.

        Args:
            x: `(n, d)` float64; with no column or no row the ensemble is the mean of `y`.
            y: `(n,)` float64.
            weight: `(n,)` float64 row weights.
            monotone: `(d,)` 1 where the prediction must not fall in the column, 0 elsewhere.
            is_binary: `y` holds 0 and 1; the ensemble then sums to log-odds.
        """
        is_flat = is_binary and (not len(y) or y.min() == y.max())
        if not x.size or is_flat:
            mean = float(np.average(y, weights=weight)) if len(y) else 0.0
            if is_binary:
                mean = float(logit((mean * len(y) + 0.5) / (len(y) + 1.0)))
            return _constant(mean, x.shape[1])
        snapped, edges = _snap(x)
        family = HistGradientBoostingClassifier if is_binary else HistGradientBoostingRegressor
        model = family(
            max_iter=self.max_iter,
            max_leaf_nodes=self.max_leaf_nodes,
            min_samples_leaf=self.min_samples_leaf,
            learning_rate=self.learning_rate,
            l2_regularization=self.l2_regularization,
            early_stopping=False,
            monotonic_cst=None if monotone is None else list(monotone),
            random_state=0,  # unused: the bins are drawn from no sample, see _snap
        )
        with single_threaded():
            model.fit(snapped, y, sample_weight=weight)
        return _at_edges(TreeEnsemble.from_sklearn(model), edges)


def _snap(x: Floats) -> tuple[Floats, dict[int, Floats]]:
    """Columns of more than 255 values moved up to their quantiles, and those by column.

    scikit-learn would find the same bins itself, but with row weights it takes longer over that
    than over growing the trees.
    """
    snapped, edges = np.array(x), {}
    for j in range(x.shape[1]):
        if len(np.unique(x[:, j])) <= _MAX_BINS:
            continue
        levels = np.linspace(0.0, 1.0, _MAX_BINS + 1)[1:]
        edges[j] = np.unique(np.quantile(x[:, j], levels, method="inverted_cdf"))
        snapped[:, j] = edges[j][np.searchsorted(edges[j], x[:, j])]
    return snapped, edges


def _at_edges(trees: TreeEnsemble, edges: Mapping[int, Floats]) -> TreeEnsemble:
    """Thresholds between two quantiles moved down to the lower, so that raw values split alike."""
    threshold = trees.threshold.copy()
    for j, own in edges.items():
        at = trees.feature == j
        threshold[at] = own[np.searchsorted(own, threshold[at], side="right") - 1]
    return replace(trees, threshold=threshold)


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
