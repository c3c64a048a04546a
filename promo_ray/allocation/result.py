"""What an allocation returns: the answer and its certificate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.allocation.kernel import Where, best_slots
from promo_ray.allocation.problem import Block


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Prices and quality of an allocation.

    Attributes:
        prices: `(k + n_offers + n_segments,)` float64 >= 0, value of one more unit of each budget
            and capacity, cost of one more served user for each floor.
        value: total value of the choice, currency.
        bound: no allocation, fractional ones included, is worth more (dual value at `prices`).
        gap: (bound - value) / |bound|, a rate; 0 if the bound is 0.
        slack: `(k + n_offers + n_segments,)` float64 >= 0, what is left of each row; of a floor
            the served users beyond it.
        n_passes: passes over all users for prices, bound and the last users; writing the choice
            takes one more.
        n_split_users: users whom the linear program would have given parts of offers.
        converged: the bound is within `tolerance` of the best fractional allocation.
    """

    prices: NDArray[np.float64]
    value: float
    bound: float
    gap: float
    slack: NDArray[np.float64]
    n_passes: int
    n_split_users: int
    converged: bool


@dataclass(frozen=True, kw_only=True)
class Allocation(Certificate):
    """Who gets what, with a certificate.

    Attributes:
        choice: `(n,)` int32 slot of each user, -1 = no offer; `(n, max_offers)` if a user may get
            several: the slots, then -1.
    """

    choice: NDArray[np.int32]


class BlockDecision(NamedTuple):
    """All that decides one block: prices, and the slots of its gathered users.

    Attributes:
        prices: `(R,)` prices that decide the others.
        where: rows, seed and size of ties.
        user: `(t,)` int64 index in the block.
        slots: `(t, q)` int32, -1 = no offer.
    """

    prices: NDArray[np.float64]
    where: Where
    user: NDArray[np.int64]
    slots: NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class ResidentAllocation(Certificate):
    """Certificate, and per block what `choose_block` needs.

    Attributes:
        decisions: one per block; `resident.map(choose_block, each=decisions)` gives the slots.
    """

    decisions: tuple[BlockDecision, ...]


def choose_block(block: Block, decision: BlockDecision) -> NDArray[np.int32]:
    """`(n,)` int32 slot of each user of a block, -1 = no offer; `(n, q)` if q > 1."""
    choice = best_slots(block, decision.where, decision.prices)
    choice[decision.user] = decision.slots
    return choice[:, 0] if choice.shape[1] == 1 else choice
