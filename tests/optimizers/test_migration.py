from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from promo_ray.execution.islands_keeper import Migrants
from promo_ray.optimizers import GeneticAlgorithm, Ranked, SearchSpace
from promo_ray.optimizers.migration import emigrants_of, immigrated
from promo_ray.optimizers.population import Clock

BOX = SearchSpace.box([0.0] * 2, [10.0] * 2)
WIDTH = torch.full((2,), 10.0)
METHOD = GeneticAlgorithm(pop_size=8)


def fitness_of(x: Tensor) -> Tensor:
    return -x.sum(-1)


def state_of(n_islands: int) -> Any:
    state, x = METHOD.ask(METHOD.init(BOX, 3, batch=(n_islands,)))
    return METHOD.tell(state, fitness_of(x))


def newcomers(*rows: list[float]) -> Migrants:
    x = torch.tensor([list(rows)])
    return Migrants(x, fitness_of(x), torch.zeros(x.shape[:2]))


def rows_of(ranked: Ranked) -> set[tuple[float, ...]]:
    return {tuple(row) for row in ranked.x[0].tolist()}


@pytest.mark.parametrize("policy", ["best", "diverse", "random", "tournament"])
def test_emigrants_are_copies_of_individuals(policy: str) -> None:
    ranked = METHOD.ranked(state_of(2))
    left = emigrants_of(ranked, 3, policy, Clock(0, (0, 1)), WIDTH)
    assert left.x.shape == (2, 3, 2)
    for island in range(2):
        for x, fitness in zip(left.x[island], left.fitness[island], strict=True):
            assert (ranked.x[island] == x).all(-1).any()
            assert fitness == fitness_of(x)


def test_diverse_emigrants_are_the_best_and_those_far_from_it() -> None:
    x = torch.tensor([[[1.0, 1.0], [1.1, 1.0], [9.0, 9.0], [1.0, 9.0], [1.2, 1.0], [2.0, 2.0],
                       [0.0, 10.0], [10.0, 0.0]]])  # fmt: skip
    ranked = Ranked(x, torch.arange(8.0, 0.0, -1.0)[None], torch.zeros(1, 8))
    left = emigrants_of(ranked, 3, "diverse", Clock(0, (0,)), WIDTH)
    assert left.x[0].tolist() == [[1.0, 1.0], [9.0, 9.0], [1.0, 9.0]]


@pytest.mark.parametrize("policy", ["worst_if_better", "worst", "random", "nearest"])
def test_newcomers_enter_once_and_the_best_stays(policy: str) -> None:
    state = state_of(1)
    before = METHOD.ranked(state)
    known, better, worse = before.x[0, 2].tolist(), [0.0, 0.0], [10.0, 10.0]
    came = newcomers(worse, known, better, better)
    after, fates = immigrated(METHOD, state, came, policy, WIDTH)
    takes_worse = policy in ("worst", "random")
    assert fates.tolist() == [[int(takes_worse), 0, 2, 0]]
    left = METHOD.ranked(after)
    assert left.x[0, 0].tolist() == better
    assert tuple(before.x[0, 0].tolist()) in rows_of(left)
    assert len(rows_of(before) - rows_of(left)) == 1 + takes_worse


def test_the_nearest_makes_room() -> None:
    state = state_of(1)
    ranked = METHOD.ranked(state)
    near = ranked.x[0, 3] - 1e-3
    after, fates = immigrated(METHOD, state, newcomers(near.tolist()), "nearest", WIDTH)
    assert fates.tolist() == [[1]]
    gone = rows_of(ranked) - rows_of(METHOD.ranked(after))
    assert gone == {tuple(ranked.x[0, 3].tolist())}


def test_holes_and_worthless_newcomers_change_nothing() -> None:
    state = state_of(1)
    came = newcomers([0.0, 0.0])._replace(fitness=torch.tensor([[-torch.inf]]))
    after, fates = immigrated(METHOD, state, came, "worst", WIDTH)
    assert fates.tolist() == [[0]]
    assert all(
        torch.equal(a, b) for a, b in zip(METHOD.ranked(after), METHOD.ranked(state), strict=True)
    )


def test_no_more_than_half_of_an_island_is_replaced() -> None:
    came = newcomers(*[[0.01 * k, 0.0] for k in range(7)])
    _, fates = immigrated(METHOD, state_of(1), came, "worst", WIDTH)
    assert fates.tolist() == [[2, 2, 2, 2, 0, 0, 0]]
