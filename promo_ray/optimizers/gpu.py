"""Binding of the Triton kernels of the population methods; see `native`, which calls it.

Triton is optional: without it tensor code gives the same individuals in ten to thirty passes over
memory. Products and sums are rounded on their own (no fused multiply-add) and random numbers are
those of the CPU, so a generation gives the bits that the CPU gives. Where there is no GPU,
Triton's interpreter (`TRITON_INTERPRET=1`) runs the kernels on tensors of the CPU, for tests.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from promo_ray.errors import ConfigError

_TILE = 1024  # elements of a program
_MAX_ISLANDS = 65_535  # third axis of a grid of CUDA
_KERNELS = "promo_ray.optimizers.triton_kernels.generation"

has_triton = importlib.util.find_spec("triton") is not None
kernels: Any = importlib.import_module(_KERNELS) if has_triton else None


def serves(x: Tensor) -> bool:
    """Whether the kernels can work on a tensor."""
    return kernels is not None and x.is_cuda


def _params(key: NDArray[np.uint64], start: int, scalars: Sequence[float], like: Tensor) -> Tensor:
    """Keys, first word and the bits of float64 scalars, `(islands + 1 + scalars,)` int64."""
    numbers = np.concatenate(
        [key.view(np.int64), np.array([start]), np.array(scalars, "f8").view(np.int64)]
    )
    return torch.from_numpy(numbers).to(like.device, non_blocking=True)


def _launch(kernel: Any, n: int, d: int, n_islands: int, *arguments: Any, **constants: Any) -> None:
    """Run a kernel on tiles of n rows and d columns of every island."""
    if n_islands > _MAX_ISLANDS:
        raise ConfigError(f"islands on a GPU must be at most {_MAX_ISLANDS}; got {n_islands}")
    cols = min(_TILE, 1 << (d - 1).bit_length())
    rows = _TILE // cols
    grid = (-(-n // rows), -(-d // cols), n_islands)
    options = {**constants, "ROWS": rows, "COLS": cols, "enable_fp_fusion": False}
    with torch.cuda.device_of(arguments[0]):  # type: ignore[no-untyped-call]
        kernel[grid](*arguments, **options)


def chosen_rows(mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """See `native.chosen_rows`."""
    mask, new, old = mask.contiguous(), new.contiguous(), old.contiguous()
    out = torch.empty_like(new)
    n, d = mask.numel(), new.shape[-1]
    _launch(kernels.rows, n, d, 1, mask.view(torch.uint8), new, old, out, n, d)
    return out


def survivors(old: Tensor, new: Tensor, order: Tensor) -> Tensor:
    """See `native.survivors`."""
    old, new, order = old.contiguous(), new.contiguous(), order.contiguous()
    n_old, n_new, d = old.shape[-2], new.shape[-2], new.shape[-1]
    k = order.shape[-1]
    out = new.new_empty(*order.shape, d)
    _launch(kernels.survivors, k, d, order.numel() // k, old, new, order, out, k, n_old, n_new, d)
    return out


def move(
    x: Tensor,
    velocity: Tensor,
    best: Tensor,
    leaders: Tensor,
    key: NDArray[np.uint64],
    start: int,
    bounds: tuple[Tensor, Tensor],
    pulls: tuple[float, float, float],
) -> tuple[Tensor, Tensor]:
    """See `native.move`."""
    n, d = x.shape[-2:]
    params = _params(key, start, (pulls[0], pulls[1] / 65536, pulls[2] / 65536), x)
    tensors = [t.contiguous() for t in (x, velocity, best, leaders, *bounds)]
    out = torch.empty_like(tensors[0]), torch.empty_like(tensors[0])
    _launch(kernels.move, n, d, len(key), params, *tensors, *out, n, d, leaders.shape[-1])
    return out


def breed(
    x: Tensor,
    parents: Tensor,
    key: NDArray[np.uint64],
    start: int,
    bounds: tuple[Tensor, Tensor],
    rates: tuple[float, float],
    etas: tuple[int, int],
) -> Tensor:
    """See `native.breed`."""
    n, d = x.shape[-2:]
    params = _params(key, start, (*rates, 1 / rates[1] if rates[1] else 0.0), x)
    tensors = [t.contiguous() for t in (x, parents, *bounds)]
    out = torch.empty_like(tensors[0])
    roots = {"CROSS_ROOTS": etas[0].bit_length(), "MUTATION_ROOTS": etas[1].bit_length()}
    _launch(kernels.breed, n // 2, d, len(key), params, *tensors, out, n, d, **roots)
    return out


def trial(
    x: Tensor,
    leads: Tensor,
    scales: tuple[Tensor, Tensor],
    key: NDArray[np.uint64],
    start: int,
    bounds: tuple[Tensor, Tensor],
    kind: int,
    change: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """See `native.trial`."""
    n, d = x.shape[-2:]
    params = _params(key, start, (change,), x)
    tensors = [t.contiguous() for t in (x, leads, *scales, *bounds)]
    out = torch.empty_like(tensors[0]), torch.empty_like(scales[0]), torch.empty_like(scales[1])
    _launch(kernels.trial, n, d, len(key), params, *tensors, *out, n, d, KIND=kind)
    return out
