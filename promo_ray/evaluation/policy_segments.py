"""The gain of a policy by segment of users, each with its own interval."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from promo_ray.errors import DataError
from promo_ray.evaluation.policy_value import PolicyEstimate, compare_policies
from promo_ray.response.inputs import finite_vector, group_codes


def compare_policies_by_segment(
    segment: ArrayLike,
    policy_probs: ArrayLike,
    other_probs: ArrayLike | None,
    action: ArrayLike,
    reward: ArrayLike,
    propensity: ArrayLike | None,
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
        other_probs: see `compare_policies`.
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
    labels = np.asarray(segment)
    n = len(finite_vector(reward, "reward"))
    if labels.shape != (n,):
        raise DataError(f"must have {n} rows; got {labels.shape}", where="segment")
    if any(v is None or v != v for v in labels.tolist()):  # NaN is not itself
        raise DataError("must name a segment in every row; one is missing", where="segment")
    names, code = np.unique(labels.astype(str), return_inverse=True)
    user = group_codes(groups, n)
    columns = {
        name: _rows(values, name, n)
        for name, values in (
            ("policy_probs", policy_probs), ("other_probs", other_probs), ("action", action),
            ("reward", reward), ("propensity", propensity), ("q_hat", q_hat),
        )
    }  # fmt: skip
    found = {}
    for k, name in enumerate(names.tolist()):
        own = np.flatnonzero(code == k)
        part: dict[str, Any] = {key: None if c is None else c[own] for key, c in columns.items()}
        if len(own) < 2:
            raise DataError(f"must hold 2 rows of each; {name!r} has 1", where="segment")
        found[name] = compare_policies(**part, method=method, groups=user[own], level=level)
    return found


def _rows(values: Any, name: str, n: int) -> Any:
    """Something of `n` rows that takes an index of rows; None stays."""
    if values is None:
        return None
    rows = sparse.csr_array(values) if sparse.issparse(values) else np.asarray(values)
    if not rows.ndim or rows.shape[0] != n:
        raise DataError(f"must have {n} rows; got {rows.shape}", where=name)
    return rows
