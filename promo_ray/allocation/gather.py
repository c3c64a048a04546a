"""Users gathered out of all blocks: those near a tie, and a seeded sample; exact sums on the way.

Each block sends a bounded number of users, merges keep the bound: traffic does not grow with the
number of users.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.allocation.exact import N_PARTS, parts_by_row, parts_of
from promo_ray.allocation.kernel import Floats, Ints, chunks
from promo_ray.allocation.problem import Block, Rows
from promo_ray.seeding import uniforms


class Gather(NamedTuple):
    """Users picked out of all blocks, and exact sums over all users.

    Attributes:
        n_users: users looked at; `position` counts through them in block order.
        exact: sum of max(0, max_j s).
        value_parts: `(256,)` exact value of the best slots (`allocation.exact`).
        use_parts: `(R, 256)` exact use of the best slots.
        users: the users picked.
        position: `(t,)` int64.
        slot: `(t,)` int64 best slot, -1 = none.
        order: `(t,)` float64; the users with the smallest are kept.
    """

    n_users: int
    exact: float
    value_parts: Floats
    use_parts: Floats
    users: Block
    position: Ints
    slot: Ints
    order: Floats


def gather_near_ties(block: Block, rows: Rows, lam: Floats, seed: int, n_keep: int) -> Gather:
    """The `n_keep` users who lose least by another slot than their best, and exact sums."""
    n, m = block.value.shape
    margin, best = np.empty(n), np.empty(n, dtype=np.int64)
    exact = 0.0
    for chunk in chunks(block, rows, lam, seed):
        exact += float(np.maximum(chunk.true.max(axis=1), 0.0).sum())
        with_none = np.concatenate([chunk.told, np.zeros((len(chunk.told), 1))], axis=1)
        two = np.partition(with_none, m - 1, axis=1)[:, m - 1 :]
        margin[chunk.own] = two[:, 1] - two[:, 0]
        best[chunk.own] = _best_slot(chunk.told)
    kept = least(margin, np.arange(n), n_keep)
    value_parts, use_parts = exact_parts(block, rows, best)
    users = take(block, kept)
    return Gather(n, exact, value_parts, use_parts, users, kept, best[kept], margin[kept])


def _best_slot(told: Floats) -> Ints:
    slot = told.argmax(axis=1)
    return np.where(told.max(axis=1) > 0, slot, -1)


def best_slots(block: Block, rows: Rows, lam: Floats, seed: int) -> NDArray[np.int32]:
    """`(n,)` int32 slot of the best positive score of each user, -1 = none."""
    found = [_best_slot(chunk.told) for chunk in chunks(block, rows, lam, seed)]
    return np.concatenate([np.empty(0, dtype=np.int64), *found]).astype(np.int32)


def exact_parts(block: Block, rows: Rows, choice: NDArray[np.integer]) -> tuple[Floats, Floats]:
    """Exact value `(256,)` and use `(R, 256)` of a choice of slots `(n,)`, -1 = none."""
    at = np.flatnonzero(choice >= 0)
    slot = choice[at]
    use = np.zeros((rows.n, N_PARTS))
    for k in range(rows.n_budgets):
        use[k] = parts_of(np.ascontiguousarray(block.costs[k, at, slot]))
    if rows.n_offers:
        amount = None if block.capacity_use is None else block.capacity_use[at, slot]
        offer = slot if block.offer_idx is None else block.offer_idx[at, slot]
        use[rows.n_budgets :] = parts_by_row(offer, rows.n_offers, amount)
    return parts_of(block.value[at, slot]), use


def take(block: Block, at: Ints) -> Block:
    """Copies of some users of a block."""
    return Block(
        block.value[at],
        block.costs[:, at],
        block.keys[at],
        None if block.offer_idx is None else block.offer_idx[at],
        None if block.capacity_use is None else block.capacity_use[at],
    )


def join(a: Block, b: Block) -> Block:
    """Users of two blocks."""
    return Block(
        np.concatenate([a.value, b.value]),
        np.concatenate([a.costs, b.costs], axis=1),
        np.concatenate([a.keys, b.keys]),
        None
        if a.offer_idx is None or b.offer_idx is None
        else np.concatenate([a.offer_idx, b.offer_idx]),
        None
        if a.capacity_use is None or b.capacity_use is None
        else np.concatenate([a.capacity_use, b.capacity_use]),
    )


def least(order: Floats, position: Ints, n_keep: int) -> Ints:
    """Indices of the `n_keep` smallest by (order, position), in order of position."""
    if len(order) > n_keep:
        bar = np.partition(order, n_keep - 1)[n_keep - 1]
        near = np.flatnonzero(order <= bar)
        near = near[np.lexsort((position[near], order[near]))][:n_keep]
        return np.sort(near)
    return np.arange(len(order))


def merge_gathers(n_keep: int, a: Gather, b: Gather) -> Gather:
    """Users picked from two runs of blocks, the second after the first."""
    position = np.concatenate([a.position, b.position + a.n_users])
    order = np.concatenate([a.order, b.order])
    kept = least(order, position, n_keep)
    return Gather(
        a.n_users + b.n_users,
        a.exact + b.exact,
        a.value_parts + b.value_parts,
        a.use_parts + b.use_parts,
        take(join(a.users, b.users), kept),
        position[kept],
        np.concatenate([a.slot, b.slot])[kept],
        order[kept],
    )


class Sample(NamedTuple):
    """Users drawn from all blocks; `weight` is the inverse of the chance to be drawn."""

    users: Block
    weight: Floats


def draw_sample(block: Block, seed: int, n_wanted: float, n_users: int, best: float) -> Sample:
    """Poisson sample, half by head, half by best value: users of heavy tails are in for certain.

    A user is in if its key's uniform number is below its chance; the sum of weighted values
    estimates that of all users without bias (Horvitz and Thompson 1952).

    Args:
        block: users.
        seed: seed of the draw.
        n_wanted: expected size over all blocks.
        n_users: users in all blocks.
        best: sum of best positive values over all blocks, > 0.
    """
    top = np.maximum(block.value.max(axis=1), 0.0).astype(np.float64)
    chance = np.minimum(1.0, 0.5 * n_wanted * (1.0 / n_users + top / best))
    kept = np.flatnonzero(uniforms(seed, "allocation.sample", block.keys)[:, 0] < chance)
    return Sample(take(block, kept), 1.0 / chance[kept])


def merge_samples(a: Sample, b: Sample) -> Sample:
    """Users of both."""
    return Sample(join(a.users, b.users), np.concatenate([a.weight, b.weight]))
