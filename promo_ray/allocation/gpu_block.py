"""Users on a device, and what a pass over them needs besides.

Users are the last axis, so that neighbors in memory are neighbors in work, whatever the number of
slots: no padding, and every read of a warp is one piece of memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from promo_ray.allocation.kernel import Floats, Units, Where
from promo_ray.allocation.problem import Block
from promo_ray.seeding import derive

WINDOW = 40.0  # temperatures below the best: no weight beyond
UNIT = 2.0**50  # integer units of value and use per unit of `Units`
_COPY_PAIRS = 1 << 23  # 32 MiB of float32


@dataclass(frozen=True)
class DeviceBlock:
    """Users on a device; the transposes of a `Block`.

    Attributes:
        value: `(m, n)` float32, currency; -inf = not eligible.
        costs: `(k, m, n)` float32 >= 0.
        keys: `(n,)` int64 bits of the users' keys, or their positions among all.
        offer_idx: `(m, n)` int64; None: the slot.
        capacity_use: `(m, n)` float32 >= 0; None: 1.
        segment_idx: `(n,)` int32, -1 = none; None: no floors.
    """

    value: Tensor
    costs: Tensor
    keys: Tensor
    offer_idx: Tensor | None = None
    capacity_use: Tensor | None = None
    segment_idx: Tensor | None = None

    @classmethod
    def load(cls, block: Block, device: torch.device | str) -> DeviceBlock:
        """Copy arrays (memory-mapped ones too) to a device, part by part."""
        idx, use, segment = block.offer_idx, block.capacity_use, block.segment_idx
        n, m = block.value.shape
        keys = np.arange(block.first, block.first + n) if block.keys is None else block.keys
        costs = torch.empty((len(block.costs), m, n), dtype=torch.float32, device=device)
        for k, cost in enumerate(block.costs):
            _fill(costs[k], cost)
        return cls(
            _fill(costs.new_empty((m, n)), block.value),
            costs,
            torch.tensor(keys.view(np.int64), device=device),
            None if idx is None else _fill(costs.new_empty((m, n), dtype=torch.int64), idx),
            None if use is None else _fill(costs.new_empty((m, n)), use),
            None if segment is None else torch.tensor(segment, device=device),
        )

    @property
    def n(self) -> int:
        """Number of users."""
        return self.value.shape[1]

    def take(self, at: slice | Tensor) -> DeviceBlock:
        """Some users; views of a slice."""
        arrays = (self.keys, self.offer_idx, self.capacity_use, self.segment_idx)
        rest = [None if x is None else x[..., at] for x in arrays]
        return DeviceBlock(self.value[:, at], self.costs[..., at], *rest)  # type: ignore[arg-type]


def _fill(empty: Tensor, array: NDArray[Any]) -> Tensor:
    """`(m, n)` with the transpose of an `(n, m)` array, never whole on the host a second time."""
    step = max(1, _COPY_PAIRS // max(1, len(empty)))
    for a in range(0, empty.shape[1], step):
        empty[:, a : a + step] = torch.tensor(array[a : a + step]).to(empty.device).T
    return empty


class Setting(NamedTuple):
    """What a pass needs besides the users, as in `kernel.evaluate`; numbers on the host.

    Attributes:
        where: rows, seed and size of ties.
        prices: `(R,)` float64 >= 0 of budgets, offers, segments.
        tau: temperature > 0, currency.
        units: units of the sums.
    """

    where: Where
    prices: Floats
    tau: float
    units: Units

    @property
    def draw_seed(self) -> int:
        """Seed of the numbers that tell ties apart."""
        return derive(self.where.seed, "allocation")

    @property
    def reach(self) -> float:
        """Options further below the best have no weight, currency."""
        return WINDOW * self.tau + self.where.tie

    @property
    def value_unit(self) -> float:
        """Integer units per currency."""
        return UNIT / self.units.value

    @property
    def use_unit(self) -> Floats:
        """`(R,)` integer units per use."""
        return UNIT / self.units.use

    @property
    def curvature_scale(self) -> Floats:
        """`(R,)` root of the integer units per curvature."""
        return 2.0 ** (self.units.curvature_bits // 2) / self.units.typical

    @property
    def curvature_most(self) -> float:
        """Largest diagonal entry of one user's curvature, integer units."""
        return 2.0**self.units.curvature_bits
