"""Islands against pygmo's archipelago and Propulate, and what a second actor brings.

The peers run in the Python named by `PROMO_RAY_PEERS_PYTHON`, a venv with pygmo, propulate, mpi4py
and mpich; without it they are left out. Processor seconds count all threads and ranks. pygmo
evaluates its own function in C++ in a box that moves with the optimum, which so stays in the
middle; ours has to find it anywhere in a fixed box.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from promo_ray.bench.islands_peers import shift_of
from promo_ray.distributed import RayExecutor, session
from promo_ray.execution.threads import single_threaded
from promo_ray.optimizers import GeneticAlgorithm, Optimizer, SearchSpace, optimize_islands

_PEERS = Path(__file__).with_name("islands_peers.py")
_GA = GeneticAlgorithm(pop_size=50, mutation_eta=31)
_MIXED = ("ga", "sa", "de", "cma")


@dataclass(frozen=True)
class Shifted:
    """Rastrigin or Rosenbrock in `[-5, 5]`, negative, with the optimum moved."""

    function: str
    shift: tuple[float, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Fitness `(..., pop)` of `(..., pop, genes)`."""
        z = x - torch.tensor(self.shift, dtype=x.dtype)
        if self.function == "rastrigin":
            return (10 * torch.cos(2 * torch.pi * z) - z.square() - 10).sum(-1)
        bend = z[..., 1:] - z[..., :-1].square()
        return -(100 * bend.square() + (1 - z[..., :-1]).square()).sum(-1)


@dataclass(frozen=True)
class Costly:
    """Sphere that takes `cost_s` per call: processor time, or waiting if `is_waiting`."""

    cost_s: float
    is_waiting: bool

    def __call__(self, x: Tensor) -> Tensor:
        """Fitness `(pop,)` of `(pop, genes)`."""
        if self.is_waiting:
            time.sleep(self.cost_s)
        started = time.thread_time()
        while not self.is_waiting and time.thread_time() - started < self.cost_s:
            torch.sin(x)
        return -x.square().sum(-1)


def _ours(
    islands: Sequence[str | Optimizer[Any]], function: str, d: int, seed: int, max_evals: int
) -> dict[str, float]:
    fitness = Shifted(function, tuple(shift_of(d, seed).tolist()))
    space = SearchSpace.box([-5.0] * d, [5.0] * d)
    started = time.process_time()
    found = optimize_islands(
        fitness,
        space,
        islands,
        max_evals,
        seed=seed,
        migrate_every=20 if max_evals > 10_000 else 10,
        is_batched=True,
    )
    cpu_s = time.process_time() - started
    return {"best": -found.best_fitness, "n_evals": found.n_evals, "cpu_s": cpu_s}


def _peer(name: str, method: str, function: str, d: int, seed: int, max_evals: int) -> Any:
    python = Path(os.environ["PROMO_RAY_PEERS_PYTHON"])
    task = {"function": function, "d": d, "seed": seed, "max_evals": max_evals, "method": method}
    start = [str(python.with_name("mpiexec")), "-n", "4"] if name == "propulate" else []
    command = [*start, str(python), str(_PEERS), name, json.dumps(task)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return json.loads(done.stdout.strip().splitlines()[-1])


def _medians(run: Callable[[int], dict[str, float]], n_seeds: int) -> dict[str, float]:
    found = [run(seed) for seed in range(n_seeds)]
    return {key: statistics.median(f[key] for f in found) for key in ("best", "n_evals", "cpu_s")}


def quality(quick: bool) -> Iterator[dict[str, Any]]:
    """Best value and processor seconds at an equal budget, median over seeds."""
    has_peers = "PROMO_RAY_PEERS_PYTHON" in os.environ
    n_seeds = 2 if quick else 5
    plans: list[tuple[str, str, Any, int]] = [
        ("promo_ray", "4 x ga", [_GA] * 4, 100_000),
        ("promo_ray", "ga, sa, de, cma", _MIXED, 100_000),
        *([("pygmo", m, None, 100_000) for m in ("sga", "de1220", "mixed")] if has_peers else []),
        ("promo_ray", "4 x ga", [GeneticAlgorithm(pop_size=20)] * 4, 4_000),
        *([("propulate", "default", None, 4_000)] if has_peers else []),
    ]
    for function in ("rastrigin",) if quick else ("rastrigin", "rosenbrock"):
        for d in (20,) if quick else (20, 100):
            with single_threaded():
                _ours(
                    [_GA] * 4, function, d, 0, 10_000
                )  # what is compiled once is no cost of a run
            for library, method, islands, budget in plans:

                def one(
                    seed: int, library: str = library, method: str = method, islands: Any = islands,
                    budget: int = budget, function: str = function, d: int = d,
                ) -> dict[str, float]:  # fmt: skip
                    if library == "promo_ray":
                        return _ours(islands, function, d, seed, budget)
                    found: dict[str, float] = _peer(library, method, function, d, seed, budget)
                    return found

                place = {"bench": "islands", "case": "quality", "function": function, "d": d}
                known = {"library": library, "islands": method, "budget": budget}
                yield {**place, **known, "n_seeds": n_seeds, **_medians(one, n_seeds)}


def scaling(quick: bool) -> Iterator[dict[str, Any]]:
    """Evaluations per second of two actors over one, runs in turn, a generation of 25 ms."""
    space = SearchSpace.box([-5.0] * 20, [5.0] * 20)
    n_rounds, n_runs = (3, 1) if quick else (6, 3)
    max_evals = n_rounds * 10 * 4 * 50

    def run(executor: RayExecutor, fitness: Costly, mode: str) -> tuple[float, float]:
        found = optimize_islands(fitness, space, [_GA] * 4, max_evals, executor=executor, mode=mode)
        return found.evals_per_s, found.busy_share

    with (
        session("local", 3),
        RayExecutor(1) as one,
        RayExecutor(2) as two,
    ):
        for executor in (one, two):
            run(executor, Costly(0.0, True), "sync")  # all live
        for is_waiting in (False, True):
            for mode in ("sync", "async"):
                fitness = Costly(0.025, is_waiting)
                pairs = [(run(one, fitness, mode), run(two, fitness, mode)) for _ in range(n_runs)]
                ratios = [b[0] / a[0] for a, b in pairs]
                yield {
                    "bench": "islands",
                    "case": "scaling",
                    "work": "waiting" if is_waiting else "computing",
                    "mode": mode,
                    "evals_per_s_1": statistics.median(a[0] for a, _ in pairs),
                    "evals_per_s_2": statistics.median(b[0] for _, b in pairs),
                    "ratio": statistics.median(ratios),
                    "ratio_best": max(ratios),
                    # of one actor: with two, waiting for the slower one counts too
                    "overhead_share_1": 1 - statistics.median(a[1] for a, _ in pairs),
                    "overhead_share_2": 1 - statistics.median(b[1] for _, b in pairs),
                    "n_cpus": os.cpu_count(),
                    "load_1min": os.getloadavg()[0],
                }


def run(quick: bool = False) -> Iterator[dict[str, Any]]:
    """Records of `scaling` and `quality`.

    Args:
        quick: fewer rounds, seeds and functions, about a minute.
    """
    yield from scaling(quick)
    yield from quality(quick)
