"""Learner `proportional`: every user reacts by the same share of what they would do anyway."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promo_ray.registry import register
from promo_ray.response.boosting import Boosting
from promo_ray.response.nuisance import OUTCOME_BOOSTING, balancing_weights, winsorize
from promo_ray.response.outcome import Outcome, fit_outcome
from promo_ray.response.trial import Trial

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ShareEffects:
    """Effect = share x expected outcome.

    Attributes:
        model: expected outcome over all arms.
        shares: `(m,)` float64.
    """

    model: Outcome
    shares: Floats

    def predict(self, x: Floats) -> Floats:
        """`(n, m)` float64 effects in outcome units."""
        return np.asarray(room(self.model, x)[:, None] * self.shares)


@register("proportional")
@dataclass(frozen=True, kw_only=True)
class Proportional:
    """The response model as an effect model: one number per arm is learned about the offer.

    Effects equal on the log-odds follow p (1 - p), so that is the scale of 0/1 outcomes; others
    follow the expected outcome itself. Wrong where offers drive buyers away, and then the
    cross-fitted score of `auto` leaves it out.

    Attributes:
        outcome: boosted regression of the outcome, whatever was sent.
    """

    outcome: Boosting = OUTCOME_BOOSTING

    def learn(self, trial: Trial) -> ShareEffects:
        """See `Learner.learn`."""
        weight, _ = balancing_weights(trial)
        model = fit_outcome(trial.x, trial.outcome, weight, self.outcome)
        y, scale = winsorize(trial.outcome), room(model, trial.x)
        level = max(float(np.average(scale, weights=trial.weight)), np.finfo(np.float64).tiny)
        means = [
            np.average(y[trial.arm == a], weights=weight[trial.arm == a])
            for a in range(trial.n_arms)
        ]
        return ShareEffects(model=model, shares=(np.array(means[1:]) - means[0]) / level)


def room(model: Outcome, x: Floats) -> Floats:
    """`(n,)` float64 scale of effects: p (1 - p) for 0/1 outcomes, else the outcome, >= 0."""
    mean = model.predict(x)
    return mean * (1.0 - mean) if model.size == 1.0 else np.maximum(mean, 0.0)
