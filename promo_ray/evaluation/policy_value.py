"""What a policy is worth per user, from a log of what another one did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from promo_ray.evaluation.checks import Check, check_level
from promo_ray.evaluation.off_policy_estimators import (
    METHODS,
    Chosen,
    Estimate,
    estimate,
    logged_mean,
)
from promo_ray.evaluation.off_policy_interval import (
    effective_size,
    reason_to_withhold,
    skewed_interval,
)
from promo_ray.evaluation.off_policy_log import log_moments
from promo_ray.evaluation.off_policy_moments import Moments

__all__ = ["METHODS", "PolicyEstimate", "clustered_error", "compare_policies", "policy_value"]


class PolicyEstimate(NamedTuple):
    """Estimate of a mean per row (a user in one campaign), in units of the reward.

    Attributes:
        value: point estimate; NaN where the log gives none.
        low: lower end of the interval; -infinity if the verdict is withheld.
        high: upper end; infinity if the verdict is withheld.
        se: standard error of the unbiased estimate behind the interval, clustered by group.
        ess: effective sample size of the importance weights, (sum w)^2 / sum w^2.
        max_weight: largest importance weight.
        method: estimator; what `auto` chose is said after the colon.
        n: rows.
        withheld: why the log supports no verdict; "" if it does.
        n_users: users whose rows these are.
        level: of the interval.
        interval: what kind it is, in words.
    """

    value: float
    low: float
    high: float
    se: float
    ess: float
    max_weight: float
    method: str
    n: int
    withheld: str = ""
    n_users: int = 0
    level: float = 0.95
    interval: str = "two-sided, skewness taken in"


def policy_value(
    policy_probs: ArrayLike,
    action: ArrayLike,
    reward: ArrayLike,
    propensity: ArrayLike | None,
    x: ArrayLike | None = None,
    q_hat: ArrayLike | None = None,
    method: str = "auto",
    groups: ArrayLike | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
    checks: Sequence[Check] = (),
) -> PolicyEstimate:
    """Mean reward per row if the policy had chosen the arms.

    Methods, w the importance weight, q the predicted reward, mean() over rows:

    - `dm`: mean(q(pi)); trusts `q_hat` alone.
    - `ips`: mean(w r). `snips`: mean(w r) / mean(w).
    - `dr`: mean(q(pi) + w (r - q)). `sndr`: the correction divided by mean(w).
    - `mrdr`: `dr` with a q + b in place of q, a and b of least estimated variance.
    - `clipped_ips`, `clipped_snips`, `clipped_dr`: w cut at c; `switch_dr`: w 0 above c; `dros`:
      w shrunk smoothly. c by Lepski's rule.
    - `auto`: `clipped_snips` and its doubly robust form, over all c, followed to no cut.

    The interval of a method that is biased on purpose (`dm`, all with c, `auto`) is that of an
    unbiased one on the same rows, widened where needed to hold the value: the bias is inside. The
    policy must not have been learned from the same rows (use out-of-fold policies).
    Sources: Horvitz and Thompson 1952; Hajek 1971; Dudik et al. 2014; Farajtabar et al. 2018;
    Wang et al. 2017; Su et al. 2020; of `mrdr` see `off_policy_estimators`, of
    `auto` `off_policy_path`.

    Args:
        policy_probs: `(n, n_arms)` probability of each arm under the policy (an array or a SciPy
            sparse matrix), or `(n,)` arms of a deterministic policy.
        action: `(n,)` arm in the log, 0 = control.
        reward: `(n,)` outcome.
        propensity: `(n,)` logged probability of the arm, or `(n, n_arms)`, in (0, 1]; NaN where it
            is not known. None or NaN withhold the verdict.
        x: `(n, d)` features; used to cross-fit `q_hat` when that is None.
        q_hat: `(n, n_arms)` predicted reward per arm by models that did not see the row; without
            it and without `x`, the cross-fitted mean of each arm.
        method: one of `METHODS`.
        groups: `(n,)` user of each row; the interval is clustered by it.
        level: level of the interval, in (0, 1).
        seed: seed of the folds for `q_hat`.
        checks: of the trial that wrote the log; any that failed (the sample ratio, say) withholds
            the verdict.

    Raises:
        ConfigError: unknown method, or a level outside (0, 1).
        DataError: bad shape or value, the argument named.
    """
    check_level(level)
    moments = log_moments(
        (policy_probs,), action, reward, propensity, x, q_hat, method, groups, seed
    )
    return _withheld_by(checks, value_of(moments, method, level))


def compare_policies(
    policy_probs: ArrayLike,
    other_probs: ArrayLike | None,
    action: ArrayLike,
    reward: ArrayLike,
    propensity: ArrayLike | None,
    x: ArrayLike | None = None,
    q_hat: ArrayLike | None = None,
    method: str = "auto",
    groups: ArrayLike | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
    checks: Sequence[Check] = (),
) -> PolicyEstimate:
    """Value of the first policy minus that of the second, paired row by row.

    Arguments as in `policy_value`; `other_probs` None is the policy that wrote the log, whose value
    is the mean reward. Effective sample size and largest weight are those of the rows on which
    the policies differ. Equal policies give exactly 0.
    """
    check_level(level)
    policies = (policy_probs,) if other_probs is None else (policy_probs, other_probs)
    moments = log_moments(policies, action, reward, propensity, x, q_hat, method, groups, seed)
    return _withheld_by(checks, difference_of(moments, method, level))


def _withheld_by(checks: Sequence[Check], found: PolicyEstimate) -> PolicyEstimate:
    failed = "; ".join(check.detail for check in checks if not check.passed)
    if found.withheld or not failed:
        return found
    return found._replace(low=-np.inf, high=np.inf, withheld=failed)


def value_of(moments: Moments, method: str, level: float = 0.95) -> PolicyEstimate:
    """Estimate of the first policy from moments of `plan_for(method)`."""
    if moments.n < 2:
        return _nothing(moments, method, 0, level)
    return _summary(moments, estimate(moments, method), method, 0, level)


def difference_of(moments: Moments, method: str, level: float = 0.95) -> PolicyEstimate:
    """First policy minus the second, or minus the log's own where there is one policy."""
    if moments.n < 2:
        return _nothing(moments, method, 2, level)
    one = estimate(moments, method, 0)
    if moments.plan.n_policies == 1:
        mean = logged_mean(moments)
        two = Chosen(mean, mean, "mean of the log")
    else:
        two = estimate(moments, method, 1)
    name = one.name if one.name == two.name else f"{one.name}; {two.name}"
    both = Chosen(_minus(one.estimate, two.estimate), _minus(one.unbiased, two.unbiased), name)
    return _summary(moments, both, method, 2, level)


def _minus(one: Estimate, two: Estimate) -> Estimate:
    return Estimate(one.value - two.value, one.influence - two.influence)


def _nothing(moments: Moments, method: str, side: int, level: float) -> PolicyEstimate:
    nan, n = float("nan"), moments.n
    withheld = reason_to_withhold(moments, side)
    return PolicyEstimate(
        nan, -np.inf, np.inf, nan, 0.0, nan, method, n, withheld, moments.n_groups, level
    )


def _summary(
    moments: Moments, chosen: Chosen, method: str, side: int, level: float
) -> PolicyEstimate:
    unbiased = chosen.unbiased
    low, high, se = skewed_interval(unbiased.value, unbiased.influence, moments, side, level)
    value = chosen.estimate.value
    withheld = reason_to_withhold(moments, side)
    if method == "auto":
        value = min(max(value, low), high)
    low, high = (-np.inf, np.inf) if withheld else (min(low, value), max(high, value))
    ess, largest = effective_size(moments, side), float(moments.largest[side])
    return PolicyEstimate(
        float(value), float(low), float(high), se, ess, largest, chosen.name, moments.n, withheld,
        moments.n_groups, level,
    )  # fmt: skip


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
