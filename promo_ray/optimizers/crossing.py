"""Runs of differential evolution inside the default method, for spaces with whole numbers.

Each individual of such a population holds whole numbers of its own and gives way to better ones
alone, so they settle later than in a single distribution.
"""

from __future__ import annotations

import torch
from torch import Tensor

from promo_ray.optimizers.covariance import individuals, mirrored
from promo_ray.optimizers.draws import Draws
from promo_ray.optimizers.sweep import Control, MemeticState

_LOW, _HIGH = 0.3, 1.0  # weights of differences, one per trial
_RATE = 0.9  # share of genes taken from the mutant


def part_of(state: MemeticState, control: Control) -> slice:
    """Rows of the pool that are tried next."""
    n = state.x.shape[0]
    at = int(control.pooled) * n
    return slice(at, at + n)


def trials(state: MemeticState, control: Control, draws: Draws, lead: int) -> Tensor:
    """Trials for the next part of the population, `(pop, genes)`; at first random points.

    best/1/bin (Storn and Price 1997) with a random weight per trial. A gene without order takes
    the value of the first partner where its partners differ, else that of the leader.

    Args:
        state: its pool holds the population.
        control: which part is next.
        draws: random numbers.
        lead: row of the best of the population.
    """
    n, d = state.x.shape
    if control.updates == 0:
        return draws.uniform(n, d)
    size = n * int(control.size)
    rows = part_of(state, control)
    place = torch.arange(rows.start, rows.stop, device=state.x.device)
    a = 1 + draws.below(size - 1, n)
    b = 1 + draws.below(size - 2, n)
    b = b + (b >= a)
    first, second = (state.pool_x[(place + offset) % size] for offset in (a, b))
    weight = _LOW + (_HIGH - _LOW) * draws.uniform(n, 1)
    best, old = state.pool_x[lead], state.pool_x[rows]
    mutant = best + weight * (first - second)
    table = state.space.table(state.x.device, state.x.dtype)
    differs = individuals(state.space, first) != individuals(state.space, second)
    mutant = torch.where(table.is_unordered, torch.where(differs, first, best), mutant)
    forced = draws.below(d, n, 1) == torch.arange(d, device=state.x.device)
    takes = (draws.unit(n, d) < _RATE) | forced
    return torch.where(takes, mirrored(mutant), old)
