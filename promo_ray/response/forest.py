"""Learner `forest`: honest regression trees on doubly robust scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeRegressor

from promo_ray.errors import ConfigError
from promo_ray.registry import register
from promo_ray.response.boosting import Boosting
from promo_ray.response.dr_learner import cross_fitted_scores
from promo_ray.response.effects import ColumnEffects
from promo_ray.response.nuisance import OUTCOME_BOOSTING
from promo_ray.response.trial import Trial
from promo_ray.seeding import derive, stream

Floats = NDArray[np.float64]


class HonestTree(NamedTuple):
    """Leaves found on one half of the rows, their values on the other.

    Attributes:
        tree: the splits.
        values: `(n_nodes,)` float64 by node, those of leaves are used.
    """

    tree: DecisionTreeRegressor
    values: Floats

    def predict(self, x: Floats) -> Floats:
        """`(n,)` float64 for features `(n, d)`."""
        return np.asarray(self.values[self.tree.apply(x)])


class Bag(NamedTuple):
    """Mean of honest trees."""

    trees: tuple[HonestTree, ...]

    def predict(self, x: Floats) -> Floats:
        """`(n,)` float64 for features `(n, d)`."""
        return np.asarray(np.mean([own.predict(x) for own in self.trees], axis=0))


@register("forest")
@dataclass(frozen=True, kw_only=True)
class Forest:
    """Forest of honest trees on cross-fitted doubly robust scores, arm by arm.

    Sources: Wager and Athey 2018 (arXiv 1510.04342) for honesty; Athey, Tibshirani and Wager
    2019 (arXiv 1610.01271) for centering, which the scores do here.

    Attributes:
        n_trees: trees per arm.
        min_samples_leaf: rows per leaf at least, on either half.
        max_features: share of the features tried at a split.
        outcome: boosted regression of the mean outcome.
    """

    n_trees: int = 60
    min_samples_leaf: int = 200
    max_features: float = 0.5
    outcome: Boosting = OUTCOME_BOOSTING

    def __post_init__(self) -> None:
        if self.n_trees < 1 or self.min_samples_leaf < 1:
            raise ConfigError("n_trees and min_samples_leaf must be >= 1")
        if not 0 < self.max_features <= 1:
            raise ConfigError(f"max_features must lie in (0, 1]; got {self.max_features!r}")

    def learn(self, trial: Trial) -> ColumnEffects:
        """See `Learner.learn`."""
        scores = cross_fitted_scores(trial, self.outcome)
        return ColumnEffects(
            of_arms=tuple(
                self._bag(trial, scores[:, a] - scores[:, 0], a) for a in range(1, trial.n_arms)
            )
        )

    def _bag(self, trial: Trial, target: Floats, arm: int) -> Bag:
        return Bag(tuple(self._tree(trial, target, arm, b) for b in range(self.n_trees)))

    def _tree(self, trial: Trial, target: Floats, arm: int, number: int) -> HonestTree:
        """One tree on halves of a half: a quarter of the rows splits, a quarter gives values."""
        part = stream(trial.seed, "forest", arm, number).integers(0, 4, len(target))
        grow, fill = np.flatnonzero(part == 0), np.flatnonzero(part == 1)
        if not (len(grow) and len(fill)):  # so few rows make one leaf
            grow = fill = np.arange(len(target))
        tree = DecisionTreeRegressor(
            min_samples_leaf=min(self.min_samples_leaf, max(1, len(grow))),
            max_features=self.max_features,
            random_state=derive(trial.seed, "forest.splits", arm, number),
        )
        tree.fit(trial.x[grow], target[grow], sample_weight=trial.weight[grow])
        leaf, size = tree.apply(trial.x[fill]), tree.tree_.node_count
        count = np.bincount(leaf, trial.weight[fill], minlength=size)
        total = np.bincount(leaf, trial.weight[fill] * target[fill], minlength=size)
        overall = float(np.average(target, weights=trial.weight))
        values = np.where(count > 0, total / np.where(count > 0, count, 1.0), overall)
        return HonestTree(tree, values)
