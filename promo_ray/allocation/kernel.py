"""One pass over a block of users at given prices: bound, use, curvature, near-tied users.

Letters: n users, m slots, K budgets, O offer rows, R = K + O rows, lam `(R,)` prices, s `(n, m)`
scores = value - lam . use. All sums are float64, block by block in a fixed order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.allocation.problem import Block, Rows
from promo_ray.seeding import uniforms

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CHUNK_PAIRS = 1 << 15  # pairs at once: 256 KiB of float64 stays in the cache
_WINDOW = 40.0  # exp(-40) = 4e-18: slots further below the best than this have no weight
_GOLDEN = 0.6180339887498949

# Slots of exactly equal score are told apart by up to this share of their value, drawn by user
# key and slot: a tie is split evenly instead of flipping as one. Costs at most this share.
TIE_RATE = 2.0**-20


class Chunk(NamedTuple):
    """Scores of some users of a block.

    Attributes:
        own: which users.
        true: `(c, m)` float64 scores.
        told: `(c, m)` float64 scores with ties told apart.
    """

    own: slice
    true: Floats
    told: Floats


def oversize(block: Block, rows: Rows, own: slice) -> NDArray[np.bool_]:
    """`(c, m)` whether a pair alone uses more of a row than `rows.most` allows."""
    is_over = np.zeros(block.value[own].shape, dtype=bool)
    if rows.most is None:
        return is_over
    most = np.array(rows.most)
    for k in range(rows.n_budgets):
        is_over |= block.costs[k, own] > most[k]
    if rows.n_offers:
        offers = most[rows.n_budgets :]
        limit = offers if block.offer_idx is None else offers[block.offer_idx[own]]
        is_over |= (1.0 if block.capacity_use is None else block.capacity_use[own]) > limit
    return is_over


def _scores(block: Block, rows: Rows, lam: Floats, own: slice) -> Floats:
    s = block.value[own].astype(np.float64)
    if rows.most is not None:
        s[oversize(block, rows, own)] = -np.inf
    for k in range(rows.n_budgets):
        if lam[k] > 0:
            s -= np.multiply(block.costs[k, own], lam[k], dtype=np.float64)
    mu = lam[rows.n_budgets :]
    if mu.any():
        price = mu if block.offer_idx is None else mu[block.offer_idx[own]]
        s -= price if block.capacity_use is None else price * block.capacity_use[own]
    return s


def chunks(block: Block, rows: Rows, lam: Floats, seed: int) -> Iterator[Chunk]:
    """Scores of all users of a block, some at a time."""
    n, m = block.value.shape
    step = max(1, _CHUNK_PAIRS // m)
    turn = np.arange(m) * _GOLDEN
    for a in range(0, n, step):
        own = slice(a, min(n, a + step))
        true = _scores(block, rows, lam, own)
        told = true
        if lam.any():
            draw = uniforms(seed, "allocation.tie", block.keys[own])
            share = TIE_RATE * (1.0 - (draw + turn) % 1.0)
            told = true + share * block.value[own]
        yield Chunk(own, true, told)


class Pass(NamedTuple):
    """Sums of a smoothed pass; entropy smoothing of temperature tau.

    Attributes:
        n_undecided: users with more than one slot (or none) within reach of tau.
        exact: sum of max(0, max_j s), without smoothing.
        smooth: sum of tau * log(1 + sum_j exp(s / tau)).
        value: value of the smoothed (fractional) choice.
        use: `(R,)` use of each row by the smoothed choice = -gradient of `smooth`.
        curvature: `(R, R)` Hessian of `smooth`.
    """

    n_undecided: int
    exact: float
    smooth: float
    value: float
    use: Floats
    curvature: Floats

    def plus(self, other: Pass) -> Pass:
        """Sums of both."""
        return Pass(
            self.n_undecided + other.n_undecided,
            self.exact + other.exact,
            self.smooth + other.smooth,
            self.value + other.value,
            self.use + other.use,
            self.curvature + other.curvature,
        )


def merge_passes(a: Pass, b: Pass) -> Pass:
    """Sums of two sets of blocks."""
    return a.plus(b)


def smooth_pass(
    block: Block, rows: Rows, lam: Floats, tau: float, seed: int, weight: Floats | None = None
) -> Pass:
    """Value, use and curvature of the entropy-smoothed dual at prices lam.

    The Hessian is (1 / tau) sum_i [sum_j x_ij a_ij a_ij' - u_i u_i'] with u_i = sum_j x_ij a_ij,
    the covariance of use under the softmax x of s / tau (Nesterov 2005, smoothing of max).

    Args:
        block: users.
        rows: shape of the rows.
        lam: `(R,)` prices >= 0.
        tau: temperature > 0, currency.
        seed: seed of the ties.
        weight: `(n,)` weight of each user in all sums; None: 1.
    """
    found = Pass(0, 0.0, 0.0, 0.0, np.zeros(rows.n), np.zeros((rows.n, rows.n)))
    for chunk in chunks(block, rows, lam, seed):
        w = None if weight is None else weight[chunk.own]
        part = _smooth_chunk(block, rows, chunk, tau, w)
        found = found.plus(part)
    return found


def _smooth_chunk(
    block: Block, rows: Rows, chunk: Chunk, tau: float, weight: Floats | None
) -> Pass:
    told = chunk.told
    top = np.maximum(told.max(axis=1), 0.0)
    n_near = (told > (top - _WINDOW * tau)[:, None]).sum(axis=1) + (top < _WINDOW * tau)
    is_open = n_near > 1
    true_top = np.maximum(chunk.true.max(axis=1), 0.0)
    decided = np.flatnonzero(~is_open & (top > 0))
    slot = told[decided].argmax(axis=1)
    w = np.ones(len(told)) if weight is None else weight
    exact = float(w @ true_top)
    smooth = float(w[decided] @ top[decided])
    at = decided + chunk.own.start
    value = float(w[decided] @ block.value[at, slot].astype(np.float64))
    use = use_of(block, rows, at, slot, w[decided])
    users = np.flatnonzero(is_open)
    if not len(users):
        return Pass(0, exact, smooth, value, use, np.zeros((rows.n, rows.n)))
    x = np.exp((told[users] - top[users, None]) / tau)
    rest = np.exp(-top[users] / tau)
    z = rest + x.sum(axis=1)
    x /= z[:, None]
    smooth += float(w[users] @ (top[users] + tau * np.log(z)))
    at = users + chunk.own.start
    eligible_value = np.where(x > 0, block.value[at], 0.0)
    value += float(w[users] @ (x * eligible_value).sum(axis=1))
    open_use, curvature = _open_use(block, rows, at, x, w[users])
    return Pass(len(users), exact, smooth, value, use + open_use, curvature / tau)


def use_of(block: Block, rows: Rows, at: Ints, slot: Ints, weight: Floats) -> Floats:
    """Use `(R,)` of one slot of each of some users."""
    use = np.zeros(rows.n)
    for k in range(rows.n_budgets):
        use[k] = weight @ block.costs[k, at, slot].astype(np.float64)
    if rows.n_offers:
        amount = weight if block.capacity_use is None else weight * block.capacity_use[at, slot]
        offer = slot if block.offer_idx is None else block.offer_idx[at, slot]
        use[rows.n_budgets :] = np.bincount(offer, weights=amount, minlength=rows.n_offers)
    return use


def _open_use(
    block: Block, rows: Rows, at: Ints, x: Floats, weight: Floats
) -> tuple[Floats, Floats]:
    """Use `(R,)` and covariance of use `(R, R)`, summed over users `at` with shares x `(c, m)`."""
    k, (c, m) = rows.n_budgets, x.shape
    cost = block.costs[:, at].astype(np.float64)
    own = np.empty((rows.n, c))  # u_i
    np.einsum("kcm,cm->kc", cost, x, out=own[:k])
    heavy = x * weight[:, None]
    second = np.zeros((rows.n, rows.n))
    flat = cost.reshape(k, c * m)
    second[:k, :k] = (flat * heavy.ravel()) @ flat.T
    if rows.n_offers:
        amount = np.ones_like(x) if block.capacity_use is None else block.capacity_use[at]
        offer = (
            np.broadcast_to(np.arange(m), (c, m))
            if block.offer_idx is None
            else (block.offer_idx[at])
        )
        taken = heavy * amount
        where = (np.arange(c)[:, None] * rows.n_offers + offer).ravel()
        spread = np.bincount(where, (x * amount).ravel(), c * rows.n_offers)
        own[k:] = spread.reshape(c, rows.n_offers).T
        diagonal = np.bincount(offer.ravel(), (taken * amount).ravel(), rows.n_offers)
        second[k:, k:] = np.diag(diagonal)
        for row in range(k):
            cross = np.bincount(offer.ravel(), (taken * cost[row]).ravel(), rows.n_offers)
            second[row, k:] = second[k:, row] = cross
    return own @ weight, second - (own * weight) @ own.T
