"""The gain of a policy by segment of users, each with its own interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from promo_ray.errors import DataError
from promo_ray.evaluation.policy_value import PolicyEstimate, compare_policies
from promo_ray.response.inputs import group_codes


def compare_policies_by_segment(
    segment: ArrayLike,
    policy_probs: ArrayLike,
    other_probs: ArrayLike,
    action: ArrayLike,
    reward: ArrayLike,
    propensity: ArrayLike,
    *,
    q_hat: ArrayLike,
    method: str = "dr",
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> dict[str, PolicyEstimate]:
    """`compare_policies` within each segment, sorted by name.

    Intervals are pointwise: among 20 segments one misses its truth at level 0.95. A segment whose
    effective sample is below 100 has its verdict withheld. Both policies equal: exactly 0.

    Args:
        segment: `(n,)` segment of each row, known before the offers were given.
        policy_probs: see `compare_policies`.
        other_probs: see `compare_policies`; not None.
        action: see `compare_policies`.
        reward: see `compare_policies`.
        propensity: see `compare_policies`.
        q_hat: `(n, n_arms)` see `compare_policies`; fitted on other rows.
        method: see `compare_policies`.
        groups: see `compare_policies`.
        level: see `compare_policies`.

    Raises:
        DataError: bad shape or value, the argument named.
    """
    names, code = np.unique(np.asarray(segment, dtype=str), return_inverse=True)
    n = len(np.asarray(action))
    if code.shape != (n,):
        raise DataError(f"must have {n} rows; got {code.shape}", where="segment")
    user = group_codes(groups, n)
    columns = [np.asarray(c) for c in (policy_probs, other_probs, action, reward, propensity)]
    predicted = np.asarray(q_hat)
    found = {}
    for k, name in enumerate(names.tolist()):
        own = code == k
        one, two, arm, outcome, chance = (column[own] for column in columns)
        found[name] = compare_policies(
            one, two, arm, outcome, chance, q_hat=predicted[own], method=method,
            groups=user[own], level=level,
        )  # fmt: skip
    return found
