from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from promo_ray.optimizers import Choice, Integer, Memetic, Real, SearchSpace, optimize
from promo_ray.optimizers.covariance import individuals
from promo_ray.optimizers.crossing import part_of, trials
from promo_ray.optimizers.draws import Draws, keys
from promo_ray.optimizers.sweep import Control, MemeticState

REAL = SearchSpace.box([0.0] * 3, [1.0] * 3)
MIXED = SearchSpace((Integer(0, 6), Choice(tuple("abcd")), Choice(tuple("xyz")), Real(-1.0, 2.0)))
CONTROL = Control(size=2, pooled=1, updates=1)
LEAD = 3


def draws(generation: int = 0) -> Draws:
    key = keys(0, "test", (0,), generation)
    return Draws(key, (), torch.empty(0, dtype=torch.float64))


def populated(space: SearchSpace) -> MemeticState:
    """A state whose pool is a random population of two parts."""
    state = Memetic(pop_size=6).init(space, 0, "cpu", torch.float64)
    pool = state.pool_x.clone()
    pool[:12] = 0.3 + 0.2 * draws(99).uniform(12, space.n_genes)  # differences stay in the box
    if space is MIXED:
        pool[:12] = draws(99).uniform(12, space.n_genes)
    return state._replace(pool_x=pool)


def made_of(taken: Tensor, change: Tensor, pool: Tensor, row: int) -> bool:
    """Whether genes `taken` are those of the leader and one weight times one difference."""
    for a in range(len(pool)):
        for b in range(len(pool)):
            if row in (a, b) or a == b:
                continue
            weights = (change / (pool[a] - pool[b]))[taken]
            is_one = float(weights.max() - weights.min()) < 1e-6
            if is_one and 0.3 <= float(weights[0]) <= 1.0:
                return True
    return False


def test_trials_are_leader_plus_a_weighted_difference_of_two_others() -> None:
    state = populated(REAL)
    pool, n_taken = state.pool_x[:12], 0
    for generation in range(20):
        found = trials(state, CONTROL, draws(generation), LEAD)
        for i in range(6):
            taken = found[i] != pool[6 + i]
            assert taken.any()
            assert made_of(taken, found[i] - pool[LEAD], pool, 6 + i)
            n_taken += int(taken.sum())
    expected = 1 / 3 + 2 / 3 * 0.9  # one gene for sure, the others at their rate
    assert n_taken / (20 * 6 * 3) == pytest.approx(expected, abs=0.05)


def test_choices_come_from_a_partner_or_the_leader_or_stay() -> None:
    state = populated(MIXED)
    values = individuals(MIXED, state.pool_x[:12])[:, 1:3]
    seen = set()
    for generation in range(30):
        found = trials(state, CONTROL, draws(generation), LEAD)
        x = individuals(MIXED, found)
        assert bool(
            (x >= torch.tensor(MIXED.lower)).all() and (x <= torch.tensor(MIXED.upper)).all()
        )
        shares = state.pool_x[:12, 1:3]
        for i in range(6):
            for gene in range(2):
                # a share of the population unchanged: no arithmetic was done on it
                assert bool((shares[:, gene] == found[i, 1 + gene]).any())
        seen |= {tuple(row) for row in x[:, 1:3].tolist()}
    assert len(seen) > len({tuple(row) for row in values.tolist()})  # recombined


def test_trials_depend_on_nothing_but_their_random_numbers() -> None:
    state = populated(MIXED)
    before = state.pool_x.clone()
    one, same, other = (trials(state, CONTROL, draws(g), LEAD) for g in (4, 4, 5))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(state.pool_x, before)


def test_a_population_begins_at_random_points_whatever_the_pool_holds() -> None:
    state = populated(REAL)
    start = CONTROL._replace(updates=0)
    found = trials(state, start, draws(), LEAD)
    empty = state._replace(pool_x=torch.zeros_like(state.pool_x))
    assert torch.equal(found, trials(empty, start, draws(), 0))
    assert bool(((found >= 0) & (found < 1)).all())
    assert part_of(state, start) == slice(6, 12)


def broken(x: Tensor) -> tuple[Tensor, Tensor]:
    """Value that grows where rules break: the sum may not exceed 17, the choice not be the last."""
    value = 3 * x[..., 0] + 2 * x[..., 1] + x[..., 2] + torch.where(x[..., 3] == 2, 4.0, 0.0)
    over = (x[..., :3].sum(-1) - 17).clamp(min=0)
    return value + 10 * (x[..., 3] == 3), over + (x[..., 3] == 3)


def test_rules_hold_in_the_answer_of_crossed_runs() -> None:
    space = SearchSpace((*(Integer(0, 9) for _ in range(3)), Choice(tuple("abcd"))))
    grid = torch.cartesian_prod(*(torch.arange(10.0) for _ in range(3)), torch.arange(4.0))
    value, violation = broken(grid)
    best = float(value[violation == 0].max())
    runs = [
        optimize(broken, space, Memetic(sweeps=False), 4_000, seed=7, device="cpu")
        for _ in range(2)
    ]
    assert runs[0].is_feasible
    assert runs[0].best_fitness == best
    np.testing.assert_array_equal(runs[0].best_x, runs[1].best_x)
    assert runs[0].history == runs[1].history
