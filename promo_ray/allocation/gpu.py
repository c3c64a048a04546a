"""The pass over users on a device, with the answers of the compiled kernel.

`DeviceBlock.load` keeps users on the device; `device_pass` sums them with the fused kernel
(`gpu_kernel`, needs triton) where that fits, else with torch (`gpu_torch`). Both give the bits of
`kernel.evaluate`, for every split into launches, tiles and chunks: they do the operations of
`_kernel.c` one by one, and whatever is added up over users is rounded to integers first.

One offer per user, every user of weight 1; import this module only where a device is asked for.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from promo_ray.allocation.gpu_block import DeviceBlock, Setting
from promo_ray.allocation.gpu_torch import chosen_slots, torch_sums
from promo_ray.allocation.kernel import Floats, Totals, Units, Where, settle
from promo_ray.errors import PromoRayError

try:
    from promo_ray.allocation import gpu_kernel
except ImportError:  # triton is optional
    gpu_kernel = None  # type: ignore[assignment]

__all__ = ["DeviceBlock", "Setting", "best_slots", "device_pass", "fused_pass", "torch_pass"]

_CHUNK_PAIRS = 1 << 17  # pairs at once on a CPU: they stay in the cache
_DEVICE_PAIRS = 1 << 23
_MOST_BUDGETS, _MOST_SLOTS, _MOST_ROWS = 8, 32, 64  # of the fused kernel


def device_pass(
    block: DeviceBlock, where: Where, prices: Floats, tau: float, units: Units
) -> Totals:
    """Sums of the entropy-smoothed dual at given prices; see `kernel.evaluate`.

    Returns:
        Integer sums that `kernel.read` turns into numbers. Nothing else leaves the device.

    Raises:
        PromoRayError: the rows ask for what only the compiled kernel does.
    """
    rows = where.rows
    if not rows.limits.is_single or rows.most is not None or rows.value_factor != 1.0:
        raise PromoRayError(f"rows must have one offer per user, no `most`, factor 1; got {rows}")
    setting = Setting(where, prices, tau, units)
    return fused_pass(block, setting) if has_fused(block, setting) else torch_pass(block, setting)


def has_fused(block: DeviceBlock, setting: Setting) -> bool:
    """Whether the fused kernel takes this block."""
    return (
        gpu_kernel is not None
        and (block.value.is_cuda or gpu_kernel.IS_INTERPRETED)
        and block.offer_idx is None
        and len(block.costs) <= _MOST_BUDGETS
        and len(block.value) <= _MOST_SLOTS
        and len(setting.prices) <= _MOST_ROWS
    )


def fused_pass(block: DeviceBlock, setting: Setting, n_programs: int | None = None) -> Totals:
    """`device_pass` by the fused kernel; `n_programs` share the users, None: as many as fit."""
    return _totals(*gpu_kernel.fused_sums(block, setting, n_programs))


def torch_pass(block: DeviceBlock, setting: Setting, chunk: int | None = None) -> Totals:
    """`device_pass` by torch, `chunk` users at a time."""
    return _totals(*torch_sums(block, setting, chunk or _users_at_once(block)))


def best_slots(block: DeviceBlock, setting: Setting) -> Tensor:
    """`(n,)` int32 best slot of each user at prices, -1 = none, on the device."""
    return chosen_slots(block, setting, _users_at_once(block))


def _users_at_once(block: DeviceBlock) -> int:
    pairs = _DEVICE_PAIRS if block.value.is_cuda else _CHUNK_PAIRS
    return max(1, pairs // len(block.value))


def _totals(n_near: Tensor, wide: Tensor, curvature: Tensor) -> Totals:
    """Sums on the host."""
    upper = curvature.cpu().numpy()[np.triu_indices(len(curvature))]
    return Totals(int(n_near), settle(wide.cpu().numpy()), upper)
