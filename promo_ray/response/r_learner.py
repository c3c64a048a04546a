"""Learner `r`: residual of the outcome on residual of the arm."""

from __future__ import annotations

from dataclasses import dataclass, field

from promo_ray.registry import register
from promo_ray.response.boosting import Boosting
from promo_ray.response.effects import ColumnEffects
from promo_ray.response.nuisance import (
    OUTCOME_BOOSTING,
    balancing_weights,
    cross_fitted_mean,
    winsorize,
)
from promo_ray.response.trial import Trial


@register("r")
@dataclass(frozen=True, kw_only=True)
class RLearner:
    """Boosted minimizer of ((y - m(x)) - (a - e) effect(x))^2, arm by arm against control.

    Rows are weighted so that the arm is independent of the features; e is then the share of the
    arm. Source: Nie and Wager 2021 (arXiv 1712.04912).

    Attributes:
        outcome: boosted regression of the mean outcome m, cross-fitted.
        effect: boosted regression of the effect.
    """

    outcome: Boosting = OUTCOME_BOOSTING
    effect: Boosting = field(default_factory=lambda: Boosting(max_iter=60, max_leaf_nodes=6))

    def learn(self, trial: Trial) -> ColumnEffects:
        """See `Learner.learn`."""
        found = []
        for a in range(1, trial.n_arms):
            pair = trial.pair(a)
            weight, shares = balancing_weights(pair)
            y = winsorize(pair.outcome)
            mean = cross_fitted_mean(pair.x, pair.arm, y, weight, pair.folds, 2, self.outcome)
            left = pair.arm - shares[1]
            effect = self.effect.fit(pair.x, (y - mean.out_of_fold) / left, weight * left**2)
            found.append(effect)
        return ColumnEffects(of_arms=tuple(found))
