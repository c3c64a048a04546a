"""The compiled passes over users (`_kernel.c`), bound by ctypes.

Why compiled: a pass must run at the speed of memory (4 (1 + k) bytes per user and offer), look at
the near-tied users of every block one by one, and add integers so that sums do not depend on the
split. NumPy needs ten passes over temporaries for that, torch likewise, and a just-in-time compiler
seconds in every new worker. The C is plain C99 without libraries, built by `pip install` with any C
compiler; the processor's vector width is chosen at run time.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from ctypes import POINTER, c_double, c_int32, c_int64, c_uint64, c_void_p
from importlib import metadata
from pathlib import Path
from typing import Any

from promo_ray.errors import PromoRayError


class CUsers(ctypes.Structure):
    """`Users` of `_kernel.c`."""

    _fields_ = (
        *((name, c_int64) for name in ("n", "cost_stride")),
        *((name, c_int32) for name in ("m", "k", "n_offers", "n_segments", "q", "n_groups")),
        *((name, c_void_p) for name in ("value", "costs", "amount", "offer", "segment", "keys")),
        *((name, c_uint64) for name in ("first", "seed")),
        *(
            (name, c_void_p)
            for name in ("weight", "most", "group_limit", "group_parent", "group_of_offer")
        ),
        *((name, c_double) for name in ("tie", "value_factor")),
    )


class CSums(ctypes.Structure):
    """`Sums` of `_kernel.c`."""

    _fields_ = (
        *((name, c_double) for name in ("tau", "value_unit", "curvature_most")),
        *(
            (name, c_void_p)
            for name in ("price", "unit", "curvature_scale", "wide", "curvature", "n_near")
        ),
    )


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernel.

    Raises:
        PromoRayError: promo_ray was installed without it.
    """
    found = ctypes.CDLL(str(_path()))
    users = POINTER(CUsers)
    found.promo_evaluate.argtypes = [users, POINTER(CSums)]
    found.promo_decide.argtypes = [users, c_void_p, c_double, *[c_void_p] * 4]
    found.promo_survey.argtypes = [users, *[c_void_p] * 8]
    crowd: list[Any] = [*[c_int64] * 6, *[c_void_p] * 9]
    found.pr_losses.argtypes = [*crowd, *[c_void_p] * 4]
    found.pr_losses.restype = c_int64
    found.pr_exchange.argtypes = [
        *crowd,
        *[c_void_p] * 3,
        POINTER(c_double),
        *[c_double] * 4,
        c_int64,
        c_uint64,
    ]
    found.pr_exchange.restype = c_double
    return found


def _path() -> Path:
    """Beside this file, or where pip put it (a job's working directory may hold sources only)."""
    spec = importlib.util.find_spec("promo_ray.allocation._kernel")
    if spec is not None and spec.origin is not None:
        return Path(spec.origin)
    try:
        for file in metadata.files("promo-ray") or ():
            if file.parent.name == "allocation" and file.name.startswith("_kernel.cpython"):
                return Path(str(file.locate()))
    except metadata.PackageNotFoundError:
        pass
    raise PromoRayError(
        "the compiled kernel promo_ray.allocation._kernel must be installed; it is missing: "
        "run `pip install .` in the source folder on a machine with a C compiler"
    )


def address(array: Any) -> int | None:
    """Address of an array's data; None for None."""
    return None if array is None else int(array.ctypes.data)
