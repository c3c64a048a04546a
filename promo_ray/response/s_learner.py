"""Learner `s`: one model of the outcome with the arm among its features."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from promo_ray.registry import register
from promo_ray.response.boosting import Boosting
from promo_ray.response.nuisance import balancing_weights
from promo_ray.response.outcome import Outcome, fit_outcome
from promo_ray.response.trial import Trial

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ArmFeatureEffects:
    """Differences of one outcome model between arms.

    Attributes:
        model: outcome of features and arm.
        n_arms: arms, control included.
    """

    model: Outcome
    n_arms: int

    def predict(self, x: Floats) -> Floats:
        """`(n, m)` float64 effects in outcome units."""
        of_arms = [
            self.model.predict(with_arm(x, np.full(len(x), a), self.n_arms))
            for a in range(self.n_arms)
        ]
        return np.column_stack([own - of_arms[0] for own in of_arms[1:]])


@register("s")
@dataclass(frozen=True, kw_only=True)
class SLearner:
    """One boosted outcome; arms differ only where the trees split on them.

    For 0/1 outcomes the trees add up log-odds, so an effect without any interaction still
    follows the base rate. Source: Kuenzel et al. 2019 (arXiv 1706.03461).

    Attributes:
        outcome: boosted regression of the outcome.
    """

    outcome: Boosting = field(default_factory=Boosting)

    def learn(self, trial: Trial) -> ArmFeatureEffects:
        """See `Learner.learn`."""
        weight, _ = balancing_weights(trial)
        own = with_arm(trial.x, trial.arm, trial.n_arms)
        return ArmFeatureEffects(
            model=fit_outcome(own, trial.outcome, weight, self.outcome), n_arms=trial.n_arms
        )


def with_arm(x: Floats, arm: NDArray[np.int64], n_arms: int) -> Floats:
    """`(n, d + n_arms - 1)` float64: the features and a flag per arm but control."""
    return np.column_stack([x, np.eye(n_arms)[arm][:, 1:]])
