"""Off-policy estimates from moments: values, their influence, and the automatic choice.

Symbols: w importance weight of the arm taken, r reward, q its predicted reward, q(pi) the mean
prediction under the policy, mean() over rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.errors import ConfigError
from promo_ray.evaluation.off_policy_moments import CUTS, Moments, Plan
from promo_ray.evaluation.off_policy_path import path_value

Floats = NDArray[np.float64]

PLAIN = ("dm", "ips", "snips", "dr", "sndr", "mrdr")
CUT = {  # method: how weights are cut, whether q is used
    "clipped_ips": ("clip", False),
    "clipped_snips": ("clip", False),
    "clipped_dr": ("clip", True),
    "switch_dr": ("switch", True),
    "dros": ("shrink", True),
    "auto": ("clip", True),
}
METHODS = (*PLAIN, *CUT)
WITHOUT_MODEL = ("ips", "snips", "clipped_ips", "clipped_snips")

_LEPSKI = 1.96  # standard errors between a cut and every weaker one before it counts as biased


class Estimate(NamedTuple):
    """Value and the `(d,)` coefficients of its influence on the columns of a user.

    The influence of a user is `coefficients @ columns`, its sum over users is 0.
    """

    value: float
    influence: Floats


def plan_for(method: str, n_policies: int = 1) -> Plan:
    """Columns that a method needs.

    Raises:
        ConfigError: unknown method.
    """
    if method not in METHODS:
        raise ConfigError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    kind, has_model = CUT.get(method, ("", True))
    return Plan(n_policies, kind, has_model)


def covariance(moments: Moments, one: Floats, two: Floats) -> float:
    """Covariance of two estimates from their influences, clustered by user.

    Source: Liang and Zeger 1986 with the factor G / (G - 1).
    """
    groups = moments.n_groups
    if groups < 2:
        return float("inf")
    return float(one @ moments.second @ two) * groups / (groups - 1) / moments.n**2


class Chosen(NamedTuple):
    """An estimate, the unbiased one whose interval it gets, and its name."""

    estimate: Estimate
    unbiased: Estimate
    name: str


def estimate(moments: Moments, method: str, policy: int = 0) -> Chosen:
    """Value of one policy by a method; see `policy_value` for what each is.

    Args:
        moments: of `plan_for(method)`.
        method: one of `METHODS`.
        policy: which policy of the moments.
    """
    plan = moments.plan
    if method in ("ips", "snips", "dr", "sndr"):
        own = _plain(moments, method, policy)
        return Chosen(own, own, method)
    unbiased = _calibrated(moments, policy, has_model=plan.has_model)
    if method == "mrdr":
        return Chosen(unbiased, unbiased, method)
    if method == "dm":
        return Chosen(_plain(moments, method, policy), unbiased, method)
    if method == "auto":
        return _automatic(moments, policy, unbiased)
    cuts = [_cut(moments, method, policy, k) for k in range(len(CUTS))]
    plain = {"clipped_ips": "ips", "clipped_snips": "snips"}.get(method, "dr")
    cuts.append(_plain(moments, plain, policy))
    return Chosen(_least_cut(moments, cuts), unbiased, method)


def logged_mean(moments: Moments) -> Estimate:
    """Mean reward of the policy that wrote the log."""
    value = float(moments.total[1] / moments.n)
    influence = np.zeros(len(moments.total))
    influence[1], influence[0] = 1.0, -value
    return Estimate(value, influence)


def _plain(moments: Moments, method: str, policy: int) -> Estimate:
    mean = moments.total / moments.n
    at = moments.plan.base(policy)
    w, wr, wq, own = range(at, at + 4)
    influence = np.zeros(len(mean))
    value = 0.0
    if method in ("dm", "dr"):
        influence[own] = 1.0
        value += mean[own]
    if method in ("ips", "dr"):
        influence[wr] = 1.0
        value += mean[wr]
    if method == "dr":
        influence[wq] = -1.0
        value -= mean[wq]
    influence[0] = -value
    if method in ("snips", "sndr"):
        weight = mean[w] if mean[w] > 0 else np.nan
        ratio = (mean[wr] - (mean[wq] if method == "sndr" else 0.0)) / weight
        influence[wr], influence[w], influence[0] = 1.0 / weight, -ratio / weight, 0.0
        value = ratio
        if method == "sndr":
            influence[wq], influence[own], influence[0] = -1.0 / weight, 1.0, -mean[own]
            value += mean[own]
    return Estimate(float(value), influence)


def _calibrated(moments: Moments, policy: int, *, has_model: bool) -> Estimate:
    """Doubly robust value with the affine map a q + b of least estimated variance.

    a and b are the coefficients of two columns of known mean 0, w q - q(pi) and w - 1, that
    explain w r best. IPS (a = b = 0), DR (1, 0), SNIPS and SNDR (b) are special cases up to
    terms of order 1 / n. Sources: Farajtabar et al. 2018 (the criterion of MRDR, here over
    affine maps of a given model); Owen and Zhou 2000.
    """
    at = moments.plan.base(policy)
    zeros = np.zeros((3, len(moments.total)))
    zeros[0, at + 1] = 1.0  # w r
    zeros[1, at], zeros[1, 0] = 1.0, -1.0  # w - 1
    zeros[2, at + 2], zeros[2, at + 3] = 1.0, -1.0  # w q - q(pi)
    rows = zeros if has_model else zeros[:2]
    means = rows @ moments.total / moments.n
    rows = rows.copy()
    rows[:, 0] -= means
    matrix = rows @ moments.second @ rows.T
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    normal = matrix / np.outer(scale, scale)
    inverse = np.linalg.pinv(normal[1:, 1:], rcond=1e-9, hermitian=True)
    weights = inverse @ normal[1:, 0] * (scale[0] / scale[1:])
    weights[scale[1:] <= 1e-140] = 0.0
    value = float(means[0] - weights @ means[1:])
    return Estimate(value, rows[0] - weights @ rows[1:])


def _cut(moments: Moments, method: str, policy: int, k: int) -> Estimate:
    mean = moments.total / moments.n
    plan = moments.plan
    at, column = plan.base(policy), plan.cut(policy, k)
    influence = np.zeros(len(mean))
    if method == "clipped_snips":
        weight = mean[column] if mean[column] > 0 else np.nan
        value = mean[column + 1] / weight
        influence[column + 1], influence[column] = 1.0 / weight, -value / weight
        return Estimate(float(value), influence)
    value = mean[column + 1]
    influence[column + 1] = 1.0
    if plan.has_model:
        value += mean[at + 3] - mean[column + 2]
        influence[at + 3], influence[column + 2] = 1.0, -1.0
    influence[0] = -value
    return Estimate(float(value), influence)


def _least_cut(moments: Moments, cuts: list[Estimate]) -> Estimate:
    """The strongest cut that no weaker cut contradicts (Lepski's rule on paired differences).

    Source: Su, Srinath and Krishnamurthy 2020 (SLOPE), with the error of each difference.
    """
    for i, found in enumerate(cuts):
        others = cuts[i + 1 :]
        gaps = [
            (found.value - o.value) ** 2
            <= _LEPSKI**2 * covariance(moments, d := found.influence - o.influence, d) + 1e-300
            for o in others
        ]
        if all(gaps):
            return found
    return cuts[-1]


def _automatic(moments: Moments, policy: int, unbiased: Estimate) -> Chosen:
    """Both paths of ever weaker cuts, weighted by 1 / posterior variance; see `off_policy_path`."""
    whole = moments.total[moments.plan.base(policy)]
    if not whole > 0 or moments.n_groups < 2:
        return Chosen(unbiased, unbiased, "auto: mrdr")
    plain, robust = (path_value(moments, policy, has_model=m) for m in (False, True))
    if not np.isfinite(plain.value + robust.value):  # rewards that do not vary
        return Chosen(unbiased, unbiased, "auto: mrdr")
    both = plain.variance + robust.variance
    share = robust.variance / both if both > 0 else 0.5
    value = share * plain.value + (1.0 - share) * robust.value
    influence = share * plain.influence + (1.0 - share) * robust.influence
    return Chosen(Estimate(value, influence), unbiased, f"auto: {share:.0%} snips path, rest sndr")
