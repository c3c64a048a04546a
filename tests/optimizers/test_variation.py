from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from promo_ray.optimizers import Choice, GeneticAlgorithm, SearchSpace, Subset, optimize
from promo_ray.optimizers.draws import Draws, keys
from promo_ray.optimizers.variation import (
    cross_sets,
    crossed,
    grid_step,
    linear_rank,
    polynomial_step,
    reordered,
    roulette,
    sbx,
    tournament,
)


def draws(seed: int = 0) -> Draws:
    return Draws(keys(seed, "test", (0,), 0), (), torch.empty(0, dtype=torch.float64))


def shares(rows: Tensor, n: int) -> np.ndarray:
    return np.bincount(rows.numpy().ravel(), minlength=n) / rows.numel()


def test_a_tournament_favors_the_first_rows_as_its_formula_says() -> None:
    n, rounds = 10, 3
    found = shares(tournament(draws(), n, 200_000, rounds), n)
    rank = np.arange(n)
    expected = ((n - rank) / n) ** rounds - ((n - rank - 1) / n) ** rounds
    np.testing.assert_allclose(found, expected, atol=0.004)


@pytest.mark.parametrize("pressure", [1.0, 1.5, 2.0])
def test_linear_ranking_gives_the_best_its_pressure(pressure: float) -> None:
    n = 20
    found = shares(linear_rank(draws(), n, 400_000, pressure), n) * n
    rank = (np.arange(n) + 0.5) / n
    np.testing.assert_allclose(found, pressure - 2 * (pressure - 1) * rank, atol=0.05)


def test_roulette_is_in_proportion_to_fitness_above_the_worst_feasible() -> None:
    fitness = torch.tensor([4.0, 3.0, 2.0, 1.0, -torch.inf, 9.0], dtype=torch.float64)
    violation = torch.tensor([0.0, 0, 0, 0, 0, 1.0], dtype=torch.float64)
    found = shares(roulette(draws(), fitness, violation, 100_000), 6)
    np.testing.assert_allclose(found, [1 / 2, 1 / 3, 1 / 6, 0, 0, 0], atol=0.01)
    alike = shares(roulette(draws(), fitness * 0 + 1, violation, 100_000), 6)
    assert alike.min() > 0.1


def test_sbx_keeps_the_middle_of_parents_and_spreads_as_its_density_says() -> None:
    a, b = torch.zeros(1, 400_000, dtype=torch.float64), torch.ones(1, 400_000).double()
    words = draws().words(1, 400_000)
    c, d = sbx(a, b, words, torch.ones(1, 1, dtype=torch.bool), 3)
    torch.testing.assert_close(c + d, a + b)
    spread = (c - d).abs()[0]
    blended = spread[(spread != 1)]
    assert len(blended) / 400_000 == pytest.approx(0.5, abs=0.005)
    # half of the factors contract; the distribution of a contraction is u ** (1 / (eta + 1))
    inner = blended[blended < 1].numpy()
    assert len(inner) / len(blended) == pytest.approx(0.5, abs=0.005)
    assert np.mean(inner < 0.5) == pytest.approx(0.5**4, abs=0.004)
    assert torch.equal(sbx(a, b, words, torch.zeros(1, 1, dtype=torch.bool), 3)[0], a)


@pytest.mark.parametrize("kind", ["single_point", "multi_point", "uniform", "slot"])
def test_children_of_exchanges_hold_the_genes_of_both_parents(kind: str) -> None:
    n, d = 2000, 12
    space = SearchSpace.box([0.0] * d, [1.0] * d, slot_size=3)
    a, b = torch.zeros(n, d, dtype=torch.float64), torch.ones(n, d, dtype=torch.float64)
    both = crossed(draws(), space, a, b, kind=kind, rate=1.0, eta=15, n_points=2)
    assert torch.equal(both[:n] + both[n:], a + b)
    changes = (both[:n].diff(dim=-1) != 0).sum(-1)
    assert int(changes.max()) <= {"single_point": 1, "multi_point": 2}.get(kind, d)
    if kind == "slot":
        slots = both[:n].reshape(n, 4, 3)
        assert torch.equal(slots.amin(-1), slots.amax(-1))
    elif kind == "uniform":
        assert float(both[:n].mean()) == pytest.approx(0.5, abs=0.02)
    else:
        assert float((changes > 0).double().mean()) > 0.8


def test_sets_keep_common_items_and_draw_the_rest_from_both() -> None:
    a = torch.tensor([[0.0, 2, 5, 7]]).expand(4000, 4).double()
    b = torch.tensor([[2.0, 3, 7, 9]]).expand(4000, 4).double()
    child = cross_sets(draws(), a, b)
    assert torch.equal(child, child.sort(dim=-1).values)
    assert bool((child.diff(dim=-1) > 0).all())
    counts = np.bincount(child.long().numpy().ravel(), minlength=10) / 4000
    np.testing.assert_allclose(counts[[2, 7]], 1)
    np.testing.assert_allclose(counts[[0, 3, 5, 9]], 0.5, atol=0.05)


@pytest.mark.parametrize("rate", [0.01, 0.3, 1.0])
def test_polynomial_mutation_changes_its_share_of_genes_both_ways(rate: float) -> None:
    step = polynomial_step(draws().words(1000, 400), rate, 15, torch.float64)
    changed = step[step != 0]
    assert len(changed) / step.numel() == pytest.approx(rate, rel=0.05)
    assert float((changed > 0).double().mean()) == pytest.approx(0.5, abs=0.03)
    assert float(step.abs().max()) < 1
    # P(|step| < s) = 1 - (1 - s) ** (eta + 1)
    share = float((changed.abs() < 0.05).double().mean())
    assert share == pytest.approx(1 - 0.95**16, abs=0.03)


def test_grid_steps_are_whole_and_geometric() -> None:
    space = SearchSpace.box([0.0], [1.0])
    x = torch.full((100_000, 1), 0.5, dtype=torch.float64)
    table = space.table(torch.device("cpu"), torch.float64)
    steps = (grid_step(x, draws().words(100_000, 1), 0.5, table, 10) - x) * 10
    moved = steps[steps.abs() > 1e-9]
    assert len(moved) / 100_000 == pytest.approx(0.5, abs=0.01)
    torch.testing.assert_close(moved, moved.round())
    assert float(moved.abs().mean()) == pytest.approx(2, abs=0.05)
    assert float(moved.mean()) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("kind", ["swap", "insert", "inversion"])
def test_sequence_moves_give_permutations(kind: str) -> None:
    x = torch.arange(8, dtype=torch.float64).expand(500, 8)
    found = reordered(draws(), kind, x, 1.0)
    assert torch.equal(found.sort(dim=-1).values, x)
    differ = (found != x).sum(-1)
    assert int(differ.max()) > 1
    if kind == "swap":
        assert set(differ.tolist()) <= {0, 2}
    if kind == "insert":
        # all but one gene keep their order
        longest = [max(_kept(row)) for row in found[:100].tolist()]
        assert min(longest) >= 7
    assert torch.equal(reordered(draws(), kind, x, 0.0), x)


def _kept(row: list[float]) -> list[int]:
    """Lengths of increasing subsequences that end at each place."""
    best: list[int] = []
    for i, v in enumerate(row):
        best.append(1 + max((best[j] for j in range(i) if row[j] < v), default=0))
    return best


@pytest.mark.parametrize(
    "options",
    [
        {"selection": "roulette"},
        {"selection": "rank", "n_elites": 1},
        {"crossover": "single_point"},
        {"crossover": "multi_point", "mutation": "grid_step"},
        {"crossover": "uniform"},
        {"crossover": "slot"},
    ],
    ids=str,
)
def test_every_choice_of_operators_approaches_the_optimum(options: dict[str, Any]) -> None:
    space = SearchSpace.box([-5.0] * 6, [5.0] * 6, slot_size=2)
    method = GeneticAlgorithm(**options)
    found = optimize(lambda x: -(x - 1).square().sum(-1), space, method, 10_000, device="cpu")
    assert found.best_fitness > -0.5


@pytest.mark.parametrize("mutation", ["swap", "insert", "inversion"])
def test_random_keys_sort_a_sequence_by_sequence_moves(mutation: str) -> None:
    goal = torch.tensor([3, 1, 4, 0, 5, 2])

    def fitness(keys: Tensor) -> Tensor:
        return (keys.argsort(dim=-1) == goal).sum(-1).float()

    space = SearchSpace.box([0.0] * 6, [1.0] * 6)
    method = GeneticAlgorithm(mutation=mutation, crossover="single_point")
    assert optimize(fitness, space, method, 10_000, seed=1, device="cpu").best_fitness == 6


def test_a_knapsack_of_sets_and_choices_is_solved() -> None:
    worth = torch.tensor([3.0, 1, 8, 2, 9, 4, 7, 5, 6, 0])
    space = SearchSpace((Subset(tuple("abcdefghij"), 3), Choice(("low", "high"))))

    def fitness(x: Tensor) -> Tensor:
        return worth[x[..., :3].long()].sum(-1) * (1 + x[..., 3])

    found = optimize(fitness, space, GeneticAlgorithm(pop_size=20), 2_000, device="cpu")
    assert space.decode(found.best_x) == (("c", "e", "g"), "high")
