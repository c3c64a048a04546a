"""Binding of the compiled kernels of the population methods; tensor code where they are absent.

Every kernel computes what the tensor code beside its caller computes, bit for bit, in one pass
over memory. Eager tensor code needs ten to thirty passes, which for 1,000 individuals of 100
genes is five to ten times slower. The kernels serve contiguous tensors on the CPU.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from promo_ray.optimizers.draws import Draws
    from promo_ray.optimizers.space import Table


def _load() -> ctypes.CDLL | None:
    folder = Path(__file__).parent
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        file = folder / f"_kernel{suffix}"
        if file.exists():
            return ctypes.CDLL(str(file))
    return None


kernel = _load()


def serves(x: Tensor) -> bool:
    """Whether the kernels can work on a tensor."""
    return kernel is not None and x.device.type == "cpu"


def chosen_rows(mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Rows of `new` where a mask `(*batch, pop)` holds, else of `old`: `(*batch, pop, genes)`."""
    return torch.where(mask.unsqueeze(-1), new, old)
