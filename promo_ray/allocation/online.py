"""Decide from prices alone, for one user or a batch; NumPy only, O(m) per user."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from promo_ray.errors import DataError

_CHUNK_PAIRS = 1 << 15  # pairs at once: 256 KiB of float64 scores stays in the cache

_ONES = (1,) * 64  # as many axes as NumPy has

Slots = NDArray[np.int32]


def choose(
    values: NDArray[np.floating],
    costs: NDArray[np.floating],
    prices: NDArray[np.float64],
    *,
    offer_idx: NDArray[np.integer] | None = None,
    capacity_use: NDArray[np.floating] | None = None,
    segment_idx: NDArray[np.integer] | np.integer | int | None = None,
    n_segments: int = 0,
    max_offers: int = 1,
) -> Slots:
    """Slot of highest value net of priced use, -1 where none is positive.

    A price says what one more unit of its row is worth to the campaign, so a user gets an offer
    only if it earns more here than its use would earn elsewhere. The price of a segment's floor
    is earned once by serving one of its users at all, so that a slot of negative value can win.
    Ties go to the first slot, and between a score of 0 and no offer to no offer. One user and a
    batch go through the same operations in the same order: they agree to the last bit.

    Shapes are checked. That indices lie in range and that nothing is NaN is not checked, as it
    would cost more than the decision: an index too high is NumPy's IndexError.

    Args:
        values: `(..., m)` value of each slot, currency; -inf = not eligible.
        costs: `(k, ..., m)` use of each budget, finite.
        prices: `(k,)`, `(k + n_offers,)` or `(k + n_offers + n_segments,)` float64 prices of an
            `Allocation`, >= 0, in this order.
        offer_idx: `(..., m)` offer of each slot; None: the slot's index.
        capacity_use: `(..., m)` use of the offer's own row; None: 1.
        segment_idx: `(...)` segment of each user, -1 = in none; None: all in none.
        n_segments: how many of the last prices are those of floors.
        max_offers: offers that a user may get at most, q.

    Returns:
        `(...)` int32 slot, -1 = no offer; an array without dimensions for one user. With
        `max_offers` > 1 `(..., q)`: slots by falling score, then -1.

    Raises:
        DataError: shapes that do not fit each other.
    """
    shape, k = values.shape, len(costs)
    n_rows = len(prices) - n_segments  # budgets and offers
    if (
        costs.shape[1:] != shape
        or n_rows < k
        or (segment_idx is not None and not n_segments)
        or (n_rows != k and offer_idx is None and n_rows - k != shape[-1])
        or (offer_idx is not None and offer_idx.shape != shape)
        or (capacity_use is not None and capacity_use.shape != shape)
    ):
        raise _misfit(values, costs, len(prices), offer_idx, capacity_use, segment_idx, n_segments)
    if len(shape) == 1:
        bonus = 0.0 if segment_idx is None or segment_idx < 0 else prices[n_rows:][segment_idx]
        score = _scores(values, costs, prices[:n_rows], offer_idx, capacity_use)
        if max_offers == 1 and shape[0]:  # by far the most frequent: a third of the time of _top
            slot = score.argmax()
            return np.array(slot if score[slot] + bonus > 0 else -1, dtype=np.int32)
        return _top(score, bonus, max_offers)
    bonuses = None
    if segment_idx is not None:
        bonuses = np.where(segment_idx < 0, 0.0, prices[n_rows:][segment_idx])
    return _choose_many(
        values, costs, prices[:n_rows], offer_idx, capacity_use, bonuses, max_offers
    )


def _scores(
    values: NDArray[np.floating],
    costs: NDArray[np.floating],
    prices: NDArray[np.float64],
    offer_idx: NDArray[np.integer] | None,
    capacity_use: NDArray[np.floating] | None,
) -> NDArray[np.float64]:
    """Value less priced use, `(..., m)` float64, a new array.

    Products are subtracted row by row: the rounding of a matrix product would depend on the size
    of the batch.
    """
    k = len(costs)
    score = values.astype(np.float64)
    if k:
        for priced in prices[:k].reshape(k, *_ONES[: values.ndim]) * costs:
            score -= priced
    if len(prices) > k:
        use = prices[k:] if offer_idx is None else prices[k:].take(offer_idx)
        score -= use if capacity_use is None else use * capacity_use
    return score


def _choose_many(
    values: NDArray[np.floating],
    costs: NDArray[np.floating],
    prices: NDArray[np.float64],
    offer_idx: NDArray[np.integer] | None,
    capacity_use: NDArray[np.floating] | None,
    bonuses: NDArray[np.float64] | None,
    max_offers: int,
) -> Slots:
    """`choose` for a batch, some users at a time so that scores stay in the cache."""
    shape = values.shape[:-1] if max_offers == 1 else (*values.shape[:-1], max_offers)
    chosen = np.empty(shape, dtype=np.int32)
    n = len(values)
    step = max(1, _CHUNK_PAIRS * n // max(1, values.size))
    for a in range(0, n, step):
        own = slice(a, a + step)
        score = _scores(
            values[own],
            costs[:, own],
            prices,
            None if offer_idx is None else offer_idx[own],
            None if capacity_use is None else capacity_use[own],
        )
        chosen[own] = _top(score, 0.0 if bonuses is None else bonuses[own], max_offers)
    return chosen


def _top(score: NDArray[np.float64], bonus: NDArray[np.float64] | float, max_offers: int) -> Slots:
    """Best slots `(...)` or `(..., max_offers)` of scores `(..., m)`.

    The first slot earns the bonus, all others must be positive by themselves.
    """
    if max_offers == 1 and score.shape[-1]:
        slot = score.argmax(axis=-1)
        is_good = score.max(axis=-1) + bonus > 0
        return np.where(is_good, slot, -1).astype(np.int32)
    top = np.argsort(-score, axis=-1, kind="stable")[..., :max_offers]
    gain = np.take_along_axis(score, top, axis=-1)
    gain[..., :1] += np.asarray(bonus)[..., None]
    found = np.full((*score.shape[:-1], max_offers), -1, dtype=np.int32)
    found[..., : top.shape[-1]] = np.where(gain > 0, top, -1)
    return found if max_offers > 1 else found[..., 0]


def _misfit(
    values: NDArray[np.floating],
    costs: NDArray[np.floating],
    n_prices: int,
    offer_idx: NDArray[np.integer] | None,
    capacity_use: NDArray[np.floating] | None,
    segment_idx: NDArray[np.integer] | np.integer | int | None,
    n_segments: int,
) -> DataError:
    """What does not fit, found after the fact."""
    shape, k = values.shape, len(costs)
    if costs.shape[1:] != shape:
        return DataError(f"must be (k, *{shape}); got {costs.shape}", where="costs")
    for where, array in (("offer_idx", offer_idx), ("capacity_use", capacity_use)):
        if array is not None and array.shape != shape:
            return DataError(f"must be {shape} as values; got {array.shape}", where=where)
    if segment_idx is not None and not n_segments:
        return DataError("must be > 0 with segment_idx; got 0", where="n_segments")
    rule = f"must be those of {k} budgets, of the offers or not ({shape[-1]} without offer_idx)"
    return DataError(f"{rule} and of {n_segments} segments; got {n_prices}", where="prices")
