"""One solver on one instance in a process of its own.

    python -m promo_ray.bench.allocation_peers SOLVER INSTANCE OUT.json [N_RUNS] [mapped]

SOLVER is a name of `SOLVERS`, INSTANCE a directory of `allocation_instances.write`; OUT.json gets
one object, `{"skipped": reason}` where a peer is not installed. N_RUNS and memory-mapped reading
are for promo_ray.

Peers are imported inside functions: each is optional, and two native linear-programming libraries
in one process can break each other (OR-Tools bundles a libhighs of its own), which is also why
`promo_ray.allocation` (SciPy, hence HiGHS) is loaded only where it is the solver.

Peers are judged by their raw answer: `bound` is the exact dual value at their prices made >= 0,
`row_violation` the worst excess of a row relative to its limit. Processor seconds are of the
solver's own call; building its model is `build_s`. `peak_mb` is the most memory over the loaded
arrays, models included; `scratch_mb` is ours without the answer itself.
"""

from __future__ import annotations

import importlib
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from promo_ray import __version__
from promo_ray.bench.allocation_dualip import solve_by_dualip
from promo_ray.bench.allocation_instances import Case, Instance, generate, read
from promo_ray.bench.allocation_judges import excess, lagrangian, total_value
from promo_ray.bench.allocation_meter import Peak, read_bandwidth
from promo_ray.bench.allocation_program import Program, Record, Timer, judged, program
from promo_ray.execution.threads import single_threaded
from promo_ray.seeding import stream
from promo_ray.telemetry import json_line

_WARM_USERS = 1_000_000  # beyond, a second copy of the values is not worth its memory


def _highs(instance: Instance, _: int) -> Record:
    """Interior point with crossover, one thread; SciPy's HiGHS where highspy is not installed."""
    n, timer = len(instance.value), Timer()
    with Peak() as peak:
        lp = program(instance)
        if importlib.util.find_spec("highspy") is None:
            optimize = importlib.import_module("scipy.optimize")
            timer.mark()
            found = optimize.linprog(
                lp.cost, A_ub=lp.matrix, b_ub=lp.limit, bounds=(0, None), method="highs-ipm"
            )
            timer.mark()
            x, prices, passes = found.x, -found.ineqlin.marginals[n:], int(found.nit)
            version = f"of scipy {scipy.__version__}"
        else:
            highspy = importlib.import_module("highspy")
            solver = _highs_model(highspy, lp)
            timer.mark()
            solver.run()
            timer.mark()
            solution = solver.getSolution()
            x, prices = np.array(solution.col_value), -np.array(solution.row_dual)[n:]
            passes, version = int(solver.getInfo().ipm_iteration_count), solver.version()
    told = {"version": version, "n_passes": passes, "peak_mb": peak.mb}
    return {**told, **timer.record(), **judged(instance, lp, x, prices)}


def _highs_model(highspy: Any, lp: Program) -> Any:
    model = highspy.HighsLp()
    model.num_row_, model.num_col_ = lp.matrix.shape
    model.col_cost_, model.row_upper_ = lp.cost, lp.limit
    model.col_lower_ = np.zeros(len(lp.cost))
    model.col_upper_ = np.full(len(lp.cost), np.inf)
    model.row_lower_ = np.full(len(lp.limit), -np.inf)
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_, model.a_matrix_.index_ = lp.matrix.indptr, lp.matrix.indices
    model.a_matrix_.value_ = lp.matrix.data
    solver = highspy.Highs()
    settings = {"output_flag": False, "solver": "ipm", "run_crossover": "on", "threads": 1}
    for name, value in settings.items():
        solver.setOptionValue(name, value)
    solver.passModel(model)
    return solver


def _pdlp(tolerance: float) -> Callable[[Instance, int], Record]:
    def solve(instance: Instance, _: int) -> Record:
        if importlib.util.find_spec("ortools") is None:
            return {"skipped": "ortools is not installed"}
        pdlp = importlib.import_module("ortools.pdlp.python.pdlp")
        settings = importlib.import_module("ortools.pdlp.solvers_pb2")
        n, timer = len(instance.value), Timer()
        with Peak() as peak:
            lp = program(instance)
            model = pdlp.QuadraticProgram()
            model.resize_and_initialize(len(lp.cost), len(lp.limit))
            model.objective_vector, model.constraint_matrix = lp.cost, lp.matrix
            model.constraint_lower_bounds = np.full(len(lp.limit), -np.inf)
            model.constraint_upper_bounds = lp.limit
            model.variable_lower_bounds = np.zeros(len(lp.cost))
            model.variable_upper_bounds = np.full(len(lp.cost), np.inf)
            params = settings.PrimalDualHybridGradientParams(num_threads=1)
            ends = params.termination_criteria.simple_optimality_criteria
            ends.eps_optimal_relative = ends.eps_optimal_absolute = tolerance
            timer.mark()
            found = pdlp.primal_dual_hybrid_gradient(model, params)
            timer.mark()
        x, prices = np.array(found.primal_solution), -np.array(found.dual_solution)[n:]
        told = {
            "version": importlib.import_module("ortools").__version__,
            "n_passes": int(found.solve_log.iteration_count),
            "peak_mb": peak.mb,
        }
        return {**told, **timer.record(), **judged(instance, lp, x, prices)}

    return solve


def _promo_ray(instance: Instance, n_runs: int) -> Record:
    """Ours, warmed by a tiny problem; cold runs, then one from the prices of the last."""
    allocation = importlib.import_module("promo_ray.allocation")
    tiny = generate(Case("dense", 200))
    allocation.solve(allocation.AllocationProblem(**tiny.arguments()))
    is_mapped = isinstance(instance.value, np.memmap)
    started = time.process_time()
    problem = allocation.AllocationProblem(**instance.arguments())
    build_s = time.process_time() - started
    cpu, wall, peaks = [], [], []
    for _ in range(n_runs):
        with Peak(anonymous_only=is_mapped) as peak:
            started, began = time.process_time(), time.perf_counter()
            found = allocation.solve(problem)
            cpu.append(time.process_time() - started)
            wall.append(time.perf_counter() - began)
        peaks.append(peak.mb)
    passed = (instance.value, instance.costs, instance.offer_idx, instance.capacity_use)
    pass_bytes = sum(table.nbytes for table in passed if table is not None)
    over = excess(instance, found.choice)
    dual = lagrangian(instance, found.prices)
    bandwidth = read_bandwidth()
    cpu_s = statistics.median(cpu)
    return {
        "version": __version__,
        "build_s": build_s,
        "cpu_s": cpu_s,
        "cpu_s_spread": max(cpu) - min(cpu),
        "wall_s": statistics.median(wall),
        "n_runs": n_runs,
        "peak_mb": max(peaks),
        "scratch_mb": max(0.0, max(peaks) - found.choice.nbytes / 2**20),
        "value": found.value,
        "bound": found.bound,
        "gap": found.gap,
        "n_passes": found.n_passes,
        "n_split_users": found.n_split_users,
        "converged": found.converged,
        "is_feasible": bool((over <= 0).all()),
        "value_error": found.value - total_value(instance, found.choice),
        "bound_over_dual": (found.bound - dual) / max(abs(dual), 1e-9),
        "data_mb": pass_bytes / 2**20,
        "bandwidth_gb_s": bandwidth / 1e9,
        "bandwidth_rate": pass_bytes * found.n_passes / cpu_s / bandwidth,
        **_warm(allocation, instance, found.prices),
    }


def _warm(allocation: Any, instance: Instance, prices: Any) -> Record:
    """Passes from prices of a problem whose values and limits were up to 5 % other."""
    if len(instance.value) > _WARM_USERS:
        return {}
    rng = stream(0, "bench.allocation", "warm")
    noise = rng.standard_normal(instance.value.shape, dtype=np.float32)
    moved = instance._replace(value=instance.value * (1.0 + np.float32(0.05) * noise))
    moved = moved._replace(budgets=moved.budgets * rng.uniform(0.95, 1.05, len(moved.budgets)))
    problem = allocation.AllocationProblem(**moved.arguments())
    started = time.process_time()
    found = allocation.solve(problem, warm_prices=prices)
    return {
        "warm_cpu_s": time.process_time() - started,
        "warm_passes": found.n_passes,
        "warm_gap": found.gap,
        "warm_converged": found.converged,
    }


SOLVERS: Mapping[str, Callable[[Instance, int], Record]] = {
    "promo_ray": _promo_ray,
    "highs": _highs,
    "pdlp_1e-4": _pdlp(1e-4),
    "pdlp_1e-6": _pdlp(1e-6),
    "dualip": solve_by_dualip,
}


def main(arguments: list[str]) -> None:
    """Run one solver and write its record."""
    solver, directory, out, *more = arguments
    instance = read(Path(directory), is_mapped="mapped" in more)
    n_runs = int(more[0]) if more else 1
    with single_threaded():
        record = SOLVERS[solver](instance, n_runs)
    Path(out).write_text(json_line(record))


if __name__ == "__main__":
    main(sys.argv[1:])
