"""Islands on actors: the bits of one process, whoever dies."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pytest
import torch
from torch import Tensor

from promo_ray.distributed import RayExecutor
from promo_ray.distributed.cells import _spread
from promo_ray.errors import PromoRayError
from promo_ray.optimizers import (
    GeneticAlgorithm,
    IslandsResult,
    ParticleSwarm,
    SearchSpace,
    optimize_islands,
)
from promo_ray.seeding import stream

BOX = SearchSpace.box([-5.0] * 5, [5.0] * 5)
ISLANDS = (
    GeneticAlgorithm(pop_size=20),
    ParticleSwarm(pop_size=20),
    GeneticAlgorithm(pop_size=20),
    ParticleSwarm(pop_size=20),
)
INTERVAL = 3 * 20


class Slow(NamedTuple):
    """Rastrigin; notes the process of every call in a file of its own, and takes a while."""

    log: str | None = None
    pause_s: float = 0.0
    slow_size: int = 0  # populations of this size take 20 times as long

    def __call__(self, x: Tensor) -> Tensor:
        if self.log is not None:
            with open(Path(self.log) / str(os.getpid()), "a") as file:
                file.write(f"{len(x)}\n")
        time.sleep(self.pause_s * (20 if len(x) == self.slow_size else 1))
        z = x - 0.7
        return -(z.square() - 10 * torch.cos(2 * torch.pi * z) + 10).sum(-1)


def search(fitness: Any, n_rounds: int, islands: Any = ISLANDS, **options: Any) -> IslandsResult:
    n_evals = n_rounds * len(islands) * INTERVAL
    settings = {"migrate_every": 3, "topology": "torus", "seed": 6, **options}
    return optimize_islands(fitness, BOX, islands, n_evals, **settings)


def same(a: IslandsResult, b: IslandsResult) -> bool:
    return (
        a.best_x.tobytes() == b.best_x.tobytes()
        and a.history == b.history
        and a.migrations.equals(b.migrations)
        and a.n_evals == b.n_evals
    )


def evaluated(log: Path) -> int:
    return sum(computed_by(int(file.name), log) for file in log.iterdir())


def computed_by(process: int, log: Path) -> int:
    file = log / str(process)
    return sum(map(int, file.read_text().split())) if file.exists() else 0


def process_of(_shard: int) -> int:
    return os.getpid()


def start_killer(log: Path, n: int, seed: int, wait_until: Callable[..., None]) -> threading.Thread:
    """Kill `n` times a process that was seen computing lately, at drawn moments."""

    def kill() -> None:
        rng, gone = stream(seed, "killer"), set()
        for _ in range(n):
            wait_until(lambda: any(int(p.name) not in gone for p in log.iterdir()), 60)
            time.sleep(float(rng.uniform(0.1, 0.5)))
            alive = sorted({int(p.name) for p in log.iterdir()} - gone)
            victim = alive[int(rng.integers(len(alive)))]
            gone.add(victim)
            os.kill(victim, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


@pytest.fixture(scope="module", params=[1, 3])
def executor(request: pytest.FixtureRequest, ray_session: Any) -> Iterator[RayExecutor]:
    with RayExecutor(request.param, num_cpus_per_worker=0.25) as opened:
        yield opened


@pytest.mark.ray
@pytest.mark.parametrize("has_checkpoint", [False, True])
def test_sync_gives_the_bits_of_one_process(
    executor: RayExecutor, has_checkpoint: bool, tmp_path: Path
) -> None:
    uri = str(tmp_path) if has_checkpoint else None
    expected = search(Slow(), 10)
    assert same(expected, search(Slow(), 10, executor=executor, checkpoint_uri=uri))
    if has_checkpoint:  # go on in this process
        longer = search(Slow(), 15, checkpoint_uri=uri)
        assert same(search(Slow(), 15), longer)


@pytest.mark.ray
def test_async_is_replayed_anywhere_bit_by_bit(executor: RayExecutor) -> None:
    first = search(Slow(), 10, mode="async", executor=executor)
    assert first.n_evals == 40 * INTERVAL
    assert same(first, search(Slow(), 1, replay=first.migrations))
    assert same(first, search(Slow(), 1, replay=first.migrations, executor=executor))


@pytest.mark.ray
@pytest.mark.parametrize(("mode", "has_checkpoint"), [("sync", True), ("async", False)])
def test_killed_actors_cost_an_interval_each_and_nothing_else(
    ray_session: Any, tmp_path: Path, wait_until: Any, mode: str, has_checkpoint: bool
) -> None:
    log, n_rounds, n_kills = tmp_path / "log", 20, 2
    log.mkdir()
    uri = str(tmp_path / "checkpoint") if has_checkpoint else None
    with RayExecutor(2, num_cpus_per_worker=0.25) as executor:
        killer = start_killer(log, n_kills, len(mode) + has_checkpoint, wait_until)
        result = search(
            Slow(str(log), 0.005), n_rounds, mode=mode, executor=executor, checkpoint_uri=uri
        )
        killer.join()
    assert result.n_evals == 4 * n_rounds * INTERVAL
    lost = evaluated(log) - result.n_evals
    assert 0 <= lost <= n_kills * INTERVAL  # of one island each: a worker computes one at a time
    if mode == "sync":
        assert same(result, search(Slow(), n_rounds))
    else:
        assert same(result, search(Slow(), 1, replay=result.migrations))


class Held(NamedTuple):
    """Kills the first of two processes; one started later waits until the second computed `goal`.

    A wait that ends without that leaves the file `given_up`.
    """

    log: str
    processes: tuple[int, ...]
    goal: int

    def __call__(self, x: Tensor) -> Tensor:
        victim, survivor = self.processes
        if os.getpid() == victim:
            os.kill(victim, signal.SIGKILL)
        if os.getpid() != survivor:
            self._wait(survivor)
        return Slow(self.log)(x)

    def _wait(self, survivor: int) -> None:
        log = Path(self.log)
        given_up, end = log.parent / "given_up", time.monotonic() + 60
        while computed_by(survivor, log) < self.goal and not given_up.exists():
            if time.monotonic() > end:
                given_up.touch()
            time.sleep(0.01)


@pytest.mark.ray
def test_while_a_lost_actor_restarts_its_islands_go_on_elsewhere(
    ray_session: Any, tmp_path: Path
) -> None:
    log, own_only = tmp_path / "log", 2 * INTERVAL  # the survivor's islands in the first round
    log.mkdir()
    with RayExecutor(2, num_cpus_per_worker=0.25) as executor:
        processes = tuple(executor.load([0, 1]).map(process_of))
        result = search(Held(str(log), processes, own_only + INTERVAL), 3, executor=executor)
    assert len(set(processes)) == 2
    assert not (tmp_path / "given_up").exists()
    assert computed_by(processes[1], log) > own_only
    assert computed_by(processes[0], log) == 0
    assert same(result, search(Slow(), 3))


@pytest.mark.ray
@pytest.mark.parametrize("executor", [3], indirect=True)
def test_in_async_a_slow_island_holds_no_fast_one(executor: RayExecutor) -> None:
    islands = (*ISLANDS, GeneticAlgorithm(pop_size=10))
    fitness = Slow(None, 0.005, slow_size=10)
    search(Slow(), 1, islands, executor=executor)  # all live
    result = search(fitness, 12, islands, mode="async", executor=executor)
    assert 2 * result.rounds[-1] < min(result.rounds[:-1])


@pytest.mark.ray
@pytest.mark.parametrize("executor", [3], indirect=True)
def test_an_error_of_the_fitness_arrives_in_one_line(executor: RayExecutor) -> None:
    def fitness(x: Tensor) -> Tensor:
        raise ZeroDivisionError("by nothing")

    for mode in ("sync", "async"):
        match = r"fitness must not raise; island \d in generation 0: ZeroDivisionError: by nothing"
        with pytest.raises(PromoRayError, match=match):
            search(fitness, 2, mode=mode, executor=executor)
    assert search(Slow(), 2, executor=executor).n_evals == 8 * INTERVAL  # still of use


@pytest.mark.ray
def test_actors_that_die_again_and_again_end_the_run(
    ray_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promo_ray.distributed.executor._MAX_RESTARTS", 1)

    def fitness(x: Tensor) -> Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        return x

    with (
        RayExecutor(2, num_cpus_per_worker=0.25) as executor,
        pytest.raises(PromoRayError, match="a worker must survive its work"),
    ):
        search(fitness, 2, executor=executor)


DRIVER = """
import sys
import ray
sys.path[:0] = [sys.argv[4], sys.argv[5]]
import test_islands
from test_islands import Slow, search
ray.cloudpickle.register_pickle_by_value(test_islands)
from promo_ray.distributed import RayExecutor
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR", namespace="test")
with RayExecutor(2, num_cpus_per_worker=0.25) as executor:
    search(Slow(None, 0.01), 500, mode=sys.argv[3], executor=executor, checkpoint_uri=sys.argv[2])
"""


@pytest.mark.ray
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_killed_driver_is_taken_up_where_it_was(
    ray_session: Any, tmp_path: Path, wait_until: Any, mode: str
) -> None:
    address = ray_session.get_runtime_context().gcs_address
    here = Path(__file__).parent
    arguments = [address, str(tmp_path), mode, str(here), str(here.parents[1])]
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, *arguments])
    index = tmp_path / "checkpoint.json"

    def rounds() -> list[int]:
        return orjson.loads(index.read_bytes())["rounds"] if index.exists() else [0]

    try:
        wait_until(lambda: min(rounds()) >= 4, 60)
    finally:
        driver.kill()
        driver.wait()
    n_rounds = max(rounds()) + 3
    result = search(Slow(), n_rounds, mode=mode, checkpoint_uri=str(tmp_path))
    assert result.n_evals == 4 * n_rounds * INTERVAL
    expected = (
        search(Slow(), n_rounds) if mode == "sync" else search(Slow(), 1, replay=result.migrations)
    )
    assert same(result, expected)


def test_cells_are_spread_by_their_costs() -> None:
    homes = _spread([1.0, 4.0, 2.0, 1.0, 3.0], 2)
    loads = np.bincount(homes, weights=[1.0, 4.0, 2.0, 1.0, 3.0])
    assert loads.tolist() == [6.0, 5.0]
