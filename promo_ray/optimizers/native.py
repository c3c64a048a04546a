"""Binding of the compiled kernels of the population methods; tensor code where they are absent.

A kernel computes what the tensor code beside its caller computes, bit for bit, in one pass over
memory. Eager tensor code makes ten to thirty passes: at 1,000 individuals of 100 genes it gives
a fifth of the evaluations per second, and `torch.compile` needs a compiler on every machine and
seconds per shape. The kernels serve contiguous tensors on the CPU; where they were not built
(`kernel` is None) results are the same. Tensors on a GPU go to the Triton kernels of `gpu`.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from promo_ray.optimizers import gpu

_POINTER, _COUNT, _REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
_START: list[Any] = [_POINTER, _COUNT, ctypes.c_uint64, _COUNT]  # keys, n_keys, first word, n
_ARGUMENTS: dict[str, list[Any]] = {
    "promo_rows": [_COUNT, _COUNT, *[_POINTER] * 4],
    "promo_survivors": [*[_COUNT] * 5, *[_POINTER] * 4],
    "promo_move": [
        *_START, _COUNT, *[_POINTER] * 4, _COUNT, *[_POINTER] * 2, *[_REAL] * 3, *[_POINTER] * 2
    ],
    "promo_breed": [
        *_START, _COUNT, *[_POINTER] * 4, _REAL, _REAL, _COUNT, _COUNT, _POINTER
    ],
    "promo_trial": [*_START, _COUNT, *[_POINTER] * 6, _COUNT, _REAL, *[_POINTER] * 3],
}  # fmt: skip


def _load() -> ctypes.CDLL | None:
    folder = Path(__file__).parent
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        file = folder / f"_kernel{suffix}"
        if file.exists():
            found = ctypes.CDLL(str(file))
            try:
                _declare(found)
            except AttributeError:  # built from an older version; `promo-ray doctor` tells
                return None
            return found
    return None


def _declare(library: ctypes.CDLL) -> None:
    for base, arguments in _ARGUMENTS.items():
        for dtype in ("float32", "float64"):
            function = getattr(library, f"{base}_{dtype}")
            function.argtypes, function.restype = arguments, None
    library.promo_words.argtypes, library.promo_words.restype = [*_START, _POINTER], None


kernel = _load()


def serves(x: Tensor) -> bool:
    """Whether the kernels can work on a tensor."""
    return gpu.serves(x) or (kernel is not None and x.device.type == "cpu")


def _function(base: str, dtype: torch.dtype) -> Any:
    return getattr(kernel, f"{base}_{'float32' if dtype == torch.float32 else 'float64'}")


def words(key: NDArray[np.uint64], start: int, n: int) -> Tensor:
    """Random words start ... start + n - 1 of each key, `(keys, n)` int32."""
    out = torch.empty(len(key), n, dtype=torch.int32)
    library: Any = kernel
    library.promo_words(key.ctypes.data, len(key), start, n, out.data_ptr())
    return out


def chosen_rows(mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Rows of `new` where a mask `(*batch, pop)` holds, else of `old`: `(*batch, pop, genes)`."""
    if not serves(new):
        return torch.where(mask.unsqueeze(-1), new, old)
    if gpu.serves(new):
        return gpu.chosen_rows(mask, new, old)
    mask, new, old = mask.contiguous(), new.contiguous(), old.contiguous()
    out = torch.empty_like(new)
    pointers = (t.data_ptr() for t in (mask, new, old, out))
    _function("promo_rows", new.dtype)(mask.numel(), new.shape[-1], *pointers)
    return out


def survivors(old: Tensor, new: Tensor, order: Tensor) -> Tensor:
    """Rows `order` `(*batch, k)` int64 of old ones `(*batch, n, genes)` followed by new ones."""
    if not serves(new):
        return torch.take_along_dim(torch.cat([old, new], dim=-2), order.unsqueeze(-1), dim=-2)
    if gpu.serves(new):
        return gpu.survivors(old, new, order)
    old, new, order = old.contiguous(), new.contiguous(), order.contiguous()
    n_old, n_new, d = old.shape[-2], new.shape[-2], new.shape[-1]
    out = new.new_empty(*order.shape, d)
    pointers = (t.data_ptr() for t in (old, new, order, out))
    n_islands = order.numel() // order.shape[-1]
    _function("promo_survivors", new.dtype)(n_islands, order.shape[-1], n_old, n_new, d, *pointers)
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
    """Positions and velocities of particles after a step; see `swarm.ParticleSwarm`.

    Args:
        x: `(*batch, pop, genes)`; velocity and best alike.
        velocity: of the particles.
        best: best of each.
        leaders: `(*batch, pop or 1)` int64 rows of `best`.
        key: `(islands,)` of the generation.
        start: first of pop * genes random words.
        bounds: `(genes,)` each.
        pulls: inertia, cognitive, social.
    """
    if gpu.serves(x):
        return gpu.move(x, velocity, best, leaders, key, start, bounds, pulls)
    n, d = x.shape[-2:]
    tensors = [t.contiguous() for t in (x, velocity, best, leaders)]
    out = torch.empty_like(tensors[0]), torch.empty_like(tensors[0])
    _function("promo_move", x.dtype)(
        key.ctypes.data, len(key), start, n, d, *(t.data_ptr() for t in tensors),
        leaders.shape[-1], *(t.data_ptr() for t in bounds), *pulls, *(t.data_ptr() for t in out)
    )  # fmt: skip
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
    """Children `(*batch, pop, genes)` by crossover and mutation; see `variation`.

    Args:
        x: `(*batch, pop, genes)` population.
        parents: `(*batch, pop)` int64 rows; number i mates with number pop / 2 + i.
        key: `(islands,)` of the generation.
        start: first of pop / 2 + pop * genes * 3 / 2 random words.
        bounds: `(genes,)` each.
        rates: share of pairs that cross, of genes that mutate.
        etas: distribution indices of both.
    """
    if gpu.serves(x):
        return gpu.breed(x, parents, key, start, bounds, rates, etas)
    n, d = x.shape[-2:]
    x, parents = x.contiguous(), parents.contiguous()
    out = torch.empty_like(x)
    _function("promo_breed", x.dtype)(
        key.ctypes.data, len(key), start, n, d, x.data_ptr(), parents.data_ptr(),
        *(t.data_ptr() for t in bounds), *rates, *(eta.bit_length() for eta in etas),
        out.data_ptr(),
    )  # fmt: skip
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
    """Trials `(*batch, pop, genes)` of differential evolution, their weights and rates.

    Args:
        x: `(*batch, pop, genes)` population.
        leads: `(*batch, pop)` int64 rows that lead.
        scales: `(*batch, pop)` weight and crossover rate.
        key: `(islands,)` of the generation.
        start: first of pop * (8 + genes) random words.
        bounds: `(genes,)` each.
        kind: 0 = random base, 1 = the lead is the base, 2 = the lead pulls the target.
        change: share of weights and of rates drawn anew.
    """
    if gpu.serves(x):
        return gpu.trial(x, leads, scales, key, start, bounds, kind, change)
    n, d = x.shape[-2:]
    tensors = [t.contiguous() for t in (x, leads, *scales, *bounds)]
    out = [torch.empty_like(t) for t in (tensors[0], *tensors[2:4])]
    _function("promo_trial", x.dtype)(
        key.ctypes.data, len(key), start, n, d, *(t.data_ptr() for t in tensors),
        kind, change, *(t.data_ptr() for t in out),
    )  # fmt: skip
    return out[0], out[1], out[2]
