"""Learner `additive`: doubly robust scores on a smooth curve in every feature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promo_ray.registry import register
from promo_ray.response.boosting import Boosting
from promo_ray.response.dr_learner import pseudo_effects
from promo_ray.response.nuisance import (
    OUTCOME_BOOSTING,
    Mean,
    mean_of_trial,
    winsorize,
)
from promo_ray.response.relative import Scale
from promo_ray.response.trial import Trial

Floats = NDArray[np.float64]

_CENTERS = (-1.5, 0.0, 1.5)  # of the bumps that make up a curve, in standard deviations
_HEIGHT = 2.0  # of a bump, which then varies about as much as the line beside it
_START = 3.0  # first penalty over the mean diagonal of the Gram matrix: skeptical
_STEPS = 10  # of expectation and maximization; curves that are not needed fade slowly


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """Sum of one curve per feature.

    Attributes:
        scale: expected outcome and standardized features.
        level: `(m,)` float64 outcome units.
        coef: `(m, 4 d + 4)` float64 of the columns of `_curves`, outcome units.
        variance: `(m,)` float64 posterior mean of the variance of effects over the rows of the
            fit, outcome units squared: that of the curves and what is not known of them.
    """

    scale: Scale
    level: Floats
    coef: Floats
    variance: Floats

    def predict(self, x: Floats) -> Floats:
        """`(n, m)` float64 effects in outcome units."""
        columns = _curves(self.scale, x, self.scale.baseline(x))
        return np.asarray(self.level + columns @ self.coef.T)


@register("additive")
@dataclass(frozen=True, kw_only=True)
class Additive:
    """Doubly robust scores on a line and bumps per feature, each feature with its own shrinkage.

    Every feature, and the log of the mean outcome, adds a curve to the effect, in outcome units;
    there are no interactions, so fewer directions to be fooled by than trees search. How far a
    curve is shrunk is learned for each feature (empirical Bayes): most features of a user have no
    say in the effect, and theirs fade. Rows weigh 1 / expected outcome. Sources: Semenova and
    Chernozhukov 2021 (arXiv 1702.06240) for series of doubly robust scores; MacKay 1992 and Neal
    1996 for automatic relevance.

    Attributes:
        outcome: boosted regression of the mean outcome.
    """

    outcome: Boosting = OUTCOME_BOOSTING

    def learn(self, trial: Trial, mean: Mean | None = None) -> Curves:
        """See `Learner.learn`; `mean` is the cross-fitted mean outcome if it is at hand."""
        if mean is None:
            mean = mean_of_trial(trial, self.outcome)
        scale = Scale.fit(trial.x, mean.model, mean.out_of_fold)
        baseline = scale.of_mean(mean.out_of_fold)
        columns = _curves(scale, trial.x, baseline)
        weight = trial.weight / baseline
        feature = np.tile(np.arange(trial.x.shape[1] + 1), 1 + len(_CENTERS))
        targets = pseudo_effects(trial._replace(outcome=winsorize(trial.outcome)), mean)
        center, middle = (np.average(own, axis=0, weights=weight) for own in (columns, targets))
        columns -= center
        targets -= middle
        weighted = columns * weight[:, None]
        gram, sides = weighted.T @ columns, weighted.T @ targets
        noise = weight @ targets**2 / len(weight) * rows_per_user(targets, weight, trial.user)
        raw = pseudo_effects(trial, mean)  # heavy tails are cut for the curves alone
        level = np.average(raw, axis=0, weights=weight)
        found = [relevant(gram, *own, feature) for own in zip(sides.T, noise, strict=True)]
        coef = np.stack([own for own, _ in found])
        share = trial.weight / trial.weight.sum()
        columns -= share @ columns
        spread = (columns * share[:, None]).T @ columns
        variance = [float(own @ spread @ own + np.vdot(spread, error)) for own, error in found]
        level -= coef @ center
        return Curves(scale=scale, level=level, coef=coef, variance=np.array(variance))


def rows_per_user(targets: Floats, weight: Floats, user: NDArray[np.int64]) -> Floats:
    """`(m,)` float64 >= 1: how many rows of a user tell as much as one, were they alike."""
    own = targets * weight[:, None]
    sums = np.stack([np.bincount(user, column) for column in own.T])
    squares = (own**2).sum(axis=0)
    return np.asarray(
        np.maximum(1.0, (sums**2).sum(axis=1) / np.where(squares > 0, squares, np.inf))
    )


def relevant(
    gram: Floats, side: Floats, noise: float, group: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Bayesian regression with a prior variance per group that the data settle.

    Expectation and maximization of the evidence over the variances (Dempster, Laird and Rubin
    1977), stopped after a few steps.

    Args:
        gram: `(p, p)` float64 weighted Gram matrix of centered columns.
        side: `(p,)` float64 their weighted products with the target.
        noise: weighted variance of the target.
        group: `(p,)` int64 in [0, groups); the columns of a group share a variance.

    Returns:
        `(p,)` float64 posterior mean of the coefficients, `(p, p)` float64 their covariance.
    """
    unit = float(np.diag(gram).mean())
    if noise * unit <= 0:
        return np.zeros(len(side)), np.zeros_like(gram)
    precision, size = np.full(len(side), _START * unit / noise), np.bincount(group)
    for _ in range(_STEPS):
        spread = np.linalg.inv(gram / noise + np.diag(precision))
        square = (spread @ side / noise) ** 2 + np.diag(spread)
        precision = (size / np.bincount(group, square))[group]
    spread = np.linalg.inv(gram / noise + np.diag(precision))
    return np.asarray(spread @ side / noise), np.asarray(spread)


def _curves(scale: Scale, x: Floats, baseline: Floats) -> Floats:
    """`(n, 4 d + 4)` float64: the standardized features and log baseline, and their bumps."""
    z = scale.standardize(x, baseline)[:, 1:]
    bumps = [_HEIGHT * np.exp(-0.5 * (z - center) ** 2) for center in _CENTERS]
    return np.column_stack([z, *bumps])
