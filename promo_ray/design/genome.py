"""The genome of a menu: slots of real genes that snap to the nearest candidate offer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from promo_ray.design.grid import OfferGrid
from promo_ray.errors import ConfigError
from promo_ray.optimizers import SearchSpace

GENES = ("active", "mechanic", "depth", "threshold", "variant")


class MenuSpace:
    """Menus of at most `max_offers` offers of a grid as points of a unit box.

    A slot has five genes in [0, 1]: active (from one half on), mechanic, depth (share or amount
    off), threshold, variant (scope, items, cost, label). Values of a mechanic have equal cells in
    the order of their size; the slot means the nearest offer of its mechanic. Slots are sorted
    and equal ones collapse, so a menu has one form whatever genes it came from.
    """

    def __init__(self, grid: OfferGrid, max_offers: int) -> None:
        if not 1 <= max_offers:
            raise ConfigError(f"max_offers must be >= 1; got {max_offers}")
        self.n_offers = len(grid)
        self.max_offers = min(max_offers, self.n_offers)
        self._mechanic, self._points = _coordinates(grid.terms.to_pylist())
        n_mechanics = int(self._mechanic.max()) + 1
        size = int(np.bincount(self._mechanic).max())
        # offers of each mechanic, the last repeated to equal length
        self._members = np.empty((n_mechanics, size), dtype=np.int64)
        for k in range(n_mechanics):
            own = np.flatnonzero(self._mechanic == k)
            self._members[k] = np.pad(own, (0, size - len(own)), mode="edge")

    @property
    def space(self) -> SearchSpace:
        """Box of the genes."""
        n = self.max_offers * len(GENES)
        return SearchSpace.box([0.0] * n, [1.0] * n)

    @property
    def n_menus(self) -> int:
        """Number of different menus, the empty one included."""
        return sum(math.comb(self.n_offers, k) for k in range(self.max_offers + 1))

    def decode(self, x: Tensor) -> Tensor:
        """Menus of genes.

        Args:
            x: `(*batch, pop, slots * 5)` in [0, 1].

        Returns:
            `(*batch, pop, slots)` int64 rows of the grid in rising order, then -1.
        """
        genes = x.reshape(*x.shape[:-1], self.max_offers, len(GENES))
        members = torch.from_numpy(self._members).to(x.device)
        points = torch.from_numpy(self._points).to(x.device, x.dtype)
        mechanic = (genes[..., 1] * len(members)).long().clamp(max=len(members) - 1)
        own = members[mechanic]  # (*batch, pop, slots, size)
        distance = (points[own] - genes[..., None, 2:]).square().sum(-1)
        offer = own.gather(-1, distance.argmin(-1, keepdim=True)).squeeze(-1)
        return canonical(torch.where(genes[..., 0] >= 0.5, offer, -1), self.n_offers)

    def encode(self, menus: Iterable[Sequence[int]]) -> NDArray[np.float64]:
        """Genes of menus, in the middle of their cells: `(n, slots * 5)`.

        Raises:
            ConfigError: a menu has more offers than slots.
        """
        rows = []
        n_mechanics = len(self._members)
        for menu in menus:
            if len(menu) > self.max_offers:
                raise ConfigError(f"a menu has at most {self.max_offers} offers; got {len(menu)}")
            genes = np.full((self.max_offers, len(GENES)), 0.5)
            genes[:, 0] = 0.25
            for slot, offer in enumerate(menu):
                genes[slot, 0] = 0.75
                genes[slot, 1] = (self._mechanic[offer] + 0.5) / n_mechanics
                genes[slot, 2:] = self._points[offer]
            rows.append(genes.ravel())
        return np.array(rows)


def canonical(menus: Tensor, n_offers: int) -> Tensor:
    """Menus with offers in rising order, equal ones collapsed, empty slots (-1) at the end."""
    ordered = torch.where(menus < 0, n_offers, menus).sort(dim=-1).values
    repeats = torch.zeros_like(ordered, dtype=torch.bool)
    repeats[..., 1:] = ordered[..., 1:] == ordered[..., :-1]
    ordered = torch.where(repeats, n_offers, ordered).sort(dim=-1).values
    return torch.where(ordered == n_offers, -1, ordered)


def _coordinates(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Mechanic number `(g,)` and place `(g, 3)` in [0, 1] by depth, threshold and variant."""
    mechanics = sorted({row["mechanic"] for row in rows})
    mechanic = np.array([mechanics.index(row["mechanic"]) for row in rows], dtype=np.int64)
    points = np.full((len(rows), 3), 0.5)
    for k in range(len(mechanics)):
        own = np.flatnonzero(mechanic == k).tolist()
        depth = [rows[i]["amount"] or rows[i]["depth_rate"] or 0.0 for i in own]
        threshold = [rows[i]["threshold"] or 0.0 for i in own]
        variant = [_variant(rows[i]) for i in own]
        seen: dict[Any, int] = {}
        for j, key in enumerate(zip(depth, threshold, variant, strict=True)):
            seen[key] = seen.get(key, -1) + 1
            variant[j] = (*variant[j], seen[key])  # the same terms twice stay two offers
        points[own] = np.array([_cells(depth), _cells(threshold), _cells(variant)]).T
    return mechanic, points


def _variant(row: Mapping[str, Any]) -> tuple[Any, ...]:
    items = tuple(row["item_ids"] or ())
    return (row["scope"] or "", items, row["contact_cost"], row["label"] or "")


def _cells(values: Sequence[Any]) -> list[float]:
    """Middle of each value's cell when the distinct values share [0, 1] in order."""
    distinct = sorted(set(values))
    return [(distinct.index(v) + 0.5) / len(distinct) for v in values]
