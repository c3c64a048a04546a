"""Learner `dr`: one doubly robust effect per arm, shrunk to what out-of-fold loss supports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.numerics.tree_ensemble import TreeEnsemble
from promo_ray.registry import register
from promo_ray.response.boosting import Boosting
from promo_ray.response.nuisance import OUTCOME_BOOSTING, Mean, mean_of_trial
from promo_ray.response.orthogonal import aipw_scores
from promo_ray.response.relative import Scale
from promo_ray.response.stacking import ridge, stack_weights
from promo_ray.response.trial import Trial

Floats = NDArray[np.float64]

CANDIDATES = ("constant", "proportional", "ridge", "boosted")


@dataclass(frozen=True, kw_only=True, eq=False)
class ArmEffects:
    """Effect of each arm: constant + baseline * (linear + boosted).

    Attributes:
        scale: baseline and standardized features.
        constant: `(m,)` float64 outcome units.
        coef: `(m, d + 2)` float64 on the standardized features, shares of the baseline.
        trees: boosted part of each arm, None where it has no weight.
        tree_weight: `(m,)` float64 weight of the boosted part.
        stack: `(m, 4)` float64 weights of `CANDIDATES`.
    """

    scale: Scale
    constant: Floats
    coef: Floats
    trees: tuple[TreeEnsemble | None, ...]
    tree_weight: Floats
    stack: Floats

    def predict(self, x: Floats) -> Floats:
        """`(n, m)` float64 effect of each arm against control, outcome units."""
        baseline = self.scale.baseline(x)
        relative = self.scale.standardize(x, baseline) @ self.coef.T
        for j, trees in enumerate(self.trees):
            if trees is not None:
                relative[:, j] += self.tree_weight[j] * trees.predict(x)
        return np.asarray(self.constant + baseline[:, None] * relative)

    def to_arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Arrays for an artefact."""
        arrays = {
            **self.scale.to_arrays(f"{prefix}scale."),
            f"{prefix}constant": self.constant,
            f"{prefix}coef": self.coef,
            f"{prefix}tree_weight": self.tree_weight,
            f"{prefix}stack": self.stack,
        }
        for j, trees in enumerate(self.trees):
            if trees is not None:
                arrays.update(trees.to_arrays(f"{prefix}trees.{j}."))
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], prefix: str) -> ArmEffects:
        """The effects that `to_arrays` wrote; predicts the same bits."""
        constant = arrays[f"{prefix}constant"]
        trees = tuple(
            TreeEnsemble.from_arrays(arrays, f"{prefix}trees.{j}.")
            if f"{prefix}trees.{j}.value" in arrays
            else None
            for j in range(len(constant))
        )
        return cls(
            scale=Scale.from_arrays(arrays, f"{prefix}scale."),
            constant=constant,
            coef=arrays[f"{prefix}coef"],
            trees=trees,
            tree_weight=arrays[f"{prefix}tree_weight"],
            stack=arrays[f"{prefix}stack"],
        )


class FittedEffects(NamedTuple):
    """Effects and how they came about.

    Attributes:
        effects: effects of all arms.
        out_of_fold: `(n, m)` float64 prediction of each row without its fold.
        ratios: `(m,)` float64 penalty of each arm's line, see `stacking.ridge`.
    """

    effects: ArmEffects
    out_of_fold: Floats
    ratios: Floats


class _Arm(NamedTuple):
    constant: float
    coef: Floats
    trees: TreeEnsemble | None
    tree_weight: float
    stack: Floats
    out_of_fold: Floats
    ratio: float


@register("dr")
@dataclass(frozen=True, kw_only=True)
class DrLearner:
    """Cross-fitted doubly robust learner for several arms.

    The pseudo-outcome of an arm is its doubly robust score minus that of control, from nuisances
    that did not see the row. Its regression is a convex mix of four candidates: a constant, a
    constant share of the baseline, a ridge and a boosted regression of that share; the weights
    minimize the doubly robust loss out of fold, so without heterogeneity the mix is a constant.
    Sources: Kennedy 2020 (arXiv 2004.14497); Foster and Syrgkanis 2019 (arXiv 1901.09036).

    Attributes:
        outcome: boosted regression of the mean outcome.
        effect: boosted regression of the effect.
        min_boosted_rows: rows of an arm below which no boosted candidate is tried; with fewer it
            finds nothing that ridge does not, and costs most of the time.
    """

    outcome: Boosting = OUTCOME_BOOSTING
    effect: Boosting = field(default_factory=lambda: Boosting(max_iter=60, max_leaf_nodes=6))
    min_boosted_rows: int = 2000

    def fit(self, trial: Trial, mean: Mean | None = None) -> FittedEffects:
        """Effects of all arms.

        Args:
            trial: rows; its folds serve nuisances and the choice of weights.
            mean: mean outcome, cross-fitted on the same folds, if it is at hand.
        """
        if mean is None:
            mean = mean_of_trial(trial, self.outcome)
        scale = Scale.fit(trial.x, mean.model, mean.out_of_fold)
        baseline = scale.of_mean(mean.out_of_fold)
        z = scale.standardize(trial.x, baseline)
        scores = pseudo_scores(trial, mean)
        counts = np.bincount(trial.arm, minlength=trial.n_arms)
        found = [
            self._arm(trial, scores[:, a] - scores[:, 0], baseline, z, int(counts[a]))
            for a in range(1, trial.n_arms)
        ]
        effects = ArmEffects(
            scale=scale,
            constant=np.array([f.constant for f in found]),
            coef=np.stack([f.coef for f in found]),
            trees=tuple(f.trees for f in found),
            tree_weight=np.array([f.tree_weight for f in found]),
            stack=np.stack([f.stack for f in found]),
        )
        return FittedEffects(
            effects,
            np.stack([f.out_of_fold for f in found], axis=1),
            np.array([f.ratio for f in found]),
        )

    def learn(self, trial: Trial) -> ArmEffects:
        """See `Learner.learn`."""
        return self.fit(trial).effects

    def _arm(self, trial: Trial, target: Floats, baseline: Floats, z: Floats, n_arm: int) -> _Arm:
        folds, n_folds = trial.folds, trial.n_folds
        weight = trial.weight * baseline.mean() / baseline
        sheer = np.ones((len(target), 1))
        free = np.zeros(1, dtype=bool)
        constant = ridge(sheer, target, weight, folds, n_folds, free)
        share = ridge(baseline[:, None], target, weight, folds, n_folds, free)
        is_shrunk = np.arange(z.shape[1]) > 0
        linear = ridge(z * baseline[:, None], target, weight, folds, n_folds, is_shrunk)
        parts = [
            constant.fold_coefs[folds, 0],
            share.fold_coefs[folds, 0] * baseline,
            np.einsum("np,np->n", z, linear.fold_coefs[folds]) * baseline,
        ]
        is_boosted = n_arm >= self.min_boosted_rows
        if is_boosted:
            relative, heavy = target / baseline, weight * baseline**2
            boosted = np.empty(len(target))
            for fold in np.unique(folds):
                own = folds == fold
                trees = self.effect.fit(trial.x[~own], relative[~own], heavy[~own])
                boosted[own] = trees.predict(trial.x[own]) * baseline[own]
            parts.append(boosted)
        components = np.column_stack(parts)
        mix = stack_weights(components, target, weight, is_convex=True)
        coef = mix[2] * linear.coef
        coef[0] += mix[1] * share.coef[0]
        trees_all = None
        tree_weight = float(mix[3]) if is_boosted else 0.0
        if tree_weight > 0:
            trees_all = self.effect.fit(trial.x, relative, heavy)
        stack = np.zeros(len(CANDIDATES))
        stack[: len(mix)] = mix
        return _Arm(
            constant=float(mix[0] * constant.coef[0]),
            coef=coef,
            trees=trees_all,
            tree_weight=tree_weight,
            stack=stack,
            out_of_fold=components @ mix,
            ratio=linear.ratio,
        )


def pseudo_scores(trial: Trial, mean: Mean) -> Floats:
    """`(n, n_arms)` float64 doubly robust scores of the arms from a cross-fitted mean outcome."""
    return aipw_scores(trial.arm, trial.outcome, trial.propensity, mean.of_arms)


def pseudo_effects(trial: Trial, mean: Mean) -> Floats:
    """`(n, m)` float64 doubly robust scores of the arms minus that of control."""
    scores = pseudo_scores(trial, mean)
    return np.asarray(scores[:, 1:] - scores[:, :1])


def cross_fitted_scores(trial: Trial, outcome: Boosting = OUTCOME_BOOSTING) -> Floats:
    """`(n, n_arms)` float64 doubly robust scores; nuisances saw no row of the own fold."""
    return pseudo_scores(trial, mean_of_trial(trial, outcome))
