"""Checks that a result must pass before anyone acts on it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2

from promo_ray.errors import DataError
from promo_ray.evaluation.policy_value import PolicyEstimate
from promo_ray.response.inputs import finite_vector

SAMPLE_RATIO_ALARM = 1e-3  # p-value; the limit in use at GrowthBook and in Fabijan et al. 2019
MIN_EFFECTIVE_SAMPLE = 100.0  # below it the normal interval of a weighted mean is not to be trusted
MIN_PROPENSITY = 1e-3  # one row then counts for a thousand


class Check(NamedTuple):
    """Outcome of one check.

    Attributes:
        name: what was checked.
        passed: whether it is fine.
        statistic: the figure looked at.
        limit: what it is compared with.
        detail: one plain sentence with the figures.
    """

    name: str
    passed: bool
    statistic: float
    limit: float
    detail: str


def sample_ratio(counts: ArrayLike, expected: ArrayLike) -> Check:
    """Whether the arms hold as many users as the design says (chi-square, alarm at p < 0.001).

    Args:
        counts: `(n_arms,)` users found in each arm.
        expected: `(n_arms,)` shares or weights of the design; they are scaled to sum to 1. Arms
            of weight 0 are left out, and fail the check if a user is found there.

    Returns:
        Check whose `statistic` is the p-value.

    Raises:
        DataError: negative or no numbers, unequal lengths, or no user at all.
    """
    found = finite_vector(counts, "counts")
    weights = finite_vector(expected, "expected", len(found))
    if not len(found) or found.min() < 0 or weights.min() < 0:
        raise DataError("must be >= 0 and not empty", where="counts, expected")
    if weights.sum() <= 0 or found.sum() <= 0:
        raise DataError("must not all be 0", where="counts, expected")
    stray = float(found[weights == 0].sum())
    in_use = weights > 0
    want = weights[in_use] / weights.sum() * found[in_use].sum()
    statistic = float(((found[in_use] - want) ** 2 / np.maximum(want, 1e-300)).sum())
    freedom = int(in_use.sum()) - 1
    p = float(chi2.sf(statistic, freedom)) if freedom else 1.0
    p = 0.0 if stray else p
    text = f"arms hold {', '.join(f'{c:.0f}' for c in found)} users; p = {p:.3g}"
    return Check("sample_ratio", p >= SAMPLE_RATIO_ALARM, p, SAMPLE_RATIO_ALARM, text)


def overlap(propensity: ArrayLike, limit: float = MIN_PROPENSITY) -> Check:
    """Whether every logged arm had a fair chance: the smallest propensity is at least `limit`.

    Args:
        propensity: `(n,)` probability of the arm that each row got.
        limit: smallest probability accepted.
    """
    values = finite_vector(propensity, "propensity")
    if not len(values):
        raise DataError("must not be empty", where="propensity")
    smallest = float(values.min())
    share = float((values < limit).mean())
    text = f"smallest propensity {smallest:.3g}; {share:.2%} of rows below {limit:g}"
    return Check("overlap", smallest >= limit, smallest, limit, text)


def effective_sample(estimate: PolicyEstimate, limit: float = MIN_EFFECTIVE_SAMPLE) -> Check:
    """Whether enough rows speak for a policy: effective sample size of its weights.

    Args:
        estimate: of the policy.
        limit: smallest effective sample size accepted.
    """
    text = (
        f"effective sample {estimate.ess:.0f} of {estimate.n} rows, "
        f"largest weight {estimate.max_weight:.3g}"
    )
    return Check("effective_sample", estimate.ess >= limit, estimate.ess, limit, text)
