"""Sample ratio: whether the arms hold the users that the design meant for them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln
from scipy.stats import chi2

from promo_ray.errors import DataError
from promo_ray.evaluation.checks import Check
from promo_ray.evaluation.multiple import adjust_p_values
from promo_ray.response.inputs import arms, finite_vector, names_of

SAMPLE_RATIO_ALARM = 1e-3  # p-value; the limit in use at GrowthBook and in Fabijan et al. 2019
SAMPLE_RATIO_WARNING = 5e-3  # finds 50.5 / 49.5 among 200,000 users with power 0.952
_PRIOR_WEIGHT = 10_000.0  # users that the prior of the monitored test is worth: shifts of 0.5 %


def sample_ratio(counts: ArrayLike, expected: ArrayLike, *, is_monitored: bool = False) -> Check:
    """Whether the arms hold as many users as the design says; alarm at p < 0.001.

    Chi-square test. A p-value in [0.001, 0.005) passes and the detail says "warning": at the
    alarm's false rate of 0.1 % no test of independent draws finds 50.5 / 49.5 among 200,000
    users with more power than 0.917 (Neyman and Pearson; 0.881 two-sided).

    Args:
        counts: `(n_arms,)` users found in each arm.
        expected: `(n_arms,)` shares or weights of the design; they are scaled to sum to 1. Arms
            of weight 0 are left out, and fail the check if a user is found there.
        is_monitored: p-value that stays valid however often the counts are looked at while they
            grow (Lindon and Malek 2022: Bayes factor against a Dirichlet prior on the design).

    Returns:
        Check whose `statistic` is the p-value.

    Raises:
        DataError: negative or no numbers, counts that are not whole, unequal
            lengths, or no user at all.
    """
    found = finite_vector(counts, "counts")
    weights = finite_vector(expected, "expected", len(found))
    if not len(found) or found.min() < 0 or weights.min() < 0:
        raise DataError("must be >= 0 and not empty", where="counts, expected")
    if (found != np.floor(found)).any():
        raise DataError("must hold whole numbers of users", where="counts")
    if weights.sum() <= 0 or found.sum() <= 0:
        raise DataError("must not all be 0", where="counts, expected")
    in_use = weights > 0
    own, share = found[in_use], weights[in_use] / weights.sum()
    p = 1.0
    if found[~in_use].sum():
        p = 0.0
    elif len(own) > 1:
        p = _monitored(own, share) if is_monitored else _chi_square(own, share)
    return _check("sample_ratio", p, f"arms hold {', '.join(f'{c:.0f}' for c in found)} users")


def sample_ratio_by_segment(
    treatment: ArrayLike, segment: ArrayLike, expected: ArrayLike
) -> dict[str, Check]:
    """The sample ratio in every segment, day or device; p-values are Holm's over segments.

    All of them together give a false alarm in at most 0.1 % of sound trials.

    Args:
        treatment: `(n,)` arm of each user, 0 = control.
        segment: `(n,)` segment of each user, strings or whole numbers.
        expected: `(n_arms,)` shares or weights of the design.

    Returns:
        One check by segment, segments sorted, named `sample_ratio`.
    """
    weights = finite_vector(expected, "expected")
    arm = arms(treatment, "treatment", n_arms=len(weights))
    names, code = names_of(segment, "segment", len(arm))
    table = np.bincount(code * len(weights) + arm, minlength=len(names) * len(weights))
    raw = [sample_ratio(row, weights) for row in table.reshape(len(names), -1)]
    adjusted = adjust_p_values([c.statistic for c in raw])
    return {
        str(name): _check("sample_ratio", p, f"segment {name}: {c.detail.split(';')[0]}")
        for name, c, p in zip(names.tolist(), raw, adjusted.tolist(), strict=True)
    }


def _check(name: str, p: float, text: str) -> Check:
    note = (
        "; warning: look for lost users" if SAMPLE_RATIO_ALARM <= p < SAMPLE_RATIO_WARNING else ""
    )
    detail = f"{text}; p = {p:.3g}{note}"
    return Check(name, p >= SAMPLE_RATIO_ALARM, p, SAMPLE_RATIO_ALARM, detail)


def _chi_square(found: NDArray[np.float64], share: NDArray[np.float64]) -> float:
    want = share * found.sum()
    statistic = float(((found - want) ** 2 / want).sum())
    return float(chi2.sf(statistic, len(found) - 1))


def _monitored(found: NDArray[np.float64], share: NDArray[np.float64]) -> float:
    """1 / Bayes factor, at most 1: a supermartingale under the design, whatever the looks."""
    prior = _PRIOR_WEIGHT * share
    log_factor = (
        gammaln(_PRIOR_WEIGHT)
        - gammaln(_PRIOR_WEIGHT + found.sum())
        + (gammaln(prior + found) - gammaln(prior) - found * np.log(share)).sum()
    )
    return float(min(1.0, np.exp(-log_factor)))
