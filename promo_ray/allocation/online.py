"""Decide from prices alone, for one user or a batch; NumPy only, O(m) per user."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def choose(
    values: NDArray[np.floating],
    costs: NDArray[np.floating],
    prices: NDArray[np.float64],
    *,
    offer_idx: NDArray[np.integer] | None = None,
    capacity_use: NDArray[np.floating] | None = None,
) -> NDArray[np.int32]:
    """Slot of highest value net of priced use, -1 where none is positive.

    A price says what one more unit of its row is worth to the campaign, so a user gets an offer
    only if it earns more here than its use would earn elsewhere.

    Args:
        values: `(..., m)` value of each slot, currency; -inf = not eligible.
        costs: `(k, ..., m)` use of each budget.
        prices: `(k,)` or `(k + n_offers,)` prices of an `Allocation`, >= 0.
        offer_idx: `(..., m)` offer of each slot; None: the slot's index.
        capacity_use: `(..., m)` use of the offer's own row; None: 1.

    Returns:
        `(...)` int32 slot, -1 = no offer; an array without dimensions for one user.
    """
    k = len(costs)
    score = np.asarray(values, dtype=np.float64) - np.tensordot(prices[:k], costs, axes=1)
    if len(prices) > k:
        offer = prices[k:] if offer_idx is None else prices[k:][offer_idx]
        score -= offer if capacity_use is None else offer * capacity_use
    slot = score.argmax(axis=-1)
    best = np.take_along_axis(score, slot[..., None], axis=-1)[..., 0]
    return np.where(best > 0, slot, -1).astype(np.int32)
