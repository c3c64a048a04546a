from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from promo_ray.errors import ConfigError, DataError
from promo_ray.optimizers import GeneticAlgorithm, ParticleSwarm, SearchSpace, optimize
from promo_ray.telemetry import Message, Progress
from promo_ray.testing.optimizer import rastrigin, sphere

BOX = SearchSpace.box([-5.12] * 4, [5.12] * 4)
METHODS = [
    GeneticAlgorithm(),
    GeneticAlgorithm(n_elites=2, tournament_size=3, crossover_eta=7, mutation_eta=3),
    ParticleSwarm(),
    ParticleSwarm(neighborhood="ring"),
]


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_sphere_is_solved(method: Any) -> None:
    result = optimize(sphere, BOX, method, 40_000, seed=2, device="cpu", dtype=torch.float64)
    np.testing.assert_allclose(result.best_x, 0.3, atol=0.02)
    assert result.best_fitness == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("method", [METHODS[0], METHODS[2]], ids=repr)
def test_rastrigin_is_solved(method: Any) -> None:
    result = optimize(rastrigin, BOX, method, 40_000, seed=1, device="cpu")
    np.testing.assert_allclose(result.best_x, 0.7, atol=0.02)


def test_genetic_algorithm_reaches_the_quality_of_good_peers() -> None:
    # at 100,000 evaluations and 1,000 individuals good SBX algorithms reach about 0.02
    space = SearchSpace.box([-5.12] * 20, [5.12] * 20)
    method = GeneticAlgorithm(pop_size=1000)
    result = optimize(rastrigin, space, method, 100_000, seed=5, device="cpu")
    assert result.best_fitness > -0.1


@pytest.mark.parametrize("name", ["ga", "pso"])
def test_evaluations_are_counted_and_never_exceed_the_limit(name: str) -> None:
    seen = 0

    def fitness(x: Tensor) -> Tensor:
        nonlocal seen
        seen += len(x)
        return sphere(x)

    result = optimize(fitness, BOX, name, 1_050, device="cpu")
    assert seen == result.n_evals == 1_000
    assert len(result.history) == 10
    assert result.stop_reason == "max_evals"
    best = [row["best"] for row in result.history]
    assert best == sorted(best)


@pytest.mark.parametrize("name", ["ga", "pso"])
def test_search_starts_from_given_points_and_stops_at_its_target(name: str) -> None:
    result = optimize(sphere, BOX, name, 10_000, x0=[[0.3] * 4], target=-1e-9, device="cpu")
    assert result.n_evals == 100
    assert result.stop_reason == "target"
    np.testing.assert_allclose(result.best_x, 0.3, rtol=1e-6)


@pytest.mark.parametrize("name", ["ga", "pso"])
def test_feasible_optimum_is_found_on_the_border(name: str) -> None:
    def fitness(x: Tensor) -> tuple[Tensor, Tensor]:
        return sphere(x), (1.0 - x[..., 0]).clamp(min=0)  # the first gene must be >= 1

    result = optimize(fitness, BOX, name, 20_000, seed=3, device="cpu")
    assert result.best_violation == 0
    np.testing.assert_allclose(result.best_x, [1, 0.3, 0.3, 0.3], atol=0.05)


def test_when_nothing_is_feasible_the_result_says_so() -> None:
    result = optimize(lambda x: (sphere(x), torch.ones(len(x))), BOX, "ga", 1_000, device="cpu")
    assert result.best_violation == 1
    nothing = optimize(lambda x: x[..., 0] * torch.nan, BOX, "ga", 1_000, device="cpu")
    assert nothing.best_fitness == -np.inf


def test_progress_is_told() -> None:
    seen: list[Message] = []
    progress = Progress(seen.append, min_interval_s=0)  # type: ignore[arg-type]
    optimize(sphere, BOX, "ga", 500, device="cpu", progress=progress)
    assert [m.done for m in seen] == [100, 200, 300, 400, 500]
    assert "best" in seen[-1].fields


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: optimize(sphere, BOX, "ant"), ConfigError, "must be one of ga, pso"),
        (lambda: optimize(sphere, BOX, "ga", 50), ConfigError, "max_evals must be >= pop_size"),
        (
            lambda: optimize(lambda x: x, BOX, "ga", 100, device="cpu"),
            DataError,
            r"fitness: must have shape \(100,\); got \(100, 4\)",
        ),
        (lambda: GeneticAlgorithm(pop_size=5), ConfigError, "pop_size"),
        (lambda: GeneticAlgorithm(mutation_eta=20), ConfigError, "power of two"),
        (lambda: GeneticAlgorithm(n_elites=0), ConfigError, "n_elites"),
        (lambda: ParticleSwarm(neighborhood="star"), ConfigError, "neighborhood"),
        (lambda: ParticleSwarm(inertia=1.0), ConfigError, "inertia"),
    ],
)
def test_bad_calls_are_refused(call: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        call()


def test_a_fitness_that_raises_comes_through() -> None:
    def fitness(x: Tensor) -> Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        optimize(fitness, BOX, "ga", 100, device="cpu")


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_tell_without_ask_is_refused(method: Any) -> None:
    state, x = method.ask(method.init(BOX, 0))
    told = method.tell(state, sphere(x))
    with pytest.raises(ConfigError, match="must follow ask"):
        method.tell(told, sphere(x))
