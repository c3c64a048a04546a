"""What a policy is worth per user, from a log of what another one did."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t

from promo_ray.errors import ConfigError, DataError
from promo_ray.response.inputs import arms, finite_matrix, finite_vector, group_codes, propensities
from promo_ray.response.nuisance import arm_outcomes
from promo_ray.response.orthogonal import aipw_scores

METHODS = ("aipw", "sn_aipw", "ips", "snips", "dm")


class PolicyEstimate(NamedTuple):
    """Estimate of a mean per row (a user in one campaign), in units of the reward.

    Attributes:
        value: point estimate.
        low: lower end of the interval.
        high: upper end.
        se: standard error, clustered by group.
        ess: effective sample size of the importance weights, (sum w)^2 / sum w^2.
        max_weight: largest importance weight.
        method: estimator.
        n: rows.
    """

    value: float
    low: float
    high: float
    se: float
    ess: float
    max_weight: float
    method: str
    n: int


def policy_value(
    policy_probs: ArrayLike,
    action: ArrayLike,
    reward: ArrayLike,
    propensity: ArrayLike,
    x: ArrayLike | None = None,
    q_hat: ArrayLike | None = None,
    method: str = "aipw",
    groups: ArrayLike | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> PolicyEstimate:
    """Mean reward per row if the policy had chosen the arms.

    With `aipw` the estimate is unbiased for known propensities whatever `q_hat` is, and `q_hat`
    only narrows it. `sn_aipw` and `snips` divide by the sum of weights (Hajek): a little bias,
    less variance when weights vary. `dm` trusts `q_hat` alone; its interval ignores the bias.
    The policy must not have been learned from the same rows (use out-of-fold policies).
    Sources: Horvitz and Thompson 1952, Hajek 1971, Dudik et al. 2014.

    Args:
        policy_probs: `(n, n_arms)` probability of each arm under the policy, or `(n,)` arms of a
            deterministic policy.
        action: `(n,)` arm in the log, 0 = control.
        reward: `(n,)` outcome.
        propensity: `(n,)` logged probability of the arm, or `(n, n_arms)`, in (0, 1].
        x: `(n, d)` features; used to cross-fit `q_hat` when that is None.
        q_hat: `(n, n_arms)` predicted reward per arm by models that did not see the row; without
            it and without `x`, the cross-fitted mean of each arm.
        method: one of aipw, sn_aipw, ips, snips, dm.
        groups: `(n,)` user of each row; the interval is clustered by it.
        level: level of the t interval, in (0, 1).
        seed: seed of the folds for `q_hat`.

    Raises:
        ConfigError: unknown method.
        DataError: bad shape or value, the argument named.
    """
    log = _Log.checked(action, reward, propensity, policy_probs, groups)
    probs = log.probabilities(policy_probs, "policy_probs")
    return _estimate(log, probs, log.outcomes(method, x, q_hat, seed), method, level)


def compare_policies(
    policy_probs: ArrayLike,
    other_probs: ArrayLike,
    action: ArrayLike,
    reward: ArrayLike,
    propensity: ArrayLike,
    x: ArrayLike | None = None,
    q_hat: ArrayLike | None = None,
    method: str = "aipw",
    groups: ArrayLike | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> PolicyEstimate:
    """Value of the first policy minus that of the second, paired row by row.

    Arguments as in `policy_value`; effective sample size and largest weight are those of the
    rows on which the policies differ.
    """
    log = _Log.checked(action, reward, propensity, policy_probs, groups)
    probs = log.probabilities(policy_probs, "policy_probs")
    others = log.probabilities(other_probs, "other_probs")
    if method in ("snips", "sn_aipw"):  # each side has its own denominator
        q = log.outcomes(method, x, q_hat, seed)
        one, two = _influence(log, probs, q, method), _influence(log, others, q, method)
        weights = np.abs(log.weights(probs) - log.weights(others))
        return _summary(log, one[0] - two[0], one[1] - two[1], weights, method, level)
    return _estimate(log, probs - others, log.outcomes(method, x, q_hat, seed), method, level)


class _Log(NamedTuple):
    action: NDArray[np.int64]
    reward: NDArray[np.float64]
    propensity: NDArray[np.float64]
    groups: NDArray[np.int64]
    n_arms: int

    @classmethod
    def checked(
        cls,
        action: ArrayLike,
        reward: ArrayLike,
        propensity: ArrayLike,
        policy_probs: ArrayLike,
        groups: ArrayLike | None,
    ) -> _Log:
        rewards = finite_vector(reward, "reward")
        n = len(rewards)
        if n < 2:
            raise DataError(f"must have at least 2 rows; got {n}", where="reward")
        taken = arms(action, "action", n, n_arms=np.iinfo(np.int32).max)
        shape = np.shape(policy_probs)
        if len(shape) == 2:
            n_arms = shape[1]
        else:
            n_arms = 1 + int(max(taken.max(), np.max(policy_probs, initial=0)))
        taken = arms(action, "action", n, n_arms=n_arms)
        known = propensities(propensity, "propensity", taken, n_arms)
        return cls(taken, rewards, known, group_codes(groups, n), n_arms)

    def probabilities(self, policy: ArrayLike, name: str) -> NDArray[np.float64]:
        n = len(self.reward)
        if np.ndim(policy) == 1:
            chosen = arms(policy, name, n, n_arms=self.n_arms)
            return np.eye(self.n_arms)[chosen]
        probs = finite_matrix(policy, name, n)
        if probs.shape[1] != self.n_arms:
            raise DataError(f"must have {self.n_arms} columns; got {probs.shape[1]}", where=name)
        if probs.min() < 0 or not np.allclose(probs.sum(axis=1), 1.0, atol=1e-6):
            raise DataError("rows must be >= 0 and sum to 1", where=name)
        return probs

    def outcomes(
        self, method: str, x: ArrayLike | None, q_hat: ArrayLike | None, seed: int
    ) -> NDArray[np.float64]:
        if method not in METHODS:
            raise ConfigError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
        n = len(self.reward)
        if method in ("ips", "snips"):
            return np.zeros((n, self.n_arms))
        if q_hat is None:
            features = np.zeros((n, 0)) if x is None else finite_matrix(x, "x", n)
            return arm_outcomes(
                features, self.action, self.reward, self.groups, self.n_arms, seed=seed
            )
        q = finite_matrix(q_hat, "q_hat", n)
        if q.shape[1] != self.n_arms:
            raise DataError(f"must have {self.n_arms} columns; got {q.shape[1]}", where="q_hat")
        return q

    def weights(self, probs: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(probs[np.arange(len(self.action)), self.action] / self.propensity)


def _influence(
    log: _Log, probs: NDArray[np.float64], q: NDArray[np.float64], method: str
) -> tuple[float, NDArray[np.float64]]:
    """Estimate and `(n,)` centered contribution of each row to it."""
    if method in ("snips", "sn_aipw"):
        weights = log.weights(probs)
        total = weights.sum()
        if total <= 0:
            raise DataError("must choose an arm of the log in some row", where="policy_probs")
        n = len(weights)
        gap = log.reward - q[np.arange(n), log.action]
        correction = float(weights @ gap / total)
        model = (probs * q).sum(axis=1)
        own = weights * (gap - correction) * (n / total) + model - model.mean()
        return correction + float(model.mean()), own
    if method == "dm":
        rows = (probs * q).sum(axis=1)
    else:
        rows = (probs * aipw_scores(log.action, log.reward, log.propensity, q)).sum(axis=1)
    return float(rows.mean()), rows - rows.mean()


def _estimate(
    log: _Log, probs: NDArray[np.float64], q: NDArray[np.float64], method: str, level: float
) -> PolicyEstimate:
    value, own = _influence(log, probs, q, method)
    return _summary(log, value, own, np.abs(log.weights(probs)), method, level)


def _summary(
    log: _Log,
    value: float,
    own: NDArray[np.float64],
    weights: NDArray[np.float64],
    method: str,
    level: float,
) -> PolicyEstimate:
    se, n_groups = clustered_error(own, log.groups)
    half = se * float(student_t.ppf(0.5 + level / 2, max(1, n_groups - 1)))
    squares = float(weights @ weights)
    ess = float(weights.sum() ** 2 / squares) if squares else 0.0
    return PolicyEstimate(
        value, value - half, value + half, se, ess, float(weights.max()), method, len(own)
    )


def clustered_error(own: NDArray[np.float64], groups: NDArray[np.int64]) -> tuple[float, int]:
    """Standard error of a mean from centered contributions, and the number of clusters.

    Source: Liang and Zeger 1986 with the factor G / (G - 1).

    Args:
        own: `(n,)` contribution of each row minus their mean.
        groups: `(n,)` int64 dense cluster numbers.
    """
    totals = np.bincount(groups, weights=own)
    n_groups = len(totals)
    if n_groups < 2:
        return float("inf"), n_groups
    return float(np.sqrt((totals @ totals) * n_groups / (n_groups - 1)) / len(own)), n_groups
