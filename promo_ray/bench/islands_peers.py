"""Archipelagos of pygmo and Propulate, run by the Python of a venv that has them.

`python islands_peers.py pygmo '{"function": "rastrigin", "d": 20, "seed": 0, ...}'` writes one JSON
line: best value (smaller is better), evaluations and processor seconds. Imports nothing of
promo_ray, so that the venv of the peers need not hold it.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.random import Generator, Philox


def shift_of(d: int, seed: int) -> np.ndarray:
    """`(d,)` float64 place of the optimum, in [-2, 2]."""
    return Generator(Philox(seed)).uniform(-2.0, 2.0, d)


def rastrigin(z: np.ndarray) -> float:
    """Many optima; 0 at 0."""
    return float((z * z - 10 * np.cos(2 * np.pi * z) + 10).sum())


def rosenbrock(z: np.ndarray) -> float:
    """A curved valley; 0 at 1."""
    return float((100 * (z[1:] - z[:-1] ** 2) ** 2 + (1 - z[:-1]) ** 2).sum())


def ackley(z: np.ndarray) -> float:
    """A funnel in ripples; 0 at 0."""
    far = np.exp(-0.2 * np.sqrt((z * z).mean()))
    return float(20 - 20 * far + np.e - np.exp(np.cos(2 * np.pi * z).mean()))


FUNCTIONS = {"rastrigin": rastrigin, "rosenbrock": rosenbrock, "ackley": ackley}
BOXES = {"rastrigin": (-5.12, 5.12), "rosenbrock": (-5.0, 10.0), "ackley": (-15.0, 30.0)}


class OwnProblem:
    """A problem of pygmo as its users write one: Python, in the fixed box."""

    def __init__(self, function: str, shift: np.ndarray) -> None:
        self.function, self.shift = function, shift

    def fitness(self, x: np.ndarray) -> list[float]:
        """Value at `x`."""
        return [FUNCTIONS[self.function](x - self.shift)]

    def get_bounds(self) -> tuple[list[float], list[float]]:
        """Box."""
        low, high = BOXES[self.function]
        return [low] * len(self.shift), [high] * len(self.shift)


def run_pygmo(function: str, d: int, seed: int, max_evals: int, method: str) -> dict[str, Any]:
    """Four islands on a ring; `method` is an algorithm, perhaps followed by ", own function"."""
    method, _, is_own = method.partition(", ")
    pg = importlib.import_module("pygmo")
    pg.set_global_rng_seed(seed)
    makers = {
        "sga": lambda: pg.sga(
            gen=10, cr=0.9, eta_c=15, m=1 / d, param_m=20, crossover="sbx", mutation="polynomial"
        ),
        "de1220": lambda: pg.de1220(gen=10),
        "pso": lambda: pg.pso(gen=10),
        "sa": lambda: pg.simulated_annealing(
            Ts=10, Tf=0.01, n_T_adj=10, n_range_adj=1, bin_size=max(1, max_evals // (40 * d))
        ),
        "cmaes": lambda: pg.cmaes(gen=10, force_bounds=True),
    }
    names = ["sga", "de1220", "pso", "cmaes"] if method == "mixed" else [method] * 4
    shift = shift_of(d, seed)
    moved = pg.translate(getattr(pg, function)(d), shift.tolist())
    problem = pg.problem(OwnProblem(function, shift)) if is_own else moved
    n_rounds = 1 if method == "sa" else max(1, max_evals // 4000)  # all of its cooling in one
    size = 20 if method == "sa" else 100
    started = time.process_time()
    archipelago = pg.archipelago(t=pg.ring())
    for i, name in enumerate(names):
        archipelago.push_back(
            algo=pg.algorithm(makers[name]()), prob=problem, size=size, seed=seed * 100 + i
        )
    for _ in range(n_rounds):
        archipelago.evolve()
        archipelago.wait_check()
    n_evals = sum(island.get_population().problem.get_fevals() for island in archipelago)
    best = min(float(f[0]) for f in archipelago.get_champions_f())
    cpu_s = time.process_time() - started
    if is_own:  # evolved in processes of a pool, which count once they have ended
        pg.mp_island.shutdown_pool()
        children = os.times()
        cpu_s += children.children_user + children.children_system
    return {"best": best, "n_evals": n_evals, "cpu_s": cpu_s}


def run_propulate(function: str, d: int, seed: int, max_evals: int, method: str) -> dict[str, Any]:
    """Four islands of two ranks with its defaults; start it by mpiexec -n 8.

    An island of one rank waits for ever: it sends to itself and blocks (1.2.2, MPICH 5).
    """
    mpi = importlib.import_module("mpi4py.MPI")
    propulate = importlib.import_module("propulate")
    utils = importlib.import_module("propulate.utils")
    logging.disable(logging.CRITICAL)
    rank = mpi.COMM_WORLD.rank
    rng = Random(seed * 100 + rank)
    limits = {f"x{i}": BOXES[function] for i in range(d)}
    names, shift = list(limits), shift_of(d, seed)
    seen: list[float] = []

    def loss(individual: Any) -> float:
        z = np.array([individual[name] for name in names]) - shift
        seen.append(FUNCTIONS[function](z))
        return seen[-1]

    started = time.process_time()
    with tempfile.TemporaryDirectory() as directory:
        islands = propulate.Islands(
            loss_fn=loss,
            propagator=utils.get_default_propagator(100, limits, rng=rng),
            rng=rng,
            generations=max_evals // mpi.COMM_WORLD.size,
            num_islands=mpi.COMM_WORLD.size // 2,
            checkpoint_path=Path(directory),
        )
        islands.propulate(logging_interval=10**9, debug=-1)
    cpu_s = mpi.COMM_WORLD.allreduce(time.process_time() - started)
    best = mpi.COMM_WORLD.allreduce(min(seen), op=mpi.MIN)
    n_evals = mpi.COMM_WORLD.allreduce(len(seen))
    return {"best": best, "n_evals": n_evals, "cpu_s": cpu_s, "is_first": rank == 0}


if __name__ == "__main__":
    found = {"pygmo": run_pygmo, "propulate": run_propulate}[sys.argv[1]](**json.loads(sys.argv[2]))
    if found.pop("is_first", True):
        sys.stdout.write(json.dumps(found) + "\n")
