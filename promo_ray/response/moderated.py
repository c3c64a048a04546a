"""Learner `moderated`: offers shift the log-odds, or the share, by a line in the features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from promo_ray.registry import register
from promo_ray.response.boosting import Boosting
from promo_ray.response.nuisance import (
    OUTCOME_BOOSTING,
    Mean,
    balancing_weights,
    mean_of_trial,
    winsorize,
)
from promo_ray.response.relative import Scale
from promo_ray.response.trial import Trial

Floats = NDArray[np.float64]

_RATIOS = (0.1, 1.0, 10.0, 100.0)  # penalties that are tried, over the mean diagonal
_FREE_RATIO = 1e-3  # penalty of the constants over the mean diagonal: an arm may have no outcome
_MAX_CHANCE = 0.98
_MAX_STEPS = 10
_TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True, eq=False)
class Shifts:
    """Effects of shifts around the expected outcome over all arms.

    Attributes:
        scale: expected outcome and standardized features.
        coef: `(m, d + 2)` float64 shift of each arm.
        shares: `(m,)` float64 of the arms in the log.
        is_binary: shifts are log-odds; else shares of the expected outcome.
    """

    scale: Scale
    coef: Floats
    shares: Floats
    is_binary: bool

    def predict(self, x: Floats) -> Floats:
        """`(n, m)` float64 effects in outcome units."""
        baseline = self.scale.baseline(x)
        shift = self.scale.standardize(x, baseline) @ self.coef.T
        if not self.is_binary:
            return np.asarray(baseline[:, None] * shift)
        control = _log_odds(baseline) - shift @ self.shares
        return np.asarray(expit(control[:, None] + shift) - expit(control)[:, None])


@register("moderated")
@dataclass(frozen=True, kw_only=True)
class Moderated:
    """Quasi-likelihood of a boosted, cross-fitted mean plus (arm - share of the arm) x line.

    The mean over all arms is fixed first; the arms then differ by a constant and a line in the
    features and the log of that mean, shrunk by a ridge whose strength the folds choose. So with
    no evidence every user reacts alike on the log-odds (0/1 outcomes) or by the same share.
    Centered arms make errors of the mean harmless to first order. Sources: Nie and Wager 2021
    (arXiv 1712.04912) for the centering; McCullagh and Nelder 1989, section 9, for the rest.

    Attributes:
        outcome: boosted regression of the mean outcome.
    """

    outcome: Boosting = OUTCOME_BOOSTING

    def learn(self, trial: Trial, mean: Mean | None = None) -> Shifts:
        """See `Learner.learn`; `mean` is the cross-fitted mean outcome if it is at hand."""
        weight, shares = balancing_weights(trial)
        if mean is None:
            mean = mean_of_trial(trial, self.outcome)
        is_binary = bool(np.isin(trial.outcome, (0.0, 1.0)).all())
        scale = Scale.fit(trial.x, mean.model, mean.out_of_fold)
        baseline = scale.of_mean(mean.out_of_fold)
        z = scale.standardize(trial.x, baseline)
        centered = np.eye(trial.n_arms)[trial.arm][:, 1:] - shares[1:]
        design = (centered[:, :, None] * z[:, None, :]).reshape(len(z), -1)
        is_shrunk = np.tile(np.arange(z.shape[1]) > 0, trial.n_arms - 1)
        if is_binary and scale.floor <= 0:  # no outcome to shift: Newton would run away
            coef = np.zeros((trial.n_arms - 1, z.shape[1]))
            return Shifts(scale=scale, coef=coef, shares=shares[1:], is_binary=is_binary)
        y = winsorize(trial.outcome)
        rows = _Rows(design, y, weight, baseline, is_binary)
        ratio = _ratio(rows, trial.folds, is_shrunk)
        coef = rows.fit(ratio, is_shrunk, np.zeros(design.shape[1]))
        coef = coef.reshape(trial.n_arms - 1, -1)
        return Shifts(scale=scale, coef=coef, shares=shares[1:], is_binary=is_binary)


@dataclass(frozen=True)
class _Rows:
    """A generalized linear model with a known offset."""

    design: Floats
    y: Floats
    weight: Floats
    baseline: Floats
    is_binary: bool

    def part(self, which: NDArray[np.bool_]) -> _Rows:
        return _Rows(
            self.design[which],
            self.y[which],
            self.weight[which],
            self.baseline[which],
            self.is_binary,
        )

    def mean(self, coef: Floats) -> Floats:
        shift = self.design @ coef
        if self.is_binary:
            return np.asarray(expit(_log_odds(self.baseline) + shift))
        return np.asarray(self.baseline * (1.0 + shift))

    def loss(self, coef: Floats) -> float:
        """Deviance, or squared error over the baseline."""
        mean = self.mean(coef)
        if self.is_binary:
            mean = np.clip(mean, 1e-9, 1.0 - 1e-9)
            fit = self.y * np.log(mean) + (1.0 - self.y) * np.log1p(-mean)
            return -float(self.weight @ fit)
        return float((self.weight / self.baseline) @ (self.y - mean) ** 2)

    def fit(self, ratio: float, is_shrunk: NDArray[np.bool_], start: Floats) -> Floats:
        """Newton's method; a single step solves the squared error."""
        coef = start
        for _ in range(_MAX_STEPS):
            mean = self.mean(coef)
            bend = mean * (1.0 - mean) if self.is_binary else self.baseline
            gram = self.design.T @ (self.design * (self.weight * bend)[:, None])
            unit = max(float(np.diag(gram).mean()), np.finfo(np.float64).tiny)
            penalty = unit * np.where(is_shrunk, ratio, _FREE_RATIO)
            side = self.design.T @ (self.weight * (self.y - mean)) - penalty * coef
            step = np.linalg.solve(gram + np.diag(penalty), side)
            if not np.isfinite(step).all():
                break
            coef = coef + step
            if float(np.abs(step).max()) < _TOLERANCE:
                break
        return coef


def _ratio(rows: _Rows, folds: NDArray[np.int64], is_shrunk: NDArray[np.bool_]) -> float:
    """Penalty with the smallest loss out of fold."""
    losses = np.zeros(len(_RATIOS))
    for fold in np.unique(folds):
        rest, own = rows.part(folds != fold), rows.part(folds == fold)
        coef = np.zeros(rows.design.shape[1])
        for k in reversed(range(len(_RATIOS))):  # each from the last, more shrunk one
            coef = rest.fit(_RATIOS[k], is_shrunk, coef)
            losses[k] += own.loss(coef)
    return _RATIOS[int(losses.argmin())]


def _log_odds(baseline: Floats) -> Floats:
    return np.asarray(logit(np.clip(baseline, 1e-6, _MAX_CHANCE)))
