"""Learner `auto`: a stack of learners, weighed by a cross-fitted doubly robust score."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.errors import ConfigError
from promo_ray.execution.threads import single_threaded
from promo_ray.registry import build, register
from promo_ray.response.additive import Additive
from promo_ray.response.dr_learner import pseudo_effects
from promo_ray.response.effects import Effects, Learner
from promo_ray.response.moderated import Moderated
from promo_ray.response.nuisance import Mean, mean_of_trial
from promo_ray.response.relative import Scale
from promo_ray.response.slope import clustered_slope
from promo_ray.response.stacking import stack_toward
from promo_ray.response.trial import Trial

Floats = NDArray[np.float64]

_PROVEN = 1.645  # one-sided 5 %: below it the stack is used, but no heterogeneity is claimed
_ORDER = 0.05  # weight of the first candidate where the average effect is the answer


class Verdict(NamedTuple):
    """What the scores say about one arm.

    Attributes:
        weights: `(k,)` float64 >= 0 of the candidates.
        z: `(k,)` float64 slope of the scores on each candidate out of fold, over its error,
            clustered by user.
        stack_z: the same of the stack.
        average: average effect, outcome units.
        is_average: no heterogeneity was found; the weights then only order equal users.
    """

    weights: Floats
    z: Floats
    stack_z: float
    average: float
    is_average: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class AutoEffects:
    """Weighted sum of the candidates around the average effect.

    Attributes:
        names: candidates, k.
        parts: their effects; None where no arm gives weight.
        verdicts: per arm but control.
        centers: `(m, k)` float64 mean prediction of each candidate on the rows of the fit.
        out_of_fold: `(n, m)` float64 effects of the rows of the fit, each without its fold.
    """

    names: tuple[str, ...]
    parts: tuple[Effects | None, ...]
    verdicts: tuple[Verdict, ...]
    centers: Floats
    out_of_fold: Floats

    def predict(self, x: Floats) -> Floats:
        """`(n, m)` float64 effects in outcome units."""
        found = np.tile([own.average for own in self.verdicts], (len(x), 1))
        for k, part in enumerate(self.parts):
            if part is not None:
                weight = np.array([own.weights[k] for own in self.verdicts])
                found += weight * (part.predict(x) - self.centers[:, k])
        return found

    @property
    def choice(self) -> str:
        """A sentence per arm: what was chosen and why."""
        return "; ".join(
            _sentence(j + 1, self.names, verdict) for j, verdict in enumerate(self.verdicts)
        )


@register("auto")
@dataclass(frozen=True, kw_only=True)
class Auto:
    """Stack of candidates, pulled toward a prior mix, or the average effect.

    Each candidate predicts the rows of every fold from the other folds. The doubly robust scores,
    whose nuisances saw no own fold either, are regressed on these predictions, rows weighted by
    1 / expected outcome, because outcomes scatter with their mean; the weights are >= 0 and
    pulled toward `prior`, because the scores are too noisy to tell close candidates apart. Half
    of the prior is on the first candidate, whose effect knows one number per arm. More has to be
    earned twice: if what the stack says beyond the first candidate has a slope not `min_z` errors
    above 0, the first candidate stands alone; if the slope on that is not either, everybody gets
    the average effect. All that is left then is 1/20 of the first candidate: no evidence, but an
    order of users where one is needed, and hardly a change of any effect.

    Sources: Breiman 1996 for stacking; Nie and Wager 2021, section 4, and Chernozhukov et al.
    2018 (arXiv 1712.04802) for the slope.

    Attributes:
        candidates: learners that are tried.
        prior: weight of each candidate before any evidence, >= 0.
        pull: strength of the pull toward `prior`.
        min_z: evidence, in standard errors, below which the simpler answer is taken.
    """

    candidates: tuple[str, ...] = ("proportional", "s", "x", "moderated", "additive")
    prior: tuple[float, ...] = (0.5, 0.125, 0.125, 0.125, 0.125)
    pull: float = 0.3
    min_z: float = 1.0

    def __post_init__(self) -> None:
        if not self.candidates or "auto" in self.candidates:
            raise ConfigError("candidates must name at least one learner other than auto")
        if len(self.prior) != len(self.candidates) or min(self.prior) < 0:
            raise ConfigError("prior must hold a weight >= 0 for each candidate")
        if self.pull < 0:
            raise ConfigError(f"pull must be >= 0; got {self.pull!r}")

    def learn(self, trial: Trial) -> AutoEffects:
        """See `Learner.learn`."""
        with single_threaded():
            mean = mean_of_trial(trial)
            found, targets = self._out_of_fold(trial, mean), pseudo_effects(trial, mean)
            scale = Scale.fit(trial.x, mean.model, mean.out_of_fold)
            precision = trial.weight / scale.of_mean(mean.out_of_fold)
            verdicts = tuple(
                self._verdict(found[:, :, j], targets[:, j], precision, trial.user)
                for j in range(trial.n_arms - 1)
            )
            whole = self.refit(trial, verdicts, mean)
        centered = found - np.average(found, axis=1, weights=trial.weight)[:, None, :]
        weights = np.array([own.weights for own in verdicts])
        average = np.array([own.average for own in whole.verdicts])
        return replace(whole, out_of_fold=average + np.einsum("knm,mk->nm", centered, weights))

    def refit(
        self, trial: Trial, verdicts: tuple[Verdict, ...], mean: Mean | None = None
    ) -> AutoEffects:
        """The stack on other rows with weights that were found before; averages are new."""
        mean = mean_of_trial(trial) if mean is None else mean
        effects = np.average(pseudo_effects(trial, mean), axis=0, weights=trial.weight)
        used = [any(own.weights[k] > 0 for own in verdicts) for k in range(len(self.candidates))]
        parts: list[Effects | None] = []
        centers = np.zeros((len(verdicts), len(self.candidates)))
        for k, name in enumerate(self.candidates):
            parts.append(_learned(name, trial, mean) if used[k] else None)
            part = parts[-1]
            if part is not None:
                centers[:, k] = np.average(part.predict(trial.x), axis=0, weights=trial.weight)
        return AutoEffects(
            names=self.candidates,
            parts=tuple(parts),
            verdicts=tuple(
                v._replace(average=float(e)) for v, e in zip(verdicts, effects, strict=True)
            ),
            centers=centers,
            out_of_fold=np.zeros((0, len(verdicts))),
        )

    def _out_of_fold(self, trial: Trial, mean: Mean) -> Floats:
        """`(k, n, m)` float64 predictions of the candidates for rows that they did not see."""
        found = np.zeros((len(self.candidates), len(trial.arm), trial.n_arms - 1))
        for fold in np.unique(trial.folds):
            own = trial.folds == fold
            rest, known = trial.rows(~own), mean.without(trial.folds, int(fold))
            for k, name in enumerate(self.candidates):
                found[k, own] = _learned(name, rest, known).predict(trial.x[own])
        return found

    def _verdict(
        self, found: Floats, target: Floats, weight: Floats, user: NDArray[np.int64]
    ) -> Verdict:
        columns = found.T - np.average(found, axis=1, weights=weight)
        centered = target - np.average(target, weights=weight)
        z = np.array([slope_z(column, centered, weight, user) for column in columns.T])
        prior = np.array(self.prior)
        weights = stack_toward(columns, centered, weight, prior, self.pull)
        beyond = _beyond(columns @ weights, columns[:, 0], weight)
        if slope_z(beyond, centered, weight, user) < self.min_z:
            only = stack_toward(
                columns[:, :1], centered, weight, prior.sum(keepdims=True), self.pull
            )
            weights = np.concatenate([only, np.zeros(len(prior) - 1)])
        stack_z = slope_z(columns @ weights, centered, weight, user)
        is_average = stack_z < self.min_z
        if is_average:
            weights = _ORDER * np.eye(len(z))[0]
        return Verdict(weights, z, stack_z, 0.0, is_average)


def slope_z(column: Floats, target: Floats, weight: Floats, user: NDArray[np.int64]) -> float:
    """Slope of a centered target on a centered column over its error, clustered by user."""
    slope, error = clustered_slope(column, target, weight, user, 1e-24 * len(column))
    return slope / error if error > 0 else 0.0


def _beyond(stack: Floats, first: Floats, weight: Floats) -> Floats:
    """What is left of a stack without its projection on one candidate."""
    side = weight * first
    size = float(side @ first)
    return stack - first * (float(side @ stack) / size) if size > 0 else stack


def _learned(name: str, trial: Trial, mean: Mean) -> Effects:
    """Effects of a candidate; those that start from the mean outcome are handed it."""
    learner: Learner = build("response", {"method": name})
    if isinstance(learner, Moderated | Additive):
        return learner.learn(trial, mean)
    return learner.learn(trial)


def _sentence(arm: int, names: tuple[str, ...], verdict: Verdict) -> str:
    if verdict.is_average:
        return (
            f"arm {arm}: no heterogeneity found (cross-fitted slope z {verdict.stack_z:.1f}), "
            f"average effect {verdict.average:.3g} for everybody"
        )
    order = np.argsort(-verdict.weights, kind="stable")
    mix = " + ".join(
        f"{verdict.weights[k]:.2f} {names[k]} (z {verdict.z[k]:.1f})"
        for k in order
        if verdict.weights[k] > 0
    )
    return (
        f"arm {arm}: average effect {verdict.average:.3g} and {mix}; cross-fitted slope of the "
        f"doubly robust scores on the stack z {verdict.stack_z:.1f}"
        + (" (weak: not proven)" if verdict.stack_z < _PROVEN else "")
    )
