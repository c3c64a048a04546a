from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.design import MenuFitness, MenuSpace, OfferGrid, Sample, design_menu, offer_grid
from promo_ray.design.menu import MenuProblem
from promo_ray.errors import ArtifactError, DataError
from promo_ray.execution import SerialExecutor
from promo_ray.optimizers import GeneticAlgorithm, ParticleSwarm, optimize


def grid_of(n_depths: int, n_thresholds: int) -> OfferGrid:
    base = {**dict.fromkeys(OFFER_TERMS.names), "contact_cost": 0.1, "label": ""}
    rows: list[dict[str, Any]] = [
        {"mechanic": "percent_off", "depth_rate": 0.05 * (i + 1)} for i in range(n_depths)
    ]
    rows += [
        {"mechanic": "spend_threshold", "amount": 5.0 + 5 * (i % 3), "threshold": 40.0 + 10 * i}
        for i in range(n_thresholds)
    ]
    rows += [{"mechanic": "message"}]
    filled = [{**base, **row, "offer_id": f"o{i}"} for i, row in enumerate(rows)]
    return offer_grid(pa.Table.from_pylist(filled, schema=OFFER_TERMS))


def shop(grid: OfferGrid, n: int, seed: int) -> Sample:
    """Values with structure: each user has a taste for depth, a basket, and for letters."""
    rng = np.random.default_rng(seed)
    basket = rng.lognormal(3.8, 0.5, (n, 1))
    taste = rng.gamma(2, 0.5, (n, 1))
    columns, costs = [], []
    for row in grid.terms.to_pylist():
        if row["mechanic"] == "percent_off":
            off = row["depth_rate"] * basket
        elif row["mechanic"] == "spend_threshold":
            reach = np.exp(-np.maximum(row["threshold"] - basket, 0) / 20)
            off = row["amount"] * reach
        else:
            off = np.zeros((n, 1))
        lift = 1.2 * taste * np.sqrt(off + 0.05 * basket * rng.random((n, 1)))
        columns.append(lift - off - 0.1)
        costs.append(off + 0.1)
    return Sample(np.hstack(columns).astype(np.float32), np.hstack(costs).astype(np.float32))


GRID = grid_of(8, 9)  # 18 offers: 4,048 menus of at most 4
SETTINGS: dict[str, Any] = {
    "budget_per_user": 1.0,
    "max_offers": 4,
    "fixed_cost": 0.02,
    "islands": (GeneticAlgorithm(pop_size=20, mutation_eta=3), ParticleSwarm(pop_size=20)),
    "max_evals": 2_000,
}


def design(seed: int, **changes: Any) -> Any:
    search, judge = shop(GRID, 400, seed), shop(GRID, 400, seed + 1000)
    return design_menu(search, judge, GRID, **{**SETTINGS, "seed": seed, **changes})


@pytest.mark.parametrize("seed", range(5))
def test_search_finds_the_best_menu_of_all(seed: int) -> None:
    best = design(seed, enumerate_up_to=20_000)
    assert best.enumerated
    assert best.n_evals == best.n_menus == 4_048
    found = design(seed, enumerate_up_to=0)
    assert not found.enumerated
    assert found.search_value >= 0.99 * best.search_value
    assert found.search_value <= best.search_value + 1e-9


@pytest.mark.parametrize("method", [GeneticAlgorithm(pop_size=50), ParticleSwarm(pop_size=50)])
def test_a_cold_search_beats_random_menus_at_equal_evaluations(method: Any) -> None:
    grid = grid_of(16, 24)  # 41 offers: five million menus of at most 6
    search = shop(grid, 300, 3)
    fitness = MenuFitness(search.value, search.cost, budget_per_user=0.6, fixed_cost=0.003)
    space = MenuSpace(grid, 6)
    points = torch.rand(2_000, space.space.n_genes, generator=torch.Generator().manual_seed(1))
    floor = float(MenuProblem(space, fitness)(points).max())
    found = optimize(MenuProblem(space, fitness), space.space, method, 2_000, seed=1, device="cpu")
    assert found.best_fitness > floor


def test_result_names_the_offers_and_judges_on_other_users() -> None:
    result = design(0, enumerate_up_to=0)
    assert result.offer_ids == tuple(GRID.offer_ids[i] for i in result.menu)
    assert list(result.menu) == sorted(set(result.menu))
    assert result.judged.n_users == 400
    assert result.judged.value != result.search_value
    assert result.judged.cost <= 1.0
    assert result.judged.gain_vs_single.low > 0
    search = shop(GRID, 400, 0)
    fitness = MenuFitness(search.value, search.cost, budget_per_user=1.0, fixed_cost=0.02)
    assert float(fitness(torch.tensor([result.menu]))) == pytest.approx(result.search_value)


def test_stopped_half_way_and_run_again_gives_the_same_menu_and_history(tmp_path: Path) -> None:
    whole = design(2, enumerate_up_to=0)
    design(2, enumerate_up_to=0, max_evals=1_000, checkpoint_uri=str(tmp_path))
    assert design(2, enumerate_up_to=0, checkpoint_uri=str(tmp_path)) == whole
    assert design(2, enumerate_up_to=0, executor=SerialExecutor()) == whole
    with pytest.raises(ArtifactError, match="of this search"):
        design(2, enumerate_up_to=0, budget_per_user=2.0, checkpoint_uri=str(tmp_path))


def test_when_no_offer_pays_the_menu_is_empty() -> None:
    search = Sample(-np.ones((10, 18), np.float32), np.ones((10, 18), np.float32))
    for limit in (0, 20_000):
        result = design_menu(search, search, GRID, **{**SETTINGS, "enumerate_up_to": limit})
        assert result.menu == ()
        assert result.search_value == result.judged.value == 0


def test_fixed_costs_keep_menus_short() -> None:
    sizes = [len(design(1, fixed_cost=f, enumerate_up_to=20_000).menu) for f in (0.0, 0.1, 10.0)]
    assert sizes[0] >= sizes[1] >= sizes[2] == 0


def test_samples_that_do_not_fit_the_grid_are_refused() -> None:
    good, bad = shop(GRID, 10, 0), Sample(np.ones((10, 3)), np.ones((10, 3)))
    with pytest.raises(DataError, match="judge sample: must have a column for each of 18"):
        design_menu(good, bad, GRID, budget_per_user=1.0)


def test_problem_travels_by_pickle_without_its_memory() -> None:
    search = shop(GRID, 100, 0)
    fitness = MenuFitness(search.value, search.cost, budget_per_user=1.0)
    space = MenuSpace(GRID, 3)
    problem = MenuProblem(space, fitness)
    x = torch.rand(20, space.space.n_genes, generator=torch.Generator().manual_seed(2))
    values = problem(x)
    again = pickle.loads(pickle.dumps(problem))
    assert again._seen == {}
    assert torch.equal(again(x), values)
    assert torch.equal(problem(x), values)
