"""Choosing offers for many users at once: filter first, sample second, pay last."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Greedy(NamedTuple):
    """What the policy wants before exploration.

    Attributes:
        slot: `(n,)` int64, -1 = no offer.
        is_planned: `(n,)` bool, the slot is the one that the allocation gave.
    """

    slot: Ints
    is_planned: Flags


class Sampled(NamedTuple):
    """What is done.

    Attributes:
        slot: `(n,)` int64, -1 = no offer.
        propensity: `(n,)` float64 probability of that action.
        is_explored: `(n,)` bool, drawn at random.
    """

    slot: Ints
    propensity: Floats
    is_explored: Flags


def greedy_slots(
    value: Floats,
    cost: Floats,
    prices: Floats,
    choice: NDArray[np.integer],
    eligible: Flags,
    *,
    is_plan_binding: bool,
) -> Greedy:
    """Planned offer if it is still possible, else the best one at the plan's prices, if it gains.

    The score of an offer is its value less its use of the budgets at their prices, the reduced
    value of linear programming; it is chosen if it is > 0. Ties go to the first offer.

    Args:
        value: `(n, m)` currency units.
        cost: `(n, k, m)` currency units.
        prices: `(k,)` currency units per unit of budget.
        choice: `(n,)` planned slot, -1 = no offer.
        eligible: `(n, m)` bool.
        is_plan_binding: users without a planned offer get none.
    """
    n = len(value)
    planned = choice.astype(np.int64)
    if not value.shape[1]:
        return Greedy(np.full(n, -1), np.zeros(n, dtype=np.bool_))
    score = value.astype(np.float64) - np.einsum("k,nkm->nm", prices, cost, dtype=np.float64)
    score = np.where(eligible, score, -np.inf)
    users = np.arange(n)
    best = score.argmax(axis=1)
    is_planned = (planned >= 0) & eligible[users, np.maximum(planned, 0)]
    may_take_best = (score[users, best] > 0) & ((planned >= 0) | (not is_plan_binding))
    return Greedy(np.where(is_planned, planned, np.where(may_take_best, best, -1)), is_planned)


def sample(greedy: Ints, eligible: Flags, uniform: Floats, epsilon: float) -> Sampled:
    """Epsilon-greedy over the eligible offers and no offer, with exact propensities.

    An action `a` of the `A` possible ones has probability `(1 - epsilon) [a = greedy] +
    epsilon / A`; these sum to 1. One number in (0, 1] per row decides, so a log can be replayed.

    Args:
        greedy: `(n,)` slot, -1 = no offer.
        eligible: `(n, m)` bool.
        uniform: `(n,)` number per row; 1 never explores.
        epsilon: share of random draws, [0, 1].
    """
    n_actions = eligible.sum(axis=1) + 1
    is_explored = uniform < epsilon
    share = np.where(is_explored, uniform / epsilon, 0.0) if epsilon else np.zeros(len(greedy))
    # action 0 is no offer, action a the a-th eligible slot
    action = np.minimum((share * n_actions).astype(np.int64), n_actions - 1)
    rank = np.where(eligible, np.cumsum(eligible, axis=1), 0)
    drawn = np.full(len(greedy), -1)
    rows, slots = np.nonzero(rank == np.where(action > 0, action, -1)[:, None])
    drawn[rows] = slots
    slot = np.where(is_explored, drawn, greedy)
    propensity = (1 - epsilon) * (slot == greedy) + epsilon / n_actions
    return Sampled(slot, propensity, is_explored)
