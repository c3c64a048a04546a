"""Population methods against peers: speed, quality on Rastrigin, COCO's targets.

The peers run in the Python named by `PROMO_RAY_PEERS_PYTHON`, a venv with evox, pygmo, cma, pymoo
and coco-experiment, each case in a process of its own on one thread; without it only our own
figures are measured. Rates are evaluations per processor second of one thread.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import platform
import statistics
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from promo_ray.bench.optimizers_peers import TARGETS
from promo_ray.execution.threads import single_threaded
from promo_ray.optimizers import (
    DifferentialEvolution,
    GeneticAlgorithm,
    Integer,
    Memetic,
    Optimizer,
    ParticleSwarm,
    Real,
    SearchSpace,
    SimulatedAnnealing,
    native,
    optimize,
)

_PEERS = Path(__file__).with_name("optimizers_peers.py")
_PYTHON = "PROMO_RAY_PEERS_PYTHON"
_N = 1_000
_INSTANCES = (6, 7)  # of COCO's functions; settings were chosen on lower numbers
_METHODS: dict[str, Optimizer[Any]] = {
    "pso": ParticleSwarm(pop_size=_N),
    "de": DifferentialEvolution(pop_size=_N),
    "ga": GeneticAlgorithm(pop_size=_N),
}


class Rastrigin:
    """Shifted Rastrigin, larger is better, 0 at most; few passes over memory."""

    def __init__(self, d: int, device: str = "cpu") -> None:
        self.shift = torch.linspace(-2, 2, d, device=device)
        self.tens = torch.full((d,), 10.0, device=device)

    def __call__(self, x: Tensor) -> Tensor:
        """`(pop, genes)` to `(pop,)`."""
        z = x - self.shift
        waves = torch.mul(z, 2 * math.pi).cos_()
        return torch.mv(waves.addcmul_(z, z, value=-0.1), self.tens).sub_(10 * x.shape[-1])


def rastrigin_box(d: int) -> SearchSpace:
    """Its box."""
    return SearchSpace.box([-5.12] * d, [5.12] * d)


def speed(name: str, d: int = 100, n_generations: int = 1_000, n_runs: int = 5) -> dict[str, Any]:
    """Evaluations per processor second of `optimize`, history and fitness included."""
    fitness, space = Rastrigin(d), rastrigin_box(d)
    rates = []
    with single_threaded():
        optimize(fitness, space, _METHODS[name], 20 * _N, device="cpu")
        for seed in range(n_runs):
            started = time.process_time()
            found = optimize(
                fitness, space, _METHODS[name], n_generations * _N, seed=seed, device="cpu"
            )
            rates.append(found.n_evals / (time.process_time() - started))
    return {
        "case": "speed",
        "method": name,
        "d": d,
        "evals_per_cpu_s": statistics.median(rates),
        "spread": max(rates) - min(rates),
        "has_kernel": native.kernel is not None,
    }


def quality(name: str, d: int, n_seeds: int = 5) -> dict[str, Any]:
    """Median best value at 100,000 evaluations, P = 1,000 (annealing: 40,000, its own chains)."""
    method = SimulatedAnnealing() if name == "sa" else _METHODS[name]
    max_evals = 40_000 if name == "sa" else 100_000
    with single_threaded():
        best = [
            -optimize(
                Rastrigin(d), rastrigin_box(d), method, max_evals, seed=s, device="cpu"
            ).best_fitness
            for s in range(n_seeds)
        ]
    return {
        "case": "rastrigin",
        "method": name,
        "d": d,
        "n_evals": max_evals,
        "best": statistics.median(best),
        "spread": max(best) - min(best),
    }


def targets(
    suite: str, d: int, instance: int = 1, per_gene: int = 1_000, seed: int = 1
) -> dict[str, Any]:
    """Share of COCO's targets that the default method reaches; the peers' Python evaluates."""
    settings = {"suite": suite, "d": d, "per_gene": per_gene, "instance": instance}
    command = [os.environ[_PYTHON], str(_PEERS), "serve", json.dumps(settings)]
    cpu_s = 0.0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        if server.stdin is None or server.stdout is None:
            raise RuntimeError("pipes to the peers must open")
        while "targets" not in (header := json.loads(server.stdout.readline())):
            started = time.process_time()
            with single_threaded():
                _solve(server.stdin, server.stdout, header, seed)
            cpu_s += time.process_time() - started
    return {"case": suite, "method": "auto", **settings, **header, "cpu_s": cpu_s}


def _solve(sink: Any, source: Any, header: dict[str, Any], seed: int) -> None:
    """The default method on one function that another process evaluates."""
    bounds = zip(header["lower"], header["upper"], strict=True)
    genes = [
        Integer(int(a), int(b)) if i < header["n_whole"] else Real(a, b)
        for i, (a, b) in enumerate(bounds)
    ]
    method = Memetic()
    state = method.init(SearchSpace(tuple(genes)), seed, dtype=torch.float64)
    left, gap = header["budget"], math.inf
    while left > 0 and gap > TARGETS[-1]:
        state, x = method.ask(state)
        rows = x.numpy().astype("<f8")
        sink.write(struct.pack("<i", len(rows)) + rows.tobytes())
        sink.flush()
        values = np.frombuffer(source.read(8 * (len(rows) + 1)), dtype="<f8")
        gap = float(values[-1])
        left -= len(rows)
        state = method.tell(state, -torch.from_numpy(values[:-1].copy()))
    sink.write(struct.pack("<i", 0))
    sink.flush()


def peer(name: str, **settings: Any) -> dict[str, Any]:
    """A peer in a process of its own."""
    command = [os.environ[_PYTHON], str(_PEERS), name, json.dumps(settings)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    found = json.loads(done.stdout.splitlines()[-1])
    if "n_evals" in found:
        found["evals_per_cpu_s"] = found["n_evals"] / found["cpu_s"]
    return {"peer": name, **settings, **found}


def run(quick: bool = False) -> Iterator[dict[str, Any]]:
    """Records of all cases.

    Args:
        quick: speed at d = 100 alone, and its peers.
    """
    machine = {"bench": "optimizers", "torch": torch.__version__, "machine": platform.machine()}
    has_peers = _PYTHON in os.environ
    for name in _METHODS:
        yield {**machine, **speed(name)}
        if has_peers:
            for library in ("evox", "pygmo"):
                settings = {"method": name, "d": 100, "n": _N, "max_evals": 100_000, "seed": 0}
                yield {**machine, "case": "speed", **peer(library, **settings)}
    if quick:
        return
    for name, d in (("ga", 20), ("ga", 100), ("pso", 20), ("de", 20), ("sa", 20)):
        yield {**machine, **quality(name, d)}
    if not has_peers:
        return
    for library in ("evox", "pygmo"):
        for d in (20, 100):
            settings = {"method": "ga", "d": d, "n": _N, "max_evals": 100_000}
            runs = [peer(library, **settings, seed=s) for s in range(5)]
            best = statistics.median(r["best"] for r in runs)
            yield {**machine, "case": "rastrigin", **runs[0], "best": best}
    cases = itertools.product(("bbob", "bbob-mixint"), (5, 20), _INSTANCES)
    for suite, d, instance in cases:
        yield {**machine, **targets(suite, d, instance)}
        settings = {"suite": suite, "d": d, "per_gene": 1_000, "seed": 1, "instance": instance}
        for options in ({}, {"popsize": 50}, {"restarts": 9}):
            yield {**machine, "case": suite, **peer("pycma", **settings, **options)}
        if suite == "bbob-mixint":
            yield {**machine, "case": suite, **peer("pymoo", **settings)}
