from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from promo_ray.errors import ConfigError, DataError, PromoRayError
from promo_ray.optimizers import (
    CmaEs,
    DifferentialEvolution,
    GeneticAlgorithm,
    Integer,
    Memetic,
    ParticleSwarm,
    Real,
    SearchSpace,
    SimulatedAnnealing,
    native,
    optimize,
)
from promo_ray.telemetry import Message, Progress
from promo_ray.testing.optimizer import rastrigin, sphere

BOX = SearchSpace.box([-5.12] * 4, [5.12] * 4)
METHODS = [
    GeneticAlgorithm(),
    GeneticAlgorithm(n_elites=2, tournament_size=3, crossover_eta=7, mutation_eta=3),
    ParticleSwarm(),
    ParticleSwarm(neighborhood="ring"),
    ParticleSwarm(neighborhood="von_neumann", inertia=0.9, final_inertia=0.4),
    ParticleSwarm(constriction=True, cognitive=2.05, social=2.05),
    DifferentialEvolution(),
    DifferentialEvolution(strategy="best1"),
    DifferentialEvolution(strategy="current_to_pbest1", adapt_rate=0),
    SimulatedAnnealing(),
    SimulatedAnnealing(schedule="geometric"),
    SimulatedAnnealing(schedule="adaptive"),
    CmaEs(),
    CmaEs(is_separable=True),
    Memetic(),
    Memetic(sweeps=False),
]


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_sphere_is_solved(method: Any) -> None:
    result = optimize(sphere, BOX, method, 10_000, seed=2, device="cpu", dtype=torch.float64)
    np.testing.assert_allclose(result.best_x, 0.3, atol=0.05)
    assert result.best_fitness == pytest.approx(0, abs=5e-3)


@pytest.mark.parametrize("method", [METHODS[0], METHODS[2]], ids=repr)
def test_rastrigin_is_solved(method: Any) -> None:
    result = optimize(rastrigin, BOX, method, 40_000, seed=1, device="cpu")
    np.testing.assert_allclose(result.best_x, 0.7, atol=0.02)


def test_genetic_algorithm_reaches_the_quality_of_good_peers() -> None:
    # at 100,000 evaluations and 1,000 individuals good SBX algorithms reach about 0.02
    space = SearchSpace.box([-5.12] * 20, [5.12] * 20)
    method = GeneticAlgorithm(pop_size=1000)
    result = optimize(rastrigin, space, method, 100_000, seed=5, device="cpu")
    assert result.best_fitness > -0.02


def test_annealing_reaches_the_bottom_of_rastrigin_within_40_000_evaluations() -> None:
    space = SearchSpace.box([-5.12] * 20, [5.12] * 20)
    result = optimize(rastrigin, space, "sa", 40_000, seed=1, device="cpu", target=-1e-4)
    assert result.stop_reason == "target"


@pytest.mark.parametrize("schedule", ["geometric", "adaptive"])
def test_cold_chains_still_leave_their_peaks(schedule: str) -> None:
    # with normal steps of one size for all genes they end on peaks about 8 below the top
    space = SearchSpace.box([-5.12] * 10, [5.12] * 10)
    method = SimulatedAnnealing(schedule=schedule)
    result = optimize(rastrigin, space, method, 10_000, seed=0, device="cpu")
    assert result.best_fitness > -0.5


@pytest.mark.skipif(native.kernel is None, reason="the kernels are not built")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", METHODS[:9], ids=repr)
def test_kernels_and_tensor_code_give_the_same_bits(
    method: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    # odd sizes, so that the ends of rows are not whole vectors
    space = SearchSpace.box([-3.1, 0.1, -7, 2, 100.1] * 9, [1.3, 0.7, 7, 2, 900.3] * 9)
    compiled = native.kernel
    runs = []
    for kernel in (compiled, None):
        monkeypatch.setattr(native, "kernel", kernel)
        state = method.init(space, 3, batch=(2,), dtype=dtype)
        for _ in range(12):
            state, x = method.ask(state)
            state = method.tell(state, rastrigin(x))
        runs.append(state)
    for name, a, b in zip(runs[0]._fields[2:], runs[0][2:], runs[1][2:], strict=True):
        assert torch.equal(a, b), name


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


def test_the_answer_is_checked_once_more_within_the_budget() -> None:
    n_seen = 0

    def fitness(x: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal n_seen
        n_seen += len(x)
        # a rule that an individual keeps in company and breaks alone
        return sphere(x), torch.zeros(len(x)) + (2.0 if len(x) == 1 else 0.0)

    result = optimize(fitness, BOX, "ga", 1_000, seed=3, device="cpu")
    assert n_seen == result.n_evals <= 1_000
    assert result.best_violation == 2.0
    assert not result.is_feasible


def test_an_optimum_behind_an_infeasible_belt_is_reached() -> None:
    def fitness(x: Tensor) -> tuple[Tensor, Tensor]:
        far = (x - 0.3).square().sum(-1).sqrt()
        return -far, (0.6 - (far - 2.5).abs()).clamp(min=0)  # 1.9 < far < 3.1 is forbidden

    start = [[-4.0, -4.0, -4.0, -4.0]]
    result = optimize(fitness, BOX, "de", 10_000, seed=1, x0=start, device="cpu")
    assert result.is_feasible
    assert result.best_fitness > -0.1


def test_time_ends_a_search() -> None:
    result = optimize(sphere, BOX, "pso", 10**9, max_seconds=0.05, device="cpu")
    assert result.stop_reason == "max_seconds"
    assert result.n_evals < 10**9
    assert len(result.history) == 1


def test_history_of_a_long_search_is_bounded() -> None:
    result = optimize(sphere, BOX, ParticleSwarm(pop_size=4), 4_000, device="cpu")
    assert 25 <= len(result.history) <= 51
    assert result.history[-1]["n_evals"] == result.n_evals == 4_000


def test_the_default_solves_what_populations_alone_do_not() -> None:
    # rotated, badly scaled: a job for covariances; and the sweep finds the peak among many
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1)))[0]
    scale = 10.0 ** torch.linspace(0, 2, 8)

    def ellipse(x: Tensor) -> Tensor:
        return -(((x - 1) @ turn.to(x.dtype)) * scale.to(x.dtype)).square().sum(-1)

    space = SearchSpace.box([-5.0] * 8, [5.0] * 8)
    for fitness in (ellipse, rastrigin):
        found = optimize(fitness, space, max_evals=8_000, device="cpu", dtype=torch.float64)
        assert found.best_fitness > -1e-8


@pytest.mark.parametrize("is_separable", [False, True])
def test_a_run_goes_on_long_after_it_has_converged(is_separable: bool) -> None:
    space = SearchSpace.box([-5.0] * 3, [5.0] * 3)
    method = CmaEs(pop_size=4, is_separable=is_separable)
    assert optimize(sphere, space, method, 8_000, device="cpu").best_fitness > -1e-9


@pytest.mark.parametrize("method", ["cma", "auto"])
def test_whole_numbers_keep_moving_when_the_rest_has_converged(method: str) -> None:
    space = SearchSpace((Real(-5.0, 5.0), Integer(-20, 20), Real(-5.0, 5.0), Integer(0, 9)))

    def fitness(x: Tensor) -> Tensor:
        # the whole numbers matter little: a plain distribution shrinks before it finds them
        x = x.double()
        reals = 1e4 * ((x[..., 0] - 1).square() + (x[..., 2] + 2).square())
        return -reals - (x[..., 1] - 7).square() - (x[..., 3] - 4).square()

    found = optimize(fitness, space, method, 4_000, seed=2, device="cpu", dtype=torch.float64)
    assert space.decode(found.best_x)[1::2] == (7, 4)
    assert found.best_fitness > -1e-8


def test_when_nothing_is_feasible_the_result_says_so() -> None:
    result = optimize(lambda x: (sphere(x), torch.ones(len(x))), BOX, "ga", 1_000, device="cpu")
    assert result.best_violation == 1
    nothing = optimize(lambda x: x[..., 0] * torch.nan, BOX, "ga", 1_000, device="cpu")
    assert nothing.best_fitness == -np.inf


def test_a_gene_of_one_value_has_it_exactly_in_any_dtype() -> None:
    space = SearchSpace.box([0.1, -1], [0.1, 1])
    result = optimize(sphere, space, "pso", 500, device="cpu")
    assert result.best_x[0] == 0.1
    optimize(sphere, space, "pso", 500, x0=[result.best_x], device="cpu")


def test_fitness_beyond_float32_is_no_failure() -> None:
    result = optimize(lambda x: sphere(x).double() * 1e300, BOX, "pso", 500, device="cpu")
    assert np.isfinite(result.best_fitness)


@pytest.mark.parametrize("width", [9, 1_000, 10**5, 10**7])
@pytest.mark.parametrize("name", ["ga", "pso", "de", "sa", "auto"])
def test_whole_numbers_of_any_width_are_found(name: str, width: int) -> None:
    space = SearchSpace((Integer(0, width),) * 4)
    wanted = (0.3 * width) // 1

    def fitness(x: Tensor) -> Tensor:
        return -((x.double() - wanted) / width).square().sum(-1)

    result = optimize(fitness, space, name, 10_000, seed=1, device="cpu")
    assert result.best_fitness > -1e-5


def test_neighbors_lead_and_no_one_else() -> None:
    fitness = torch.tensor([0.0, 9, 1, 2, 8, 3, 4, 5, 7, 6, -1, -2])

    def leaders(neighborhood: str) -> list[int]:
        method = ParticleSwarm(pop_size=12, neighborhood=neighborhood)
        state, _ = method.ask(method.init(BOX))
        return method._leaders(method.tell(state, fitness)).flatten().tolist()

    assert leaders("global") == [1]
    ring = [max((i - 1, i, i + 1), key=lambda j: float(fitness[j % 12])) % 12 for i in range(12)]
    assert leaders("ring") == ring
    torus = torch.arange(12).reshape(4, 3)
    around = [torus, *(torus.roll(by, axis) for by in (1, -1) for axis in (0, 1))]
    cells = torch.stack(around, -1).reshape(12, 5).tolist()
    best = [max(cell, key=lambda j: float(fitness[j])) for cell in cells]
    assert leaders("von_neumann") == best


def test_constriction_is_the_factor_of_clerc_and_kennedy() -> None:
    pulls = ParticleSwarm(constriction=True, cognitive=2.05, social=2.05)._pulls(0)
    np.testing.assert_allclose(pulls, [0.72984, 1.49618, 1.49618], atol=1e-5)
    assert ParticleSwarm(inertia=0.9, final_inertia=0.4)._pulls(100)[0] == pytest.approx(0.65)


@pytest.mark.parametrize("strategy", ["rand1", "best1", "current_to_pbest1"])
def test_trials_are_made_of_the_rows_that_the_strategy_names(strategy: str) -> None:
    method = DifferentialEvolution(
        pop_size=8, strategy=strategy, adapt_rate=0, crossover_rate=1, weight=0.25, p_best=0.25
    )
    # every row has an axis of its own, so that a trial tells what it was made of
    start = method.init(SearchSpace.box([-9.0] * 8, [9.0] * 8), x0=np.eye(8))
    state, _ = method.ask(start)
    _, trials = method.ask(method.tell(state, torch.arange(8.0)))
    bases = set()
    for i, row in enumerate(trials):
        if strategy == "current_to_pbest1":
            # itself, a quarter of the way to one of the best two, and a quarter of a difference
            toward = torch.eye(8)[i] * 0.75 + 0.25 * torch.eye(8)[6:]
            rest = (row - toward).abs().sum(-1)
            assert 0.25 <= float(rest.min()) <= 0.5
        elif strategy == "best1":  # one of the rows of the difference may be the best, too
            difference = sorted((row - torch.eye(8)[7]).tolist())
            assert difference == [-0.25, 0, 0, 0, 0, 0, 0, 0.25]
            bases.add(7)
        else:
            assert sorted(v for v in row.tolist() if v) == [-0.25, 0.25, 1.0]
            bases.add(int(row.argmax()))
    assert strategy == "current_to_pbest1" or (bases == {7}) == (strategy == "best1")


def test_epsilon_forgives_less_and_less_and_each_population_has_its_own() -> None:
    method = GeneticAlgorithm(pop_size=10, epsilon_generations=4)
    state, x = method.ask(method.init(BOX, batch=(2,)))
    violation = torch.stack([torch.arange(10.0), 10 * torch.arange(10.0)])
    state = method.tell(state, sphere(x), violation)
    assert state.epsilon.tolist() == [1.0, 10.0]
    left = []
    for _ in range(5):
        left.append(method._relaxed(state, torch.ones(2, 1)).flatten().tolist())
        state, x = method.ask(state)
        state = method.tell(state, sphere(x), torch.zeros(2, 10))
    first = [row[0] for row in left]
    assert first == sorted(first)
    assert left[0][1] == 0
    assert left[-1] == [1.0, 1.0]


def test_progress_is_told() -> None:
    seen: list[Message] = []
    progress = Progress(seen.append, min_interval_s=0)  # type: ignore[arg-type]
    optimize(sphere, BOX, "ga", 500, device="cpu", progress=progress)
    assert [m.done for m in seen] == [100, 200, 300, 400, 500]
    assert "best" in seen[-1].fields


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: optimize(sphere, BOX, "ant"),
            ConfigError,
            "must be one of auto, cma, de, ga, pso",
        ),
        (lambda: optimize(sphere, BOX, "ga", 50), ConfigError, "max_evals must be >= pop_size"),
        (
            lambda: optimize(lambda x: x, BOX, "ga", 100, device="cpu"),
            DataError,
            r"fitness of generation 0: must be a tensor of shape \(100,\); got \(100, 4\)",
        ),
        (
            lambda: optimize(lambda x: sphere(x).numpy(), BOX, "ga", 100, device="cpu"),
            DataError,
            "got ndarray",
        ),
        (
            lambda: optimize(lambda x: (sphere(x),) * 3, BOX, "ga", 100, device="cpu"),
            DataError,
            "fitness, or fitness and violation",
        ),
        (
            lambda: optimize(lambda x: sphere(x.sub_(0.3)), BOX, "ga", 100, device="cpu"),
            DataError,
            "must not change the individuals",
        ),
        (lambda: optimize(sphere, BOX, GeneticAlgorithm, 100), ConfigError, "name or an optimizer"),
        (lambda: optimize(sphere, BOX, "ga", device="fast"), ConfigError, "device must be cpu"),
        (lambda: optimize(sphere, BOX, max_seconds=np.nan), ConfigError, "max_seconds"),
        (lambda: optimize(sphere, BOX, seed=1 << 63), ConfigError, "seed"),
        (lambda: GeneticAlgorithm(pop_size=5), ConfigError, "pop_size"),
        (lambda: GeneticAlgorithm(mutation_eta=20), ConfigError, "power of two"),
        (lambda: GeneticAlgorithm(n_elites=0), ConfigError, "n_elites"),
        (lambda: GeneticAlgorithm(selection="lottery"), ConfigError, "selection must be one of"),
        (lambda: GeneticAlgorithm(rank_pressure=3.0), ConfigError, "rank_pressure"),
        (lambda: ParticleSwarm(neighborhood="star"), ConfigError, "neighborhood"),
        (lambda: ParticleSwarm(inertia=1.0), ConfigError, "inertia"),
        (lambda: ParticleSwarm(constriction=True), ConfigError, "cognitive [+] social > 4"),
        (lambda: DifferentialEvolution(strategy="x"), ConfigError, "strategy must be one of"),
        (lambda: DifferentialEvolution(weight=0), ConfigError, "weight"),
        (lambda: SimulatedAnnealing(schedule="x"), ConfigError, "schedule must be one of"),
        (lambda: SimulatedAnnealing(cooling=1.0), ConfigError, "cooling"),
        (lambda: CmaEs(sigma=0), ConfigError, "sigma"),
        (lambda: CmaEs(pop_size=2), ConfigError, "pop_size must be >= 4"),
        (lambda: Memetic(epsilon_generations=-1), ConfigError, "epsilon_generations"),
        (lambda: optimize(sphere, BOX, dtype=torch.float16), ConfigError, "float32 or float64"),
        (lambda: Memetic(first_growth=99), ConfigError, "first_growth"),
        (lambda: ParticleSwarm(pop_size=2), ConfigError, "pop_size must be >= 4"),
        (lambda: ParticleSwarm(epsilon_generations=-1), ConfigError, "epsilon_generations"),
        (lambda: ParticleSwarm().init(BOX, batch=(2,), island=[1]), ConfigError, "2 islands"),
        (lambda: ParticleSwarm(pop_size=4).init(BOX, x0=np.zeros((5, 4))), ConfigError, "4 rows"),
    ],
)
def test_bad_calls_are_refused(call: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        call()


def test_a_fitness_that_raises_comes_through() -> None:
    def fitness(x: Tensor) -> Tensor:
        raise ZeroDivisionError

    with pytest.raises(PromoRayError, match="generation 0: ZeroDivisionError") as caught:
        optimize(fitness, BOX, "ga", 100, device="cpu")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_tell_without_ask_is_refused(method: Any) -> None:
    state, x = method.ask(method.init(BOX, 0))
    told = method.tell(state, sphere(x))
    with pytest.raises(ConfigError, match="must follow ask"):
        method.tell(told, sphere(x))
