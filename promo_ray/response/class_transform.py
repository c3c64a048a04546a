"""Learner `class_transform`: one regression of an outcome whose mean is the effect."""

from __future__ import annotations

from dataclasses import dataclass, field

from promo_ray.registry import register
from promo_ray.response.boosting import Boosting
from promo_ray.response.effects import ColumnEffects
from promo_ray.response.nuisance import balancing_weights, winsorize
from promo_ray.response.trial import Trial


@register("class_transform")
@dataclass(frozen=True, kw_only=True)
class ClassTransform:
    """Boosted regression of y (a - e) / (e (1 - e)).

    Simple and noisy: with rare outcomes the target is little more than the coin that chose the
    arm. Sources: Jaskowski and Jaroszewicz 2012; Athey and Imbens 2016.

    Attributes:
        effect: boosted regression of the effect.
    """

    effect: Boosting = field(default_factory=Boosting)

    def learn(self, trial: Trial) -> ColumnEffects:
        """See `Learner.learn`."""
        found = []
        for a in range(1, trial.n_arms):
            pair = trial.pair(a)
            weight, shares = balancing_weights(pair)
            signed = (pair.arm - shares[1]) / (shares[0] * shares[1])
            found.append(self.effect.fit(pair.x, winsorize(pair.outcome) * signed, weight))
        return ColumnEffects(of_arms=tuple(found))
