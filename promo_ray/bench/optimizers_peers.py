"""Single-population peers, and COCO's functions, run by the Python of a venv that has them.

`python optimizers_peers.py evox '{"method": "pso", "d": 100, ...}'` writes one JSON line: best
value (smaller is better), evaluations and processor seconds. With `serve` and settings of a suite
it evaluates COCO functions for the caller. Imports nothing of promo_ray, so that the venv of the
peers need not hold it.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TARGETS = 10.0 ** np.linspace(2, -8, 51)


def run_evox(method: str, d: int, n: int, max_evals: int, seed: int) -> dict[str, Any]:
    """PSO, DE or a GA of EvoX's operators on shifted Rastrigin, float32."""
    torch = importlib.import_module("torch")
    torch.default_generator.manual_seed(seed)  # EvoX draws from nothing else
    torch.set_num_threads(1)
    shift, tens = torch.linspace(-2, 2, d), torch.full((d,), 10.0)

    def fitness(x: Any) -> Any:  # in as few passes over memory as ours
        z = x - shift
        waves = torch.mul(z, 2 * math.pi).cos_()
        return 10 * d - torch.mv(waves.addcmul_(z, z, value=-0.1), tens)

    low, high = torch.full((d,), -5.12), torch.full((d,), 5.12)
    step = _evox_ga(torch, fitness, low, high, n) if method == "ga" else None
    if step is None:
        kind = {"pso": "PSO", "de": "DE"}[method]
        algorithm = getattr(importlib.import_module("evox.algorithms"), kind)(n, low, high)
        algorithm.evaluate = fitness
        algorithm.init_step()

        def step() -> float:
            algorithm.step()
            return float(algorithm.fit.min())

    for _ in range(3):
        step()
    best = math.inf
    started = time.process_time()
    for _ in range(max_evals // n):
        best = min(best, step())
    seconds = time.process_time() - started
    return {"best": best, "n_evals": max_evals // n * n, "cpu_s": seconds}


def _evox_ga(torch: Any, fitness: Any, low: Any, high: Any, n: int) -> Callable[[], float]:
    operators = importlib.import_module("evox.operators")
    state = {"x": low + torch.rand(n, len(low)) * (high - low)}
    state["f"] = fitness(state["x"])

    def step() -> float:
        parents = operators.selection.tournament_selection(n, state["f"])
        children = operators.crossover.simulated_binary(state["x"][parents], dis_c=15)
        children = operators.mutation.polynomial_mutation(children, low, high)
        x = torch.cat([state["x"], children])
        f = torch.cat([state["f"], fitness(children)])
        kept = torch.topk(f, n, largest=False).indices
        state["x"], state["f"] = x[kept], f[kept]
        return float(state["f"].min())

    return step


def run_pygmo(method: str, d: int, n: int, max_evals: int, seed: int) -> dict[str, Any]:
    """A method of pygmo on its own Rastrigin in C++, moved off the middle of its box."""
    pg = importlib.import_module("pygmo")
    pg.set_global_rng_seed(seed)
    n_generations = max_evals // n - 1
    makers = {
        "ga": lambda: pg.sga(
            gen=n_generations, cr=0.9, eta_c=15, m=1 / d, param_m=20, crossover="sbx",
            mutation="polynomial",
        ),
        "pso": lambda: pg.pso(gen=n_generations),
        "de": lambda: pg.de1220(gen=n_generations),
    }  # fmt: skip
    problem = pg.translate(pg.rastrigin(d), np.linspace(-2, 2, d).tolist())
    started = time.process_time()
    population = pg.algorithm(makers[method]()).evolve(pg.population(problem, n))
    seconds = time.process_time() - started
    return {"best": float(population.champion_f[0]), "n_evals": max_evals, "cpu_s": seconds}


class Counted:
    """A COCO function that counts its calls and knows how near to the optimum they came."""

    def __init__(self, problem: Any, optimum: float, budget: int) -> None:
        self.problem, self.optimum, self.budget = problem, optimum, budget
        self.n_evals, self.gap = 0, math.inf

    def __call__(self, x: Any) -> float:
        """Value at a point; nothing counts beyond the budget."""
        if self.n_evals >= self.budget:
            return 1e30
        value = float(self.problem(x))
        self.n_evals += 1
        self.gap = min(self.gap, value - self.optimum)
        return value


def coco(suite: str, d: int, per_gene: int, instance: int = 1) -> list[Counted]:
    """The functions of a suite; their optima are told through a file alone."""
    cocoex = importlib.import_module("cocoex")
    options = (suite, "", f"dimensions:{d} instance_indices:{instance}")
    optima = []
    with tempfile.TemporaryDirectory() as folder:
        here = Path.cwd()
        os.chdir(folder)
        for problem in cocoex.Suite(*options):
            problem._best_parameter("print")
            optima.append(float(problem(np.loadtxt("._bbob_problem_best_parameter.txt"))))
        os.chdir(here)
    problems = list(cocoex.Suite(*options).ids())
    fresh = cocoex.Suite(*options)
    found = [fresh.get_problem(name) for name in problems]
    return [Counted(p, f, per_gene * d) for p, f in zip(found, optima, strict=True)]


def scored(functions: list[Counted]) -> dict[str, Any]:
    """Share of COCO's 51 targets reached over all functions, and functions solved to 1e-8."""
    shares = [float((f.gap <= TARGETS).mean()) for f in functions]
    return {
        "targets": float(np.mean(shares)),
        "solved": sum(f.gap <= 1e-8 for f in functions),
        "n_functions": len(functions),
    }


def run_pycma(
    suite: str,
    d: int,
    per_gene: int,
    seed: int,
    instance: int = 1,
    popsize: int = 0,
    restarts: int = 0,
) -> dict[str, Any]:
    """Pycma from a random point, sigma a quarter of the box, whole numbers declared."""
    cma = importlib.import_module("cma")
    warnings.simplefilter("ignore")
    started = time.process_time()
    functions = coco(suite, d, per_gene, instance)
    for function in functions:
        low, high = function.problem.lower_bounds, function.problem.upper_bounds
        rng = np.random.Generator(np.random.Philox(seed))
        options = {
            "bounds": [list(low), list(high)], "verbose": -9, "seed": seed + 1,
            "maxfevals": function.budget, "ftarget": function.optimum + 1e-8,
            "CMA_stds": (high - low) / 4,
        }  # fmt: skip
        n_whole = getattr(function.problem, "number_of_integer_variables", 0)
        options |= {"integer_variables": list(range(n_whole))} if n_whole else {}
        options |= {"popsize": popsize} if popsize else {}
        start = [rng.uniform(low, high) for _ in range(restarts + 1)]
        cma.fmin(
            function, lambda s=start: s.pop() if s else None, 1.0, options=options,
            restarts=restarts, bipop=restarts > 0,
        )  # fmt: skip
    return {**scored(functions), "cpu_s": time.process_time() - started}


def run_pymoo(suite: str, d: int, per_gene: int, seed: int, instance: int = 1) -> dict[str, Any]:
    """Pymoo's MixedVariableGA of 50 on the mixed suite."""
    mixed = importlib.import_module("pymoo.core.mixed")
    variable = importlib.import_module("pymoo.core.variable")
    problem_class = importlib.import_module("pymoo.core.problem").ElementwiseProblem
    minimize = importlib.import_module("pymoo.optimize").minimize
    started = time.process_time()
    functions = coco(suite, d, per_gene, instance)
    for function in functions:
        n_whole = getattr(function.problem, "number_of_integer_variables", 0)
        bounds = list(
            zip(function.problem.lower_bounds, function.problem.upper_bounds, strict=True)
        )
        kinds = {
            f"x{i:03d}": variable.Integer(bounds=(int(a), int(b)))
            if i < n_whole
            else variable.Real(bounds=(float(a), float(b)))
            for i, (a, b) in enumerate(bounds)
        }

        def evaluate(_: Any, x: Any, out: Any, f: Any = function, **__: Any) -> None:
            out["F"] = f(np.array([x[name] for name in sorted(x)], dtype=float))

        own = type("Coco", (problem_class,), {"_evaluate": evaluate})
        algorithm = mixed.MixedVariableGA(pop_size=50)
        minimize(own(vars=kinds, n_obj=1), algorithm, ("n_eval", function.budget), seed=seed)
    return {**scored(functions), "cpu_s": time.process_time() - started}


def serve(suite: str, d: int, per_gene: int, instance: int = 1) -> None:
    """Evaluate for the caller: a header per function as a line, then float64 rows both ways.

    The caller sends the number of rows (int32) and the rows; it gets their values and the gap to
    the optimum so far. Zero rows end a function. The last line is the score.
    """
    functions = coco(suite, d, per_gene, instance)
    read, write = sys.stdin.buffer, sys.stdout.buffer
    for function in functions:
        n_whole = getattr(function.problem, "number_of_integer_variables", 0)
        header = {
            "lower": list(function.problem.lower_bounds),
            "upper": list(function.problem.upper_bounds),
            "n_whole": n_whole,
            "budget": function.budget,
        }
        write.write(json.dumps(header).encode() + b"\n")
        write.flush()
        while n := struct.unpack("<i", read.read(4))[0]:
            rows = np.frombuffer(read.read(8 * n * d), dtype="<f8").reshape(n, d)
            values = [function(row) for row in rows]
            write.write(struct.pack(f"<{n + 1}d", *values, function.gap))
            write.flush()
    write.write(json.dumps(scored(functions)).encode() + b"\n")
    write.flush()


if __name__ == "__main__":
    own: dict[str, Callable[..., Any]] = {
        "evox": run_evox, "pygmo": run_pygmo, "pycma": run_pycma, "pymoo": run_pymoo, "serve": serve
    }  # fmt: skip
    found = own[sys.argv[1]](**json.loads(sys.argv[2]))
    if found is not None:
        sys.stdout.write(json.dumps(found) + "\n")
