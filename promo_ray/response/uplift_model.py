"""`UpliftModel`: effects of several arms for each row, in outcome units."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from promo_ray.errors import ConfigError, DataError
from promo_ray.execution.threads import single_threaded
from promo_ray.numerics.tree_ensemble import TreeEnsemble
from promo_ray.registry import build
from promo_ray.response.additive import Additive
from promo_ray.response.arm_choice import ArmRule, choose_rule
from promo_ray.response.auto import Auto, AutoEffects
from promo_ray.response.boosting import Boosting
from promo_ray.response.dr_learner import CANDIDATES, ArmEffects, cross_fitted_scores
from promo_ray.response.effects import Effects
from promo_ray.response.features import Encoder
from promo_ray.response.halves import half_of, half_width
from promo_ray.response.inputs import arms, finite_vector, group_codes, propensities
from promo_ray.response.nuisance import estimate_propensity
from promo_ray.response.s_learner import with_arm
from promo_ray.response.trial import Trial, arm_left_out, folds_of

Floats = NDArray[np.float64]

_COST_BOOSTING = Boosting(max_iter=100, min_samples_leaf=50)
_N_HALVES = 20  # fits on half of the users behind an interval
_MAX_DRAWS = 100  # of a half that holds all arms


class _Fitted(NamedTuple):
    learner: Any
    encoder: Encoder
    effects: Effects
    cost: TreeEnsemble | None
    trial: Trial


class _Half(NamedTuple):
    effects: Effects
    cost: TreeEnsemble | None


class UpliftModel:
    """Effect of each arm against control, by a registered learner.

    >>> import numpy as np
    >>> x = np.linspace(-1, 1, 2000)[:, None]
    >>> arm = np.arange(2000) % 2
    >>> model = UpliftModel("dr", n_folds=2).fit(x, arm, 1.0 + 2.0 * arm, np.full(2000, 0.5))
    >>> model.predict(x[:1]).round(1).tolist()
    [[0.0, 2.0]]

    Attributes:
        n_arms: arms, control included; after `fit`.
    """

    def __init__(
        self,
        learner: str = "auto",
        random_state: int = 0,
        n_folds: int = 5,
        **hyperparameters: Any,
    ) -> None:
        """Store settings.

        Args:
            learner: method of the family `response`.
            random_state: seed of the folds, of the halves behind intervals and of forests.
            n_folds: folds of the cross-fitting, >= 2.
            hyperparameters: of the learner.
        """
        self.learner = learner
        self.random_state = random_state
        self.n_folds = n_folds
        self.hyperparameters = hyperparameters
        self.n_arms = 0
        self._fit: _Fitted | None = None
        self._halves: tuple[_Half, ...] = ()
        self._unsaid = np.zeros(1)

    def fit(
        self,
        x: ArrayLike,
        treatment: ArrayLike,
        outcome: ArrayLike,
        propensity: ArrayLike | None = None,
        cost: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> UpliftModel:
        """Learn from a trial or a log.

        Args:
            x: `(n, d)` features: numbers, NaN or None = missing, or texts (categories).
            treatment: `(n,)` arms 0 (control) .. K - 1, each present.
            outcome: `(n,)` outcome: 0/1, money, or any number.
            propensity: `(n,)` probability of the row's arm, or `(n, K)`, in (0, 1]; if None, a
                cross-fitted multinomial logistic estimate, kept above 0.01.
            cost: `(n,)` discount given, if the outcome is net of it. The effect is then learned
                before discount, where it is smoother, and the expected discount taken off.
            groups: `(n,)` user of each row; a user's rows stay in one fold.
            sample_weight: `(n,)` weight of each row, > 0; 1 if None.

        Raises:
            DataError: bad shape or value, the argument named.
            ConfigError: unknown learner or hyperparameter.
        """
        method = build("response", {"method": self.learner, **self.hyperparameters})
        encoder = Encoder.fit(x)
        features = encoder.transform(x)
        n = len(features)
        arm = arms(treatment, "treatment", n)
        n_arms = int(arm.max()) + 1
        folds = folds_of(groups, n, self.n_folds, self.random_state)
        y = finite_vector(outcome, "outcome", n)
        discount = None if cost is None else _discounts(cost, arm)
        _check_folds(arm, folds, n_arms)
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
            weight=_weights(sample_weight, n),
            folds=folds,
            user=group_codes(groups, n),
            n_arms=n_arms,
            n_folds=self.n_folds,
            seed=self.random_state,
        )
        own_cost = None if discount is None else _fit_cost(trial)
        self._fit = _Fitted(method, encoder, method.learn(trial), own_cost, trial)
        self.n_arms, self._halves = n_arms, ()
        return self

    def predict(self, x: ArrayLike) -> Floats:
        """Effect of each arm against control.

        Args:
            x: `(n, d)` features as in `fit`.

        Returns:
            `(n, n_arms)` float64 in outcome units; column 0 (control) is 0.

        Raises:
            DataError: not fitted, or another shape than in `fit`.
        """
        fitted = self._fitted()
        features = fitted.encoder.transform(x)
        return self._net(features, fitted.effects.predict(features), fitted.cost)

    def predict_interval(self, x: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
        """Interval of each effect.

        Two errors are added up. How far another sample of users would have led: the learner and
        the expected discount are fitted again on 20 halves of the users; the spread of a half
        around the whole is the standard error (half-sampling; Politis and Romano 1994), weights
        of a stack held fixed. How far effects (before the discount) vary beyond what the learner
        says, because it damps or cannot express them: their variance as learner `additive`
        estimates it, less that of the predicted effects. Both count errors of the fit, so
        intervals are rather too wide. The first call takes the fits.

        Args:
            x: `(n, d)` features as in `fit`.
            level: coverage, in (0, 1).

        Returns:
            Two `(n, n_arms)` float64 arrays, low and high; column 0 is 0.

        Raises:
            ConfigError: a level outside (0, 1).
            DataError: see `predict`.
        """
        fitted = self._fitted()
        if not self._halves:
            self._unsaid = _unsaid(fitted)
            self._halves = tuple(self._half(fitted, b) for b in range(_N_HALVES))
        features = fitted.encoder.transform(x)
        value = self._net(features, fitted.effects.predict(features), fitted.cost)
        draws = (self._net(features, h.effects.predict(features), h.cost) for h in self._halves)
        reach = np.hypot(half_width(value, draws, level), norm.ppf(0.5 + level / 2) * self._unsaid)
        return value - reach, value + reach

    def rule(self, cost: ArrayLike | None = None, level: float = 0.95) -> ArmRule:
        """The best single arm, left only by users for whom the data support another.

        Args:
            cost: `(n_arms,)` cost of each arm per user, outcome units; 0 if None.
            level: of the lower bound on the gain of leaving, in (0, 1).

        Returns:
            The rule with its gain out of fold; `rule.arms(model.predict(x))` applies it.

        Raises:
            ConfigError: a level outside (0, 1).
            DataError: not fitted, or a cost of another shape.
        """
        if not 0 < level < 1:
            raise ConfigError(f"level must lie in (0, 1); got {level!r}")
        fitted = self._fitted()
        own = np.zeros(self.n_arms) if cost is None else finite_vector(cost, "cost", self.n_arms)
        trial = fitted.trial
        net = trial._replace(outcome=trial.outcome - trial.cost)
        effects = self._out_of_fold(fitted)
        scores = cross_fitted_scores(net)
        return choose_rule(effects, scores, trial.weight, trial.user, own, level)

    def policy(
        self, x: ArrayLike, cost: ArrayLike | None = None, level: float = 0.95
    ) -> NDArray[np.int64]:
        """`(n,)` int64 arm for each row of `x` by `rule(cost, level)`; see there."""
        return self.rule(cost, level).arms(self.predict(x))

    def predict_cost(self, x: ArrayLike) -> Floats:
        """`(n, n_arms)` float64 expected discount of each arm; 0 without `cost` in `fit`."""
        fitted = self._fitted()
        return self._cost(fitted.encoder.transform(x), fitted.cost)

    @property
    def choice(self) -> str:
        """What was chosen and why, one sentence per arm."""
        effects = self._fitted().effects
        return effects.choice if isinstance(effects, AutoEffects) else f"{self.learner}, as asked"

    @property
    def stack(self) -> tuple[dict[str, float], ...]:
        """Weights of the candidates for each arm but control; of `dr` and `auto` only.

        With `dr` all on `constant` means that no pattern was found; `choice` says it of `auto`.
        """
        effects = self._fitted().effects
        names: tuple[str, ...]
        if isinstance(effects, ArmEffects):
            names, rows = CANDIDATES, list(effects.stack)
        elif isinstance(effects, AutoEffects):
            names, rows = effects.names, [own.weights for own in effects.verdicts]
        else:
            return tuple({self.learner: 1.0} for _ in range(self.n_arms - 1))
        return tuple({name: float(w) for name, w in zip(names, row, strict=True)} for row in rows)

    def _fitted(self) -> _Fitted:
        if self._fit is None:
            raise DataError("fit must be called first", where="UpliftModel")
        return self._fit

    def _half(self, fitted: _Fitted, number: int) -> _Half:
        """The learner and the expected discount on half of the users."""
        half = self._draw_half(fitted, number)
        cost = None if fitted.cost is None else _fit_cost(half)
        if isinstance(fitted.learner, Auto) and isinstance(fitted.effects, AutoEffects):
            return _Half(fitted.learner.refit(half, fitted.effects.verdicts), cost)
        return _Half(fitted.learner.learn(half), cost)

    def _draw_half(self, fitted: _Fitted, number: int) -> Trial:
        """The first draw in which every fold leaves all arms to the rest."""
        name = f"response.half.{number}"
        for again in range(_MAX_DRAWS):
            stream = f"{name}.{again}" if again else name
            half = fitted.trial.rows(half_of(fitted.trial.user, self.random_state, stream))
            if arm_left_out(half.arm, half.folds, half.n_arms) is None:
                return half
        raise DataError(
            f"must hold every arm in more users for an interval; of {_MAX_DRAWS} halves of the "
            "users none could be fitted",
            where="treatment",
        )

    def _out_of_fold(self, fitted: _Fitted) -> Floats:
        """`(n, n_arms)` net effects of the rows of the fit from models that saw no own fold."""
        trial = fitted.trial
        found = np.empty((len(trial.arm), self.n_arms))
        for fold in np.unique(trial.folds):
            own = trial.folds == fold
            rest = trial.rows(~own)
            if isinstance(fitted.effects, AutoEffects):
                gross = fitted.effects.out_of_fold[own]
            else:
                gross = fitted.learner.learn(rest).predict(trial.x[own])
            cost = None if fitted.cost is None else _fit_cost(rest)
            found[own] = self._net(trial.x[own], gross, cost)
        return found

    def _net(self, features: Floats, gross: Floats, cost: TreeEnsemble | None) -> Floats:
        """`(n, n_arms)` effects less the expected discount, from the effects before it."""
        return np.column_stack([np.zeros(len(features)), gross]) - self._cost(features, cost)

    def _cost(self, features: Floats, cost: TreeEnsemble | None) -> Floats:
        found = np.zeros((len(features), self.n_arms))
        if cost is not None:
            for arm in range(1, self.n_arms):
                own = with_arm(features, np.full(len(features), arm), self.n_arms)
                found[:, arm] = np.maximum(cost.predict(own), 0.0)
        return found


def _discounts(cost: ArrayLike, arm: NDArray[np.int64]) -> Floats:
    found = finite_vector(cost, "cost", len(arm))
    if len(found) and (found.min() < 0 or found[arm == 0].any()):
        raise DataError("must be >= 0, and 0 in control", where="cost")
    return found


def _unsaid(fitted: _Fitted) -> Floats:
    """`(n_arms,)` standard deviation of effects that the predicted ones leave out; 0 of control."""
    trial = fitted.trial
    found = fitted.effects.predict(trial.x)
    found = found - np.average(found, axis=0, weights=trial.weight)
    said = np.average(found**2, axis=0, weights=trial.weight)
    with single_threaded():
        variance = Additive().learn(trial).variance
    return np.append(0.0, np.sqrt(np.maximum(0.0, variance - said)))


def _weights(sample_weight: ArrayLike | None, n: int) -> Floats:
    if sample_weight is None:
        return np.ones(n)
    found = finite_vector(sample_weight, "sample_weight", n)
    if n and found.min() <= 0:
        raise DataError("must be > 0", where="sample_weight")
    return np.asarray(found / found.mean())


def _check_folds(arm: NDArray[np.int64], folds: NDArray[np.int64], n_arms: int) -> None:
    """Every fold must leave all arms to the rest, or its rows cannot be predicted."""
    lost = arm_left_out(arm, folds, n_arms)
    if lost is not None:
        text = f"every arm outside each fold of users; arm {lost[0]} is missing outside {lost[1]}"
        raise DataError(f"must hold {text}", where="treatment")


def _fit_cost(trial: Trial) -> TreeEnsemble:
    treated = trial.arm > 0
    own = with_arm(trial.x[treated], trial.arm[treated], trial.n_arms)
    weight = trial.weight[treated] / trial.propensity[treated]
    return _COST_BOOSTING.fit(own, trial.cost[treated], weight / weight.mean())
