"""Binding of the compiled pricer of many carts (`_kernel.c`); None where it was not built.

Why compiled: a cart of a few lines is a few hundred integer operations with branches in every
one. NumPy over padded arrays makes thousands of passes for them, most on carts that an offer does
not touch, and Python takes a hundred times as long. The C needs a compiler with 128-bit integers.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
from ctypes import c_int64, c_void_p
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from promo_ray.offers.encode import OFFER

_COUNTS = "n_offers n_groups n_words n_methods n_skus n_gifts reason_stride".split()
_POINTERS = (
    "offers tiers slots masks skips method_fits start item list_price quantity cost sale shipping "
    "method row reason money_left gift_sku stock codes user period"
).split()
_LAST = (
    "left left_period user_left user_period pay totals saving by_line units outcome status"
).split()

_VERSION = 3  # of the rules in `_kernel.c`


class CBatch(ctypes.Structure):
    """`Batch` of `_kernel.c`."""

    _fields_ = (
        *((name, c_int64) for name in _COUNTS),
        *((name, c_void_p) for name in _POINTERS),
        ("n_carts", c_int64),
        *((name, c_void_p) for name in _LAST),
    )


def _load() -> ctypes.CDLL | None:
    folder = Path(__file__).parent
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        file = folder / f"_kernel{suffix}"
        if file.exists():
            found = ctypes.CDLL(str(file))
            try:
                found.promo_sizes.argtypes, found.promo_sizes.restype = [c_int64], c_int64
                found.promo_price_carts.argtypes = [ctypes.POINTER(CBatch), c_int64, c_int64]
                found.promo_price_carts.restype = c_int64
            except AttributeError:  # built from an older version; `promo-ray doctor` tells
                return None
            sizes = tuple(found.promo_sizes(i) for i in range(3))
            return found if sizes == (8 * len(OFFER), ctypes.sizeof(CBatch), _VERSION) else None
    return None


kernel = _load()


class Call:
    """One call of the kernel, with the arrays that it reads and writes kept alive."""

    def __init__(self, counts: dict[str, int], arrays: dict[str, NDArray[Any] | None]) -> None:
        """Arrays must be C-contiguous and of the types that `Batch` names."""
        self._arrays = arrays
        pointers = {k: None if a is None else a.ctypes.data for k, a in arrays.items()}
        self._batch = CBatch(**counts, **pointers)

    def price(self, first: int, end: int) -> int:
        """Price carts `first` to `end - 1`; returns the first not done, see `promo_price_carts`.

        The interpreter is free meanwhile, so that threads can price other carts.
        """
        library: Any = kernel
        return int(library.promo_price_carts(ctypes.byref(self._batch), first, end))
