"""The kernels of the GPU give the bits of the CPU path, in Triton's interpreter where none is."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from promo_ray.optimizers import (
    DifferentialEvolution,
    GeneticAlgorithm,
    Optimizer,
    ParticleSwarm,
    SearchSpace,
    gpu,
    native,
)

_IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_DEVICE = "cpu" if _IS_INTERPRETED or not torch.cuda.is_available() else "cuda"

pytestmark = [
    pytest.mark.skipif(not gpu.has_triton, reason="needs triton (extra `gpu`)"),
    pytest.mark.skipif(
        not (_IS_INTERPRETED or torch.cuda.is_available()),
        reason="needs a GPU or TRITON_INTERPRET=1",
    ),
]

_METHODS = [
    ParticleSwarm(pop_size=10),
    ParticleSwarm(pop_size=10, neighborhood="ring", final_inertia=0.4),
    DifferentialEvolution(pop_size=10, strategy="rand1"),
    DifferentialEvolution(pop_size=10, strategy="best1"),
    DifferentialEvolution(pop_size=10, strategy="current_to_pbest1"),
    GeneticAlgorithm(pop_size=10),
    GeneticAlgorithm(pop_size=10, crossover_eta=3, mutation_eta=1, mutation_rate=0.5),
    GeneticAlgorithm(pop_size=10, mutation_rate=0.0),
]


def _searched(method: Optimizer[Any], d: int, dtype: torch.dtype, device: str) -> Any:
    """State of two islands after three generations."""
    space = SearchSpace.box([-1.0 - j % 7 for j in range(d)], [0.5 + j % 5 for j in range(d)])
    state = method.init(space, seed=5, device=device, dtype=dtype, batch=(2,))
    for _ in range(3):
        state, x = method.ask(state)
        fitness = -(x.cpu() - 0.25).square().sum(-1)
        state = method.tell(state, fitness.to(x.device))
    return state


@pytest.mark.parametrize(
    ("d", "dtype"),
    [(1, torch.float32), (9, torch.float32), (9, torch.float64), (1100, torch.float32)],
)
@pytest.mark.parametrize("method", _METHODS, ids=str)
def test_a_search_with_the_kernels_of_the_gpu_gives_the_bits_of_the_cpu(
    method: Optimizer[Any], d: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _searched(method, d, dtype, "cpu")
    calls: list[str] = []

    def counted(*arguments: Any, **constants: Any) -> None:
        calls.append(arguments[0].__name__)
        launch(*arguments, **constants)

    launch = gpu._launch
    monkeypatch.setattr(gpu, "serves", lambda _x: True)
    monkeypatch.setattr(gpu, "_launch", counted)
    found = _searched(method, d, dtype, _DEVICE)
    assert {"pso": "move", "de": "trial", "ga": "breed"}[method.method] in calls
    for name, value in expected._asdict().items():
        if isinstance(value, torch.Tensor):
            other = found._asdict()[name].cpu()
            assert other.dtype == value.dtype, name
            assert torch.equal(other, value), name


def test_tensors_of_the_cpu_are_not_for_the_gpu() -> None:
    assert not gpu.serves(torch.zeros(2, 2))
    assert native.serves(torch.zeros(2, 2)) == (native.kernel is not None)
