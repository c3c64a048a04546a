"""Learner `linear_dr`: doubly robust scores on a line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from promo_ray.registry import register
from promo_ray.response.boosting import Boosting
from promo_ray.response.dr_learner import cross_fitted_scores
from promo_ray.response.effects import ColumnEffects, Line, spread_of, standardized
from promo_ray.response.nuisance import OUTCOME_BOOSTING
from promo_ray.response.stacking import ridge
from promo_ray.response.trial import Trial


@register("linear_dr")
@dataclass(frozen=True, kw_only=True)
class LinearDr:
    """Ridge regression of cross-fitted doubly robust scores on standardized features.

    Source: Semenova and Chernozhukov 2021 (arXiv 1702.06240), here with a penalty that the
    folds choose.

    Attributes:
        outcome: boosted regression of the mean outcome.
    """

    outcome: Boosting = OUTCOME_BOOSTING

    def learn(self, trial: Trial) -> ColumnEffects:
        """See `Learner.learn`."""
        scores = cross_fitted_scores(trial, self.outcome)
        center, spread = trial.x.mean(axis=0), spread_of(trial.x)
        z = standardized(trial.x, center, spread)
        is_shrunk = np.arange(z.shape[1]) > 0
        found = []
        for a in range(1, trial.n_arms):
            target = scores[:, a] - scores[:, 0]
            fit = ridge(z, target, trial.weight, trial.folds, trial.n_folds, is_shrunk)
            found.append(Line(center=center, spread=spread, coef=fit.coef))
        return ColumnEffects(of_arms=tuple(found))
