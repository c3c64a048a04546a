"""Learner `t`: one model of the outcome per arm."""

from __future__ import annotations

from dataclasses import dataclass, field

from promo_ray.registry import register
from promo_ray.response.boosting import Boosting
from promo_ray.response.effects import ColumnEffects, Contrast
from promo_ray.response.nuisance import balancing_weights
from promo_ray.response.outcome import Outcome, fit_outcome
from promo_ray.response.trial import Trial


@register("t")
@dataclass(frozen=True, kw_only=True)
class TLearner:
    """Difference of boosted outcomes of the arms.

    Source: Kuenzel et al. 2019 (arXiv 1706.03461).

    Attributes:
        outcome: boosted regression of the outcome in each arm.
    """

    outcome: Boosting = field(default_factory=Boosting)

    def learn(self, trial: Trial) -> ColumnEffects:
        """See `Learner.learn`."""
        of_arms = outcomes_by_arm(trial, self.outcome)
        return ColumnEffects(
            of_arms=tuple(Contrast(treated=own, control=of_arms[0]) for own in of_arms[1:])
        )


def outcomes_by_arm(trial: Trial, boosting: Boosting) -> list[Outcome]:
    """Outcome model of each arm on the rows that got it."""
    weight, _ = balancing_weights(trial)
    found = []
    for a in range(trial.n_arms):
        own = trial.arm == a
        found.append(fit_outcome(trial.x[own], trial.outcome[own], weight[own], boosting))
    return found
