"""Learner `constant`: the average effect for everybody."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promo_ray.registry import register
from promo_ray.response.boosting import Boosting
from promo_ray.response.dr_learner import cross_fitted_scores
from promo_ray.response.nuisance import OUTCOME_BOOSTING
from promo_ray.response.trial import Trial

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ConstantEffects:
    """The same effect for all.

    Attributes:
        effects: `(m,)` float64 outcome units.
    """

    effects: Floats

    def predict(self, x: Floats) -> Floats:
        """`(n, m)` float64 effects in outcome units."""
        return np.tile(self.effects, (len(x), 1))


@register("constant")
@dataclass(frozen=True, kw_only=True)
class Constant:
    """Mean of the cross-fitted doubly robust scores.

    Attributes:
        outcome: boosted regression of the mean outcome.
    """

    outcome: Boosting = OUTCOME_BOOSTING

    def learn(self, trial: Trial) -> ConstantEffects:
        """See `Learner.learn`."""
        scores = cross_fitted_scores(trial, self.outcome)
        means = np.average(scores, axis=0, weights=trial.weight)
        return ConstantEffects(effects=means[1:] - means[0])
