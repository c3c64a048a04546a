"""Learner `x`: effects imputed by the other arm's model, regressed, then weighted."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from promo_ray.numerics.tree_ensemble import TreeEnsemble
from promo_ray.registry import register
from promo_ray.response.boosting import Boosting
from promo_ray.response.effects import ColumnEffects
from promo_ray.response.nuisance import balancing_weights, winsorize
from promo_ray.response.t_learner import outcomes_by_arm
from promo_ray.response.trial import Trial

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixed:
    """Weighted mean of the effects seen from the treated and from control.

    Attributes:
        treated: effect learned on the treated.
        control: effect learned on control.
        share: share of treated rows, the weight of `control`.
    """

    treated: TreeEnsemble
    control: TreeEnsemble
    share: float

    def predict(self, x: Floats) -> Floats:
        """`(n,)` float64 effect in outcome units."""
        treated, control = self.treated.predict(x), self.control.predict(x)
        return np.asarray(self.share * control + (1.0 - self.share) * treated)


@register("x")
@dataclass(frozen=True, kw_only=True)
class XLearner:
    """Boosted effects of the treated and of control.

    Source: Kuenzel et al. 2019 (arXiv 1706.03461); any weight of the two is valid, the share of
    the treated lets the effect lean on the models of the larger arm.

    Attributes:
        outcome: boosted regression of the outcome in each arm.
        effect: boosted regression of the effect.
    """

    outcome: Boosting = field(default_factory=Boosting)
    effect: Boosting = field(default_factory=lambda: Boosting(max_iter=60, max_leaf_nodes=6))

    def learn(self, trial: Trial) -> ColumnEffects:
        """See `Learner.learn`."""
        weight, shares = balancing_weights(trial)
        of_arms = outcomes_by_arm(trial, self.outcome)
        y = winsorize(trial.outcome)
        is_control, found = trial.arm == 0, []
        for a in range(1, trial.n_arms):
            own = trial.arm == a
            treated = y[own] - of_arms[0].predict(trial.x[own])
            control = of_arms[a].predict(trial.x[is_control]) - y[is_control]
            found.append(
                Mixed(
                    treated=self.effect.fit(trial.x[own], treated, weight[own]),
                    control=self.effect.fit(trial.x[is_control], control, weight[is_control]),
                    share=float(shares[a] / (shares[a] + shares[0])),
                )
            )
        return ColumnEffects(of_arms=tuple(found))
