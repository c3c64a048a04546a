from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from promo_ray.errors import ArtifactError, ConfigError
from promo_ray.execution import SerialExecutor, run_islands
from promo_ray.optimizers import (
    GeneticAlgorithm,
    ParticleSwarm,
    PopulationIsland,
    SearchSpace,
    optimize,
    optimize_islands,
)
from promo_ray.testing.optimizer import rastrigin, sphere

BOX = SearchSpace.box([-5.12] * 6, [5.12] * 6)
ISLANDS = (GeneticAlgorithm(pop_size=20), ParticleSwarm(pop_size=20), GeneticAlgorithm(pop_size=10))


def search(max_evals: int = 5_000, **options: Any) -> Any:
    return optimize_islands(rastrigin, BOX, ISLANDS, max_evals, seed=4, **options)


def same(a: Any, b: Any) -> bool:
    return (
        np.array_equal(a.best_x, b.best_x)
        and a.best_fitness == b.best_fitness
        and a.history == b.history
        and a.n_evals == b.n_evals
    )


def test_islands_solve_rastrigin() -> None:
    result = optimize_islands(rastrigin, BOX, max_evals=40_000, seed=1)
    np.testing.assert_allclose(result.best_x, 0.7, atol=0.02)
    assert result.n_evals == 40_000


def test_stopped_half_way_and_run_again_gives_the_same_bits(tmp_path: Path) -> None:
    whole = search()
    half = search(2_500, checkpoint_uri=str(tmp_path))
    assert half.n_evals == 2_500
    assert same(whole, search(checkpoint_uri=str(tmp_path)))


def test_checkpoint_of_another_search_is_refused(tmp_path: Path) -> None:
    search(1_000, checkpoint_uri=str(tmp_path))
    for change in ({"key": "other data"}, {"x0": [[0.5] * 6]}, {"dtype": torch.float64}):
        with pytest.raises(ArtifactError, match="of this search"):
            search(1_000, checkpoint_uri=str(tmp_path), **change)


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
    start = np.full((1, 6), 0.3)
    islands = [
        PopulationIsland(method=ParticleSwarm(pop_size=4), space=BOX, x0=start if i == 0 else None)
        for i in range(4)
    ]
    problems = [lambda: sphere] * 4
    run = run_islands(islands, problems, n_rounds=4, migrate_every=1, n_migrants=n_migrants)
    at_optimum = [row["best"] > -1e-9 for row in run.history]
    reached = [sum(at_optimum[4 * r : 4 * r + 4]) for r in range(4)]
    assert reached == ([1, 2, 3, 4] if n_migrants else [1, 1, 1, 1])


def test_infeasible_and_worthless_individuals_do_not_travel() -> None:
    result = optimize_islands(
        lambda x: (sphere(x) * torch.nan, torch.ones(len(x))), BOX, ISLANDS, 1_000
    )
    assert result.best_violation == 1
    assert result.best_fitness == -np.inf


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"islands": ()}, "at least one island"),
        ({"max_evals": 100}, "one round of all islands = 4000"),
        ({"n_migrants": 60}, "n_migrants"),
        ({"build": lambda: sphere}, "either fitness or build"),
    ],
)
def test_bad_calls_are_refused(options: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        optimize_islands(sphere, BOX, **options)
