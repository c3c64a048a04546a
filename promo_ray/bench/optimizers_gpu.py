"""Generations of the population methods on a GPU: time and share of the copy bandwidth.

Bytes per gene are the least that a generation must move in float32, random numbers made in
registers. `has_kernel` false: tensor code, where Triton is missing.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch

from promo_ray.bench.optimizers import Rastrigin, rastrigin_box
from promo_ray.optimizers import (
    DifferentialEvolution,
    GeneticAlgorithm,
    Optimizer,
    ParticleSwarm,
    gpu,
)

_N_COPIED = 1 << 28  # float32, 1 GiB
_SIZES = ((10_000, 1_000), (100_000, 100), (1_000_000, 100))


def _methods(n: int) -> dict[str, tuple[Optimizer[Any], int]]:
    """Methods of a population size, and bytes per gene: rows read and written, 4 each.

    PSO reads position, speed and best and writes the first two; DE reads four rows and writes
    one; a pair of parents gives two children, and survivors are copied.
    """
    return {
        "pso": (ParticleSwarm(pop_size=n), 20),
        "de": (DifferentialEvolution(pop_size=n), 20),
        "ga": (GeneticAlgorithm(pop_size=n), 16),
    }


def _event() -> Any:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _seconds(action: Callable[[], object], n: int = 50, n_runs: int = 5) -> float:
    """Median time of an action on the device, launches overlapped as in a search."""
    for _ in range(5):
        action()
    times = []
    for _ in range(n_runs):
        first, last = (_event() for _ in range(2))
        first.record()
        for _ in range(n):
            action()
        last.record()
        torch.cuda.synchronize()
        times.append(float(first.elapsed_time(last)) / n / 1000)
    return statistics.median(times)


def copy_bandwidth() -> float:
    """Bytes per second, read and written, of a copy in device memory."""
    source = torch.zeros(_N_COPIED, device="cuda")
    target = torch.empty_like(source)
    return 2 * 4 * _N_COPIED / _seconds(lambda: target.copy_(source), n=10)


def generation(name: str, n: int, d: int, bandwidth: float) -> dict[str, Any]:
    """One method: time of ask and tell, of these with the fitness, share of copy bandwidth."""
    method, n_bytes = _methods(n)[name]
    fitness = Rastrigin(d, "cuda")
    state = method.init(rastrigin_box(d), device="cuda")
    state, x = method.ask(state)
    values = fitness(x)

    def step(evaluates: bool) -> None:
        nonlocal state
        state, x = method.ask(state)
        state = method.tell(state, fitness(x) if evaluates else values)

    state = method.tell(state, values)
    whole = _seconds(lambda: step(True))
    own = _seconds(lambda: step(False))
    return {
        "case": "generation",
        "method": name,
        "pop": n,
        "d": d,
        "generation_us": own * 1e6,
        "with_fitness_us": whole * 1e6,
        "evals_per_s": n / whole,
        "bytes_per_gene": n_bytes,
        "share_of_copy": n * d * n_bytes / own / bandwidth,
        "has_kernel": gpu.kernels is not None,
    }


def run(quick: bool = False) -> Iterator[dict[str, Any]]:
    """Records of all cases; one that says `skipped` where there is no GPU.

    Args:
        quick: the first size alone.
    """
    if not torch.cuda.is_available():
        yield {"bench": "optimizers_gpu", "skipped": "needs a GPU that torch can use (CUDA)"}
        return
    bandwidth = copy_bandwidth()
    machine = {"bench": "optimizers_gpu", "device": torch.cuda.get_device_name()}
    yield {**machine, "case": "copy", "bytes_per_s": bandwidth}
    for n, d in _SIZES[:1] if quick else _SIZES:
        for name in ("pso", "de", "ga"):
            yield {**machine, **generation(name, n, d, bandwidth)}
