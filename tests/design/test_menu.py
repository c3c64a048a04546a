from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.design import (
    Channel,
    Constraints,
    MenuFitness,
    MenuSpace,
    MenuUsers,
    OfferGrid,
    Sample,
    Samples,
    design_menu,
    offer_grid,
    search_menu,
)
from promo_ray.design.local import Evaluator
from promo_ray.errors import ArtifactError, ConfigError, DataError, StopRequestedError
from promo_ray.execution import SerialExecutor
from promo_ray.optimizers import GeneticAlgorithm, ParticleSwarm, optimize
from promo_ray.response.surface import SurfaceEffects


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
SPACE = MenuSpace(GRID, 4)
SETTINGS: dict[str, Any] = {
    "budget_per_user": 1.0,
    "fixed_cost": 0.02,
    "islands": (GeneticAlgorithm(pop_size=20), ParticleSwarm(pop_size=20)),
    "max_evals": 1_500,
}


def samples_of(seed: int, n: int = 400) -> Samples:
    return Samples(*(shop(GRID, n, seed + part * 1000) for part in range(3)))


def design(seed: int, space: MenuSpace = SPACE, **changes: Any) -> Any:
    return search_menu(samples_of(seed), space, **{**SETTINGS, "seed": seed, **changes})


def on_search(seed: int, menus: list[tuple[int, ...]]) -> float:
    fitness = MenuFitness(samples_of(seed).search, budget_per_user=1.0, fixed_cost=0.02)
    return max(float(fitness(torch.tensor([m or (-1,)]))) for m in menus)


@pytest.mark.parametrize("seed", range(3))
def test_search_finds_the_best_menu_of_all(seed: int) -> None:
    best = design(seed, enumerate_up_to=20_000)
    assert best.enumerated
    assert best.n_evals == best.n_menus == 4_048
    found = design(seed, enumerate_up_to=0)
    assert not found.enumerated
    assert found.n_evals <= 1_500
    most = on_search(seed, [f.menu for f in best.finalists])
    assert on_search(seed, [f.menu for f in found.finalists]) >= 0.99 * most


@pytest.mark.parametrize("island", ["ga", "pso", "sa", "auto"])
def test_every_method_searches_and_tells_its_course(island: str) -> None:
    told: list[Any] = []
    space = MenuSpace(GRID, 4, constraints=Constraints(exclusive_groups=(("percent_off",),)))
    found = design(
        1, space, islands=(island, island), enumerate_up_to=0,
        progress=lambda *args, **values: told.append(values),
    )  # fmt: skip
    assert told
    assert found.history
    assert {row["island"] for row in found.history} == {0, 1}
    assert found.search_value >= 0.95 * design(1, space, enumerate_up_to=20_000).search_value


@pytest.mark.parametrize("method", [GeneticAlgorithm(pop_size=50), ParticleSwarm(pop_size=50)])
def test_a_cold_search_beats_random_menus_at_equal_evaluations(method: Any) -> None:
    grid = grid_of(16, 24)  # 41 offers: five million menus of at most 6
    search = shop(grid, 300, 3)
    fitness = MenuFitness(search, budget_per_user=0.6, fixed_cost=0.003)
    space = MenuSpace(grid, 6)
    box = space.space
    upper = torch.tensor(box.upper) + 1
    u = torch.rand(2_000, box.n_genes, generator=torch.Generator().manual_seed(1))
    points = box.snap(u * upper - 0.5)
    floor = float(Evaluator(space, fitness).of_genes(points).max())
    found = optimize(Evaluator(space, fitness).of_genes, box, method, 2_000, seed=1, device="cpu")
    assert found.best_fitness > floor


def test_result_names_the_offers_and_judges_on_other_users() -> None:
    result = design(0, enumerate_up_to=0, today=(0, 8))
    assert result.offer_ids == tuple(GRID.offer_ids[i] for i in result.menu)
    assert [o.id for o in result.executable()] == list(result.offer_ids)
    assert result.offers[0].words
    assert list(result.menu) == sorted(set(result.menu))
    assert result.judged.n_users == 400
    assert result.judged.value != result.search_value
    assert result.judged.cost <= 1.0
    assert result.judged.gain_vs_single.low > 0
    assert result.judged.gain_vs_today.mean > 0
    assert result.finalists[0].menu == result.menu
    assert (0, 8) in [f.menu for f in result.finalists]
    assert on_search(0, [result.menu]) == pytest.approx(result.search_value)


def test_stopped_half_way_and_run_again_gives_the_same_menu_and_history(tmp_path: Path) -> None:
    whole = design(2, enumerate_up_to=0)

    def stop(stage: str, done: int, total: int, **values: Any) -> None:
        if done > 300:
            raise StopRequestedError("enough")

    with pytest.raises(StopRequestedError):
        design(2, enumerate_up_to=0, checkpoint_uri=str(tmp_path), progress=stop)
    assert list(tmp_path.iterdir())
    assert design(2, enumerate_up_to=0, checkpoint_uri=str(tmp_path)) == whole
    assert design(2, enumerate_up_to=0, executor=SerialExecutor(), n_threads=2) == whole
    with pytest.raises(ArtifactError, match="of this search"):
        design(2, enumerate_up_to=0, budget_per_user=2.0, checkpoint_uri=str(tmp_path))


@pytest.mark.parametrize("limit", [0, 20_000])
def test_when_no_offer_pays_the_menu_is_empty(limit: int) -> None:
    bad = Sample(-np.ones((10, 18), np.float32), np.ones((10, 18), np.float32))
    result = search_menu(Samples(bad, bad, bad), SPACE, **{**SETTINGS, "enumerate_up_to": limit})
    assert result.menu == ()
    assert result.search_value == result.judged.value == 0
    nothing = SPACE.under(Constraints(mechanics=("message",), forbidden_pairs=(("o1", "o2"),)))
    only = search_menu(samples_of(0), nothing, **{**SETTINGS, "max_evals": 200})
    assert set(only.offer_ids) <= {"o17"}


def test_fixed_costs_keep_menus_short() -> None:
    sizes = [len(design(1, fixed_cost=f, enumerate_up_to=20_000).menu) for f in (0.0, 0.1, 10.0)]
    assert sizes[0] >= sizes[1] >= sizes[2] == 0


def test_a_larger_sample_is_searched_in_part_first() -> None:
    many = Samples(*(shop(GRID, n, k) for k, n in enumerate((4_000, 400, 400))))
    found = search_menu(many, SPACE, **{**SETTINGS, "enumerate_up_to": 0})
    assert [row["n_users"] for row in found.history] == sorted(
        row["n_users"] for row in found.history
    )
    assert {row["n_users"] for row in found.history} == {1_000, 4_000}


def test_binding_constraints_are_named_with_what_relaxing_them_brings() -> None:
    best = design(0, enumerate_up_to=20_000)
    a, b = best.offer_ids[:2]
    tight = SPACE.under(Constraints(max_offers=2, forbidden_pairs=((a, b),)))
    found = design(0, tight, enumerate_up_to=20_000)
    named = {binding.constraint: binding for binding in found.bindings}
    assert "max_offers" in named
    assert named["max_offers"].gain > 0
    assert len(named["max_offers"].menu) == 3
    assert named.keys() <= {"max_offers", "forbidden_pairs", "budget"}


def test_samples_that_do_not_fit_the_space_are_refused() -> None:
    good, bad = shop(GRID, 10, 0), Sample(*(np.ones((10, 3), np.float32) for _ in range(2)))
    with pytest.raises(DataError, match="judge sample: must have a column for each of 18"):
        search_menu(Samples(good, good, bad), SPACE, budget_per_user=1.0)
    with pytest.raises(ConfigError, match="max_evals"):
        search_menu(Samples(good, good, good), SPACE, budget_per_user=1.0, max_evals=0)


def test_problem_travels_by_pickle_without_its_memory() -> None:
    fitness = MenuFitness(shop(GRID, 100, 0), budget_per_user=1.0)
    space = MenuSpace(GRID, 3)
    problem = Evaluator(space, fitness)
    box = space.space
    u = torch.rand(20, box.n_genes, generator=torch.Generator().manual_seed(2))
    x = box.snap(u * (torch.tensor(box.upper) + 1) - 0.5)
    values = problem.of_genes(x)
    again = pickle.loads(pickle.dumps(problem))
    assert again.values == {}
    assert torch.equal(again.of_genes(x), values)
    assert torch.equal(problem.of_genes(x), values)


class Linear:
    """A surface: users of larger baskets answer more; `tilt` makes it wrong."""

    def __init__(self, tilt: float = 0.0) -> None:
        self.tilt = tilt

    def effects(self, x: Any, basket: Any, offers: Any) -> SurfaceEffects:
        rows = offers.to_pylist()
        off = np.array([r["amount"] or (r["depth_rate"] or 0.0) * 40 for r in rows])
        gross = np.sqrt(off) * basket[:, None] / 15 * (1 + self.tilt * x[:, :1])
        return SurfaceEffects(gross, np.broadcast_to(off * 0.6, gross.shape).copy())


def users_of(n: int, seed: int = 0) -> MenuUsers:
    rng = np.random.default_rng(seed)
    members = rng.random(n) < 0.3
    return MenuUsers(
        rng.normal(0, 1, (n, 1)),
        rng.lognormal(3.6, 0.4, n),
        {"members": members},
        {"mail": rng.random(n) < 0.5},
    )


def test_a_menu_is_designed_from_a_surface_by_segment_and_channel() -> None:
    space = MenuSpace(
        GRID, 3, segments=("everyone", "members"),
        channels=(Channel("mail", 0.01), Channel("letter", 0.5)),
    )  # fmt: skip
    users = users_of(800)
    found = design_menu(Linear(), users, space, 400.0, max_evals=600, seed=1)
    assert {o.channel for o in found.offers} <= {"mail", "letter"}
    assert all("by " in o.words for o in found.offers)
    assert found.judged.cost <= 400 / 800 * (1 + 1e-9)
    assert found.judged.gain_vs_none.low > 0
    again = design_menu(Linear(), users, space, 400.0, max_evals=600, seed=1)
    assert again == found


def test_robust_values_count_less_where_surfaces_disagree() -> None:
    surfaces = (Linear(-0.6), Linear(0.6))
    plain, robust = (
        design_menu(surfaces, users_of(400), SPACE, 300.0, robustness=r, max_evals=300)
        for r in (0.0, 1.0)
    )
    assert robust.judged.value < plain.judged.value


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"budgets": 0.0}, ConfigError, "budgets must be > 0"),
        ({"n_campaign": 0}, ConfigError, "n_campaign"),
        ({"robustness": 1.0}, ConfigError, "robustness"),
        ({"space": MenuSpace(GRID, 2, segments=("nobody",))}, DataError, "'nobody'"),
    ],
)
def test_bad_settings_are_refused(change: Any, error: Any, match: str) -> None:
    given = {"space": SPACE, "budgets": 10.0, **change}
    with pytest.raises(error, match=match):
        design_menu(Linear(), users_of(40), **given)


def test_bad_users_are_refused() -> None:
    with pytest.raises(DataError, match=r"segments\.none: .* audience is empty"):
        MenuUsers(np.ones((9, 1)), np.ones(9), {"none": np.zeros(9, bool)})
    with pytest.raises(DataError, match="basket"):
        MenuUsers(np.ones((9, 1)), np.ones(8))
    with pytest.raises(DataError, match="at least 8 users"):
        MenuUsers(np.ones((0, 1)), np.ones(0))


def test_a_rule_that_cannot_be_dropped_alone_ends_no_search() -> None:
    amount = {**dict.fromkeys(OFFER_TERMS.names), "contact_cost": 0.1, "label": ""} | {
        "offer_id": "off", "mechanic": "amount_off", "amount": 5.0,
    }  # fmt: skip
    terms = pa.concat_tables([GRID.terms, pa.Table.from_pylist([amount], schema=OFFER_TERMS)])
    rules = Constraints(mechanics=("percent_off",), max_depth_rate=0.1)
    space = MenuSpace(offer_grid(terms), 2, constraints=rules)
    value = np.ones((30, len(space.grid)))
    samples = Samples(*[Sample(value, value)] * 3)
    found = search_menu(samples, space, budget_per_user=1.0, max_evals=300)
    assert "mechanics" not in {b.constraint for b in found.bindings}
    assert found.menu
