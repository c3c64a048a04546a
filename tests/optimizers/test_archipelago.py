from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from promo_ray.errors import ArtifactError, ConfigError, DataError, PromoRayError
from promo_ray.execution import SerialExecutor, run_islands
from promo_ray.optimizers import (
    GeneticAlgorithm,
    ParticleSwarm,
    PopulationIslands,
    SearchSpace,
    optimize,
    optimize_islands,
)
from promo_ray.registry import methods
from promo_ray.testing.optimizer import rastrigin, sphere

BOX = SearchSpace.box([-5.12] * 6, [5.12] * 6)
ISLANDS = (GeneticAlgorithm(pop_size=20), ParticleSwarm(pop_size=20), GeneticAlgorithm(pop_size=10))
ALIKE = (GeneticAlgorithm(pop_size=20),) * 4 + (ParticleSwarm(pop_size=20),) * 3


def search(max_evals: int = 5_000, **options: Any) -> Any:
    islands = options.pop("islands", ISLANDS)
    return optimize_islands(rastrigin, BOX, islands, max_evals, seed=4, **options)


def same(a: Any, b: Any) -> bool:
    return (
        np.array_equal(a.best_x, b.best_x)
        and a.best_fitness == b.best_fitness
        and a.history == b.history
        and a.n_evals == b.n_evals
        and a.migrations.equals(b.migrations)
    )


def test_islands_solve_rastrigin() -> None:
    result = optimize_islands(rastrigin, BOX, max_evals=40_000, seed=1)
    np.testing.assert_allclose(result.best_x, 0.7, atol=0.02)
    assert 38_000 < result.n_evals <= 40_000
    assert len(result.rounds) == 4
    assert len(set(result.rounds)) == 1
    assert result.best_fitness == max(h["best"] for h in result.history)
    assert 0 < result.busy_share <= 1


def test_stopped_half_way_and_run_again_gives_the_same_bits(tmp_path: Path) -> None:
    whole = search()
    half = search(2_500, checkpoint_uri=str(tmp_path))
    assert half.n_evals == 2_400  # four rounds of 3 x 20 x 10: small populations go further
    assert same(whole, search(checkpoint_uri=str(tmp_path)))


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("topology", ["ring", "torus", "fully_connected", "random-2"])
def test_a_batch_of_islands_gives_the_bits_of_its_islands_alone(mode: str, topology: str) -> None:
    options: Any = {"islands": ALIKE, "mode": mode, "topology": topology, "max_evals": 7_000}
    together = search(**options)
    if mode == "sync":
        assert same(together, search(**options, max_batch=1))
        assert same(together, search(**options, max_batch=2, is_batched=True))
    assert same(together, search(islands=ALIKE, replay=together.migrations))


@pytest.mark.parametrize("emigration", ["best", "diverse", "random", "tournament"])
@pytest.mark.parametrize("replacement", ["worst_if_better", "worst", "random", "nearest"])
def test_every_policy_keeps_bits_and_never_loses_the_best(
    emigration: str, replacement: str
) -> None:
    options = {"emigration": emigration, "replacement": replacement, "topology": "torus"}
    together = search(islands=ALIKE, **options)
    assert same(together, search(islands=ALIKE, max_batch=1, **options))
    for island in range(len(ALIKE)):
        best = [h["best"] for h in together.history if h["island"] == island]
        assert best == sorted(best)


def test_a_state_restored_again_and_again_gives_the_same_bits(tmp_path: Path) -> None:
    for k in range(1, 6):
        last = search(1_000 * k, checkpoint_uri=str(tmp_path), migrate_every=5)
    assert same(last, search(5_000, migrate_every=5))


@pytest.mark.parametrize("name", sorted(methods("optimizers")))
def test_every_method_can_be_an_island(name: str, tmp_path: Path) -> None:
    islands = (name, "ga", name)
    first = search(6_000, islands=islands, topology="fully_connected", migrate_every=5)
    assert first.migrations["n_taken"].to_pylist().count(0) < first.migrations.num_rows
    search(3_000, islands=islands, topology="fully_connected", migrate_every=5,
           checkpoint_uri=str(tmp_path))  # fmt: skip
    resumed = search(6_000, islands=islands, topology="fully_connected", migrate_every=5,
                     checkpoint_uri=str(tmp_path), max_batch=1)  # fmt: skip
    assert same(first, resumed)


def test_checkpoint_of_another_search_is_refused(tmp_path: Path) -> None:
    search(1_000, checkpoint_uri=str(tmp_path))
    changes: list[Any] = [
        {"key": "other data"},
        {"x0": [[0.5] * 6]},
        {"dtype": torch.float64},
        {"replacement": "nearest"},
    ]
    for change in changes:
        with pytest.raises(ArtifactError, match="of this search"):
            search(1_000, checkpoint_uri=str(tmp_path), **change)
    other = SearchSpace.box([-5.0] * 6, [5.12] * 6)
    with pytest.raises(ArtifactError, match="of this search"):
        optimize_islands(rastrigin, other, ISLANDS, 1_000, seed=4, checkpoint_uri=str(tmp_path))


def test_executor_does_not_change_the_bits() -> None:
    assert same(search(), search(executor=SerialExecutor()))


def test_fitness_can_be_built_by_the_worker() -> None:
    built = optimize_islands(None, BOX, ISLANDS, 5_000, build=lambda: rastrigin, seed=4)
    assert same(search(), built)


def test_one_island_without_migration_equals_optimize() -> None:
    alone = optimize(sphere, BOX, ISLANDS[0], 2_000, seed=9, device="cpu")
    island = optimize_islands(sphere, BOX, ISLANDS[:1], 2_000, seed=9)
    assert np.array_equal(alone.best_x, island.best_x)
    assert island.history[-1]["n_evals"] == 2_000


@pytest.mark.parametrize("n_migrants", [0, 1])
def test_the_best_travels_round_the_ring(n_migrants: int) -> None:
    # the first island alone starts in the optimum; with migration all others hear of it
    swarm = ParticleSwarm(pop_size=4)
    kinds = [
        PopulationIslands(method=swarm, space=BOX, x0=((0.3,) * 6,) if i == 0 else None)
        for i in range(4)
    ]
    run = run_islands(kinds, lambda: sphere, max_evals=64, migrate_every=1, n_migrants=n_migrants)
    at_optimum = [row["best"] > -1e-9 for row in run.history]
    reached = [sum(at_optimum[4 * r : 4 * r + 4]) for r in range(4)]
    assert reached == ([1, 2, 3, 4] if n_migrants else [1, 1, 1, 1])


def test_worthless_individuals_do_not_travel() -> None:
    result = optimize_islands(
        lambda x: (sphere(x) * torch.nan, torch.ones(len(x))), BOX, ISLANDS, 2_000
    )
    assert result.best_violation == np.inf
    assert result.best_fitness == -np.inf
    assert set(result.migrations["n_taken"].to_pylist()) == {0}


def test_less_violation_beats_more_fitness_when_islands_exchange() -> None:
    def fitness(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.sum(-1), (x.square().sum(-1) - 6).clamp(min=0)

    result = optimize_islands(fitness, BOX, ISLANDS, 15_000, seed=3, dtype=torch.float64)
    assert result.best_violation == 0
    assert result.best_fitness == pytest.approx(6, abs=0.1)


def test_the_answer_under_rules_is_checked_once_more() -> None:
    def fitness(x: Any) -> Any:
        # a rule that an individual keeps in company and breaks alone
        return sphere(x), (x[:, 0] - 2).clamp(min=0) + (2.0 if len(x) == 1 else 0.0)

    result = optimize_islands(fitness, BOX, ISLANDS, 4_000)
    assert result.best_violation == 2.0
    assert not result.is_feasible


def test_a_run_under_rules_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    def fitness(x: Any) -> Any:
        told = sphere(x)
        told[x[:, 1] > 2] = torch.nan
        return told, (1 - x[:, 0]).clamp(min=0)

    def run(max_evals: int, uri: Path) -> Any:
        return optimize_islands(
            fitness, BOX, ISLANDS, max_evals, checkpoint_uri=str(uri), device="cpu"
        )

    whole = run(6_000, tmp_path / "whole")
    run(3_000, tmp_path / "half")
    assert same(whole, run(6_000, tmp_path / "half"))


def test_weights_of_other_islands_are_refused_before_any_work() -> None:
    with pytest.raises(ConfigError, match="weights must be of"):
        optimize_islands(lambda x: pytest.fail("evaluated"), BOX, ISLANDS, topology=[[0.0]])


@pytest.mark.parametrize("pattern", ["checkpoint.json", "state-*"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, pattern: str) -> None:
    optimize_islands(sphere, BOX, ISLANDS, 2_000, checkpoint_uri=str(tmp_path))
    for path in tmp_path.glob(pattern):
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ArtifactError, match="is damaged"):
        optimize_islands(sphere, BOX, ISLANDS, 4_000, checkpoint_uri=str(tmp_path))


def test_a_fitness_that_raises_is_named_with_island_and_generation() -> None:
    calls = 0

    def fitness(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise ZeroDivisionError("by nothing")
        return sphere(x)

    with pytest.raises(
        PromoRayError,
        match=r"fitness must not raise; island 1 in generation 0: ZeroDivisionError: by nothing",
    ):
        # one after another: four generations of island 0, then the first of island 1
        optimize_islands(fitness, BOX, ISLANDS[:2], 1_000, migrate_every=4)


@pytest.mark.parametrize(
    ("fitness", "match"),
    [
        (
            lambda x: x,
            r"island 0 in generation 0: must be a tensor of shape \(20,\); got \(20, 6\)",
        ),
        (
            lambda x: 1.0,
            r"island 0 in generation 0: must be a tensor of shape \(20,\); got float",
        ),
        (
            lambda x: (sphere(x), x),
            r"violation of island 0 .*: must be .*got \(20, 6\)",
        ),
        (lambda x: (x, x, x), r"must be fitness, or fitness and violation"),
    ],
)
def test_fitness_of_wrong_shape_is_refused(fitness: Any, match: str) -> None:
    with pytest.raises(DataError, match=match):
        optimize_islands(fitness, BOX, ISLANDS, 1_000)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"islands": ()}, "at least one island"),
        ({"islands": ("annealer",)}, "optimizers method must be one of .*got 'annealer'"),
        ({"max_evals": 100}, "one round of all islands = 1960"),
        ({"n_migrants": 60}, "n_migrants"),
        ({"build": lambda: sphere}, "either fitness or build"),
        ({"topology": "star"}, "topology must be one of"),
        ({"mode": "fast"}, "mode must be one of"),
        ({"emigration": "oldest"}, "emigration must be one of best, .*got 'oldest'"),
        ({"replacement": "best"}, "replacement must be one of .*got 'best'"),
    ],
)
def test_bad_calls_are_refused(options: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        optimize_islands(sphere, BOX, **options)
