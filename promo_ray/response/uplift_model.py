"""`UpliftModel`: effects of several arms for each row, in outcome units."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from promo_ray.errors import DataError
from promo_ray.registry import build
from promo_ray.response.boosting import Boosting
from promo_ray.response.dr_learner import CANDIDATES, ArmEffects
from promo_ray.response.inputs import arms, finite_matrix, finite_vector, propensities
from promo_ray.response.nuisance import estimate_propensity
from promo_ray.response.trial import Trial, folds_of

_COST_BOOSTING = Boosting(max_iter=100, min_samples_leaf=50)


class UpliftModel:
    """Effect of each arm against control, by a registered learner.

    >>> import numpy as np
    >>> x = np.linspace(-1, 1, 2000)[:, None]
    >>> arm = np.arange(2000) % 2
    >>> model = UpliftModel(n_folds=2).fit(x, arm, 1.0 + 2.0 * arm, np.full(2000, 0.5))
    >>> model.predict(x[:1]).round(1).tolist()
    [[0.0, 2.0]]

    Attributes:
        n_arms: arms, control included; after `fit`.
    """

    def __init__(
        self,
        learner: str = "dr",
        random_state: int = 0,
        n_folds: int = 5,
        **hyperparameters: Any,
    ) -> None:
        """Store settings.

        Args:
            learner: method of the family `response`.
            random_state: seed of the folds.
            n_folds: folds of the cross-fitting, >= 2.
            hyperparameters: of the learner.
        """
        self.learner = learner
        self.random_state = random_state
        self.n_folds = n_folds
        self.hyperparameters = hyperparameters
        self.n_arms = 0
        self._effects: ArmEffects | None = None
        self._cost: Any = None

    def fit(
        self,
        x: ArrayLike,
        treatment: ArrayLike,
        outcome: ArrayLike,
        propensity: ArrayLike | None = None,
        cost: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> UpliftModel:
        """Learn from a trial or a log with known propensities.

        Args:
            x: `(n, d)` finite features.
            treatment: `(n,)` arms 0 (control) .. K - 1, each present.
            outcome: `(n,)` outcome.
            propensity: `(n,)` probability of the row's arm, or `(n, K)`, in (0, 1]; if None, a
                cross-fitted multinomial logistic estimate, kept above 0.01.
            cost: `(n,)` discount given, if the outcome is net of it. The effect is then learned
                before discount, where it is smoother, and the expected discount taken off.
            groups: `(n,)` user of each row; a user's rows stay in one fold.

        Raises:
            DataError: bad shape or value, the argument named.
            ConfigError: unknown learner or hyperparameter.
        """
        method = build("response", {"method": self.learner, **self.hyperparameters})
        features = finite_matrix(x, "x")
        n = len(features)
        arm = arms(treatment, "treatment", n)
        n_arms = int(arm.max()) + 1
        folds = folds_of(groups, n, self.n_folds, self.random_state)
        y = finite_vector(outcome, "outcome", n)
        discount = None if cost is None else finite_vector(cost, "cost", n)
        if propensity is None:
            known = estimate_propensity(features, arm, folds, n_arms)
        else:
            known = propensities(propensity, "propensity", arm, n_arms)
        trial = Trial(
            x=features,
            arm=arm,
            outcome=y if discount is None else y + discount,
            cost=np.zeros(n) if discount is None else discount,
            propensity=known,
            folds=folds,
            n_arms=n_arms,
            n_folds=self.n_folds,
        )
        self.n_arms = n_arms
        self._effects = method.fit(trial).effects
        self._cost = None if discount is None else self._fit_cost(trial)
        return self

    def predict(self, x: ArrayLike) -> NDArray[np.float64]:
        """Effect of each arm against control.

        Args:
            x: `(n, d)` finite features.

        Returns:
            `(n, n_arms)` float64 in outcome units; column 0 (control) is 0.

        Raises:
            DataError: not fitted, or another shape than in `fit`.
        """
        effects, features = self._fitted(x)
        gross = np.column_stack([np.zeros(len(features)), effects.predict(features)])
        return gross if self._cost is None else gross - self.predict_cost(features)

    def predict_cost(self, x: ArrayLike) -> NDArray[np.float64]:
        """`(n, n_arms)` float64 expected discount of each arm; 0 without `cost` in `fit`."""
        _, features = self._fitted(x)
        found = np.zeros((len(features), self.n_arms))
        if self._cost is not None:
            for arm in range(1, self.n_arms):
                own = _with_arm(features, np.full(len(features), arm), self.n_arms)
                found[:, arm] = np.maximum(self._cost.predict(own), 0.0)
        return found

    @property
    def stack(self) -> tuple[dict[str, float], ...]:
        """Weights of the candidates for each arm but control; all on `constant` = no pattern."""
        effects = self._effects
        if effects is None:
            raise DataError("fit must be called first", where="UpliftModel")
        return tuple(
            {name: float(w) for name, w in zip(CANDIDATES, row, strict=True)}
            for row in effects.stack
        )

    def _fitted(self, x: ArrayLike) -> tuple[ArmEffects, NDArray[np.float64]]:
        if self._effects is None:
            raise DataError("fit must be called first", where="UpliftModel")
        features = finite_matrix(x, "x")
        width = self._effects.scale.mean.n_features
        if features.shape[1] != width:
            raise DataError(f"must have {width} columns; got {features.shape[1]}", where="x")
        return self._effects, features

    @staticmethod
    def _fit_cost(trial: Trial) -> Any:
        treated = trial.arm > 0
        own = _with_arm(trial.x[treated], trial.arm[treated], trial.n_arms)
        weight = 1.0 / trial.propensity[treated]
        return _COST_BOOSTING.fit(own, trial.cost[treated], weight / weight.mean())


def _with_arm(x: NDArray[np.float64], arm: NDArray[np.int64], n_arms: int) -> NDArray[np.float64]:
    return np.column_stack([x, np.eye(n_arms)[arm][:, 1:]])
