"""Islands against pygmo's archipelago and Propulate, and what a second actor brings.

The peers run in the Python named by `PROMO_RAY_PEERS_PYTHON`, a venv with pygmo, propulate, mpi4py
and mpich; without it they are left out. Processor seconds count all threads and ranks. pygmo
evaluates its own function in C++ in a box that moves with the optimum, which so keeps its place;
ours has to find it in a fixed box. "own function" is what a user of its Python interface gets: the
fixed box and one call of Python per individual.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from promo_ray.bench.islands_peers import BOXES, shift_of
from promo_ray.distributed import RayExecutor, session
from promo_ray.execution.threads import single_threaded
from promo_ray.optimizers import GeneticAlgorithm, Optimizer, SearchSpace, optimize_islands
from promo_ray.optimizers.archipelago import DEFAULT_ISLANDS

_PEERS = Path(__file__).with_name("islands_peers.py")
_GA = GeneticAlgorithm(pop_size=50, mutation_eta=31)
_PYGMO = ("sga", "sa", "de1220", "mixed", "sga, own function", "sa, own function")
_PEER_S = 600.0


@dataclass(frozen=True)
class Shifted:
    """Rastrigin, Rosenbrock or Ackley, negative, with the optimum moved."""

    function: str
    shift: tuple[float, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Fitness `(..., pop)` of `(..., pop, genes)`."""
        z = x - torch.tensor(self.shift, dtype=x.dtype)
        if self.function == "rastrigin":
            return (10 * torch.cos(2 * torch.pi * z) - z.square() - 10).sum(-1)
        if self.function == "ackley":
            far = torch.exp(-0.2 * z.square().mean(-1).sqrt())
            return 20 * far + torch.exp(torch.cos(2 * torch.pi * z).mean(-1)) - 20 - math.e
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
    low, high = BOXES[function]
    space = SearchSpace.box([low] * d, [high] * d)
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
    start = [str(python.with_name("mpiexec")), "-n", "8"] if name == "propulate" else []
    command = [*start, str(python), str(_PEERS), name, json.dumps(task)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=env, timeout=_PEER_S
    )
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
        ("promo_ray", "default", DEFAULT_ISLANDS, 100_000),
        *([("pygmo", m, None, 100_000) for m in _PYGMO] if has_peers else []),
        ("promo_ray", "4 x ga", [GeneticAlgorithm(pop_size=20)] * 4, 4_000),
        *([("propulate", "default", None, 4_000)] if has_peers else []),
    ]
    for function in ("rastrigin",) if quick else tuple(BOXES):
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
                try:
                    facts: dict[str, Any] = _medians(one, n_seeds)
                except (OSError, subprocess.SubprocessError) as error:
                    facts = {"error": str(error)}  # a peer that fails ends no comparison
                yield {**place, **known, "n_seeds": n_seeds, **facts}


def _waited_s(_shard: object) -> float:
    """Seconds that this thread of a worker stood ready without a core."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return math.nan


class Run(NamedTuple):
    """Evaluations per second, share of time at work, and the rate without others on the cores."""

    rate: float
    busy_share: float
    undisturbed_rate: float


def scaling(quick: bool) -> Iterator[dict[str, Any]]:
    """Evaluations per second of two actors over one, runs in turn, a generation of 25 ms.

    `ratio_undisturbed` leaves out the time in which other processes of the machine held the cores.
    """
    space = SearchSpace.box([-5.0] * 20, [5.0] * 20)
    n_rounds, n_runs = (3, 1) if quick else (6, 3)
    max_evals = n_rounds * 10 * 4 * 50

    def run(executor: RayExecutor, fitness: Costly, mode: str) -> Run:
        workers = executor.load(range(executor.n_workers))
        before = sum(workers.map(_waited_s))
        found = optimize_islands(fitness, space, [_GA] * 4, max_evals, executor=executor, mode=mode)
        waited_s = (sum(workers.map(_waited_s)) - before) / executor.n_workers
        workers.release()
        own_s = found.n_evals / found.evals_per_s - waited_s
        return Run(found.evals_per_s, found.busy_share, found.n_evals / own_s)

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
                ratios = [b.rate / a.rate for a, b in pairs]
                undisturbed = [b.undisturbed_rate / a.undisturbed_rate for a, b in pairs]
                yield {
                    "bench": "islands",
                    "case": "scaling",
                    "work": "waiting" if is_waiting else "computing",
                    "mode": mode,
                    "evals_per_s_1": statistics.median(a.rate for a, _ in pairs),
                    "evals_per_s_2": statistics.median(b.rate for _, b in pairs),
                    "ratio": statistics.median(ratios),
                    "ratio_best": max(ratios),
                    "ratio_undisturbed": statistics.median(undisturbed),
                    # of one actor: with two, waiting for the slower one counts too
                    "overhead_share_1": 1 - statistics.median(a.busy_share for a, _ in pairs),
                    "overhead_share_2": 1 - statistics.median(b.busy_share for _, b in pairs),
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
