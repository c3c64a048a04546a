"""The genome of a menu: typed slots, whose genes are numbers of values on grids."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from promo_ray.design.columns import Channel, Window
from promo_ray.design.constraints import Constraints, compiled
from promo_ray.design.grid import OfferGrid, place_of, size_of
from promo_ray.errors import ConfigError
from promo_ray.optimizers import Choice, Integer, SearchSpace

GENES = ("active", "mechanic", "depth", "threshold", "place", "segment", "window", "channel")
_UNORDERED = ("mechanic", "place", "segment", "channel")
EVERYONE = "everyone"
_MOST_CELLS = 1 << 23  # of the table from genes to offers


class MenuSpace:
    """Menus of at most `max_offers` offers: what, for whom, when and how.

    A slot has eight genes: active, mechanic, depth (a share or an amount off), threshold, place
    (a scope, or the items of a bundle), segment, window, channel. A gene is the number of a value
    on its mechanic's own grid; where the grid of offers has no such offer, the slot means the
    nearest one of its mechanic and place. An offer with its segment, window and channel is a
    *variant*; see `columns.Variants` for its number. Slots are sorted, equal ones collapse and
    constraints are repaired, so a menu has one form whatever genes it came from, and slot-wise
    crossover exchanges like with like.

    Args:
        grid: candidate offers.
        max_offers: slots, >= 1.
        segments: names of segments an offer may be for.
        windows: when it may hold.
        channels: how it may be sent.
        constraints: see `Constraints`.
        rank: `(g,)` place of each offer when the better of two that exclude one another is
            kept, the lowest first; the grid's order if None.

    Raises:
        ConfigError: max_offers below 1, an axis that is empty or names a value twice, or
            constraints that do not fit the grid.
    """

    def __init__(
        self,
        grid: OfferGrid,
        max_offers: int,
        *,
        segments: Sequence[str] = (EVERYONE,),
        windows: Sequence[Window] = (Window(),),
        channels: Sequence[Channel] = (Channel(),),
        constraints: Constraints | None = None,
        rank: NDArray[np.int64] | None = None,
    ) -> None:
        if not 1 <= max_offers:
            raise ConfigError(f"max_offers must be >= 1; got {max_offers}")
        self.grid, self.segments = grid, tuple(segments)
        self.windows, self.channels = tuple(windows), tuple(channels)
        for name, values in (
            ("segments", self.segments),
            ("windows", [w.name for w in self.windows]),
            ("channels", [c.name for c in self.channels]),
        ):
            if not values or len(set(values)) < len(values):
                raise ConfigError(f"{name} must be at least one, each once; got {list(values)}")
        self._kinds = (len(self.segments), len(self.windows), len(self.channels))
        self.n_offers = len(grid) * math.prod(self._kinds)
        self.constraints = constraints or Constraints()
        limit = self.constraints.max_offers
        self.n_slots = min(max_offers, self.n_offers)
        self.max_offers = self.n_slots if limit is None else min(self.n_slots, limit)
        self._genes, self._rows, self._sizes = _tables(grid.terms.to_pylist())
        self._mended, self._conflicts = compiled(self.constraints, grid)
        self.rank = np.arange(len(grid)) if rank is None else rank

    def under(
        self,
        constraints: Constraints,
        rank: NDArray[np.int64] | None = None,
        n_slots: int | None = None,
    ) -> MenuSpace:
        """The same space under other constraints."""
        return MenuSpace(
            self.grid, n_slots or self.n_slots, segments=self.segments, windows=self.windows,
            channels=self.channels, constraints=constraints,
            rank=self.rank if rank is None else rank,
        )  # fmt: skip

    def with_one_more(self) -> MenuSpace:
        """The same space with a slot more."""
        n = self.max_offers + 1
        return self.under(replace(self.constraints, max_offers=n), n_slots=n)

    @property
    def space(self) -> SearchSpace:
        """Genes of a menu, slot by slot, with the repair of the constraints."""
        slot = tuple(
            Choice(tuple(range(n)), name) if name in _UNORDERED else Integer(0, n - 1, name)
            for name, n in zip(GENES, self.n_values, strict=True)
        )
        return SearchSpace(slot * self.max_offers, slot_size=len(GENES), repair=self.repair)

    @property
    def n_values(self) -> tuple[int, ...]:
        """Values of each gene of a slot."""
        return (2, *self._sizes, *self._kinds)

    @property
    def n_menus(self) -> int:
        """Number of different menus, the empty one included, constraints left aside."""
        return sum(math.comb(self.n_offers, k) for k in range(self.max_offers + 1))

    @property
    def n_allowed(self) -> int:
        """Offers of the grid that the constraints allow."""
        return int((self._mended == np.arange(len(self.grid))).sum())

    def row_of(self, variants: NDArray[np.int64] | Tensor) -> Any:
        """Grid row of each variant."""
        return variants // math.prod(self._kinds)

    def parts(self, variant: int) -> tuple[int, str, Window, Channel]:
        """Grid row, segment, window and channel of a variant."""
        row, segment, window, channel = (int(i) for i in self.axes_of(np.array(variant)))
        return row, self.segments[segment], self.windows[window], self.channels[channel]

    def axes_of(self, variants: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """Grid row, and numbers of segment, window and channel, of variants."""
        return np.unravel_index(variants, (len(self.grid), *self._kinds))

    def variant(self, row: int, segment: int = 0, window: int = 0, channel: int = 0) -> int:
        """Number of an offer for a segment, in a window, by a channel."""
        at = (row, segment, window, channel)
        return int(np.ravel_multi_index(at, (len(self.grid), *self._kinds)))

    def decode(self, x: Tensor) -> Tensor:
        """Menus of genes, constraints kept.

        Args:
            x: `(*batch, pop, slots * 8)` individuals of `space`.

        Returns:
            `(*batch, pop, slots)` int64 variants in rising order, then -1.
        """
        return self.mend(self._variants(self._slots(x)))

    def mend(self, menus: Tensor) -> Tensor:
        """Menus `(*batch, pop, slots)` of variants, -1 = empty, in the form that `decode` gives.

        Offers that break a limit give way to the deepest allowed ones of their kind, or go; of
        two that exclude one another the better by rank stays; beyond `max_offers` the worst go.
        """
        n_kinds = math.prod(self._kinds)
        mended = torch.from_numpy(self._mended).to(menus.device)
        row = mended[(menus // n_kinds).clamp(min=0)]
        is_open = (menus >= 0) & (row >= 0)
        own = torch.where(is_open, row * n_kinds + menus % n_kinds, -1)
        own = canonical(own, self.n_offers)
        if self._conflicts is not None or own.shape[-1] > self.max_offers:
            own = canonical(self._without_conflicts(own), self.n_offers)
        return own[..., : max(self.max_offers, 0)] if own.shape[-1] > self.max_offers else own

    def _without_conflicts(self, menus: Tensor) -> Tensor:
        """The better of offers that exclude one another, and at most `max_offers`."""
        n_kinds = math.prod(self._kinds)
        rank = torch.from_numpy(self.rank).to(menus.device)
        row = (menus // n_kinds).clamp(min=0)
        place = torch.where(menus < 0, len(rank), rank[row]).sort(dim=-1, stable=True).indices
        menus, row = menus.gather(-1, place), row.gather(-1, place)
        keeps = menus >= 0
        if self._conflicts is not None:
            table = torch.from_numpy(self._conflicts).to(menus.device)
            for j in range(1, menus.shape[-1]):
                clashes = table[row[..., :j], row[..., j : j + 1]] & keeps[..., :j]
                keeps[..., j] &= ~clashes.any(-1)
        keeps &= keeps.cumsum(-1) <= self.max_offers
        return torch.where(keeps, menus, -1)

    def repair(self, x: Tensor) -> Tensor:
        """Individuals in canonical form: slots of the mended menu first, then switched-off ones.

        Genes of the menu are the first that mean it; slots switched off keep all but their first
        gene, as the memory of what they were.
        """
        slots = self._slots(x)
        before = self._variants(slots)
        after = self.mend(before)
        genes = torch.from_numpy(self.genes_of(after.clamp(min=0).cpu().numpy())).to(x)
        source = torch.arange(slots.shape[-2], device=x.device)
        # slots that are not in the mended menu lend their genes to the switched-off places
        is_kept = (before.unsqueeze(-1) == after.unsqueeze(-2)).any(-1) & (before >= 0)
        spare = torch.argsort(torch.where(is_kept, 1, 0) * len(source) + source, dim=-1)
        n_on = (after >= 0).sum(-1, keepdim=True)
        place = (source - n_on).clamp(min=0)
        memory = slots.gather(
            -2, spare.gather(-1, place).unsqueeze(-1).expand(slots.shape)
        ).clone()  # fmt: skip
        memory[..., 0] = 0
        found = torch.where((after >= 0).unsqueeze(-1), genes, memory)
        return found.reshape(x.shape)

    def genes_of(self, variants: NDArray[np.int64]) -> NDArray[np.int64]:
        """Genes of switched-on slots: `(*batch, slots)` variants to `(*batch, slots, 8)`."""
        row, segment, window, channel = self.axes_of(variants)
        found = np.empty((*variants.shape, len(GENES)), dtype=np.int64)
        found[..., 0] = 1
        found[..., 1:5] = self._genes[row]
        found[..., 5], found[..., 6], found[..., 7] = segment, window, channel
        return found

    def variants_of(self, genes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Variants of slots `(*batch, slots, 8)`, constraints left aside, -1 = switched off."""
        found: NDArray[np.int64] = self._variants(torch.from_numpy(genes)).numpy()
        return found

    def encode(self, menus: Iterable[Sequence[int]]) -> NDArray[np.float64]:
        """Individuals of menus of variants: `(n, slots * 8)`; `decode` gives them back mended.

        Raises:
            ConfigError: a menu has more offers than slots.
        """
        rows = []
        for menu in menus:
            if len(menu) > self.max_offers:
                raise ConfigError(f"a menu has at most {self.max_offers} offers; got {len(menu)}")
            genes = np.zeros((self.max_offers, len(GENES)))
            genes[: len(menu)] = self.genes_of(np.array(menu, dtype=np.int64))
            rows.append(genes.ravel())
        return np.array(rows).reshape(len(rows), self.max_offers * len(GENES))

    def pack(self, x: Tensor) -> NDArray[Any]:
        """Individuals as `(*batch, pop, slots, 8)` uint8, or int16 where a gene has over 256."""
        dtype = np.uint8 if max(self.n_values) <= 256 else np.int16
        return self._slots(x).cpu().numpy().astype(dtype)

    def unpack(self, packed: NDArray[Any], dtype: torch.dtype = torch.float32) -> Tensor:
        """Individuals `(*batch, pop, slots * 8)` that `pack` stored."""
        return torch.from_numpy(packed.astype(np.int64)).flatten(-2).to(dtype)

    def _slots(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], -1, len(GENES)).long()

    def _variants(self, slots: Tensor) -> Tensor:
        """Variants of slots `(..., slots, 8)`, -1 where switched off."""
        _, n_depths, n_thresholds, n_places = self._sizes
        active, mechanic, depth, threshold, place, segment, window, channel = slots.unbind(-1)
        cell = ((mechanic * n_depths + depth) * n_thresholds + threshold) * n_places + place
        row = torch.from_numpy(self._rows).to(slots.device)[cell]
        found = ((row * self._kinds[0] + segment) * self._kinds[1] + window) * self._kinds[2]
        return torch.where(active > 0, found + channel, -1)


def canonical(menus: Tensor, n_offers: int) -> Tensor:
    """Menus with offers in rising order, equal ones collapsed, empty slots (-1) at the end."""
    ordered = torch.where(menus < 0, n_offers, menus).sort(dim=-1).values
    repeats = torch.zeros_like(ordered, dtype=torch.bool)
    repeats[..., 1:] = ordered[..., 1:] == ordered[..., :-1]
    ordered = torch.where(repeats, n_offers, ordered).sort(dim=-1).values
    return torch.where(ordered == n_offers, -1, ordered)


def _tables(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[int, int, int, int]]:
    """Genes `(g, 4)` of each offer, the offer of each cell of genes, and the genes' ranges."""
    mechanics = sorted({row["mechanic"] for row in rows})
    own = [_Axes([i for i, r in enumerate(rows) if r["mechanic"] == m], rows) for m in mechanics]
    sizes = tuple(max(len(a.values[k]) for a in own) for k in range(3))
    n_depths, n_thresholds, n_places = sizes
    n_cells = len(own) * math.prod(sizes)
    if n_cells > _MOST_CELLS:
        raise ConfigError(f"the grid must have at most {_MOST_CELLS} cells; got {n_cells}")
    genes: NDArray[np.int64] = np.zeros((len(rows), 4), dtype=np.int64)
    table: NDArray[np.int64] = np.zeros((len(own), *sizes), dtype=np.int64)
    for k, axes in enumerate(own):
        counts = [len(v) for v in axes.values]
        # the first number that means a value: every value of every mechanic can be reached
        first = [-(-np.arange(c) * s // c) for c, s in zip(counts, sizes, strict=True)]
        for i, at in axes.places.items():
            genes[i] = (k, *(int(f[a]) for f, a in zip(first, at, strict=True)))
        mine = [np.arange(s) * c // s for c, s in zip(counts, sizes, strict=True)]
        table[k] = axes.nearest()[np.ix_(*mine)]
    return genes, table.ravel(), (len(own), n_depths, n_thresholds, n_places)


class _Axes:
    """The grid of one mechanic: depths, thresholds and places, and the offers on it."""

    def __init__(self, members: Sequence[int], rows: Sequence[Mapping[str, Any]]) -> None:
        keys: dict[int, tuple[Any, ...]] = {}
        taken: dict[tuple[Any, ...], int] = {}
        for i in members:
            row = rows[i]
            place = (*place_of(row), row["contact_cost"])
            key = (size_of(row), row["threshold"] or 0.0, place)
            taken[key] = taken.get(key, -1) + 1
            keys[i] = (*key[:2], (*place, taken[key]))  # offers alike but for words stay apart
        self.values = [sorted({key[k] for key in keys.values()}) for k in range(3)]
        number = [{v: j for j, v in enumerate(values)} for values in self.values]
        self.places = {i: tuple(number[k][key[k]] for k in range(3)) for i, key in keys.items()}

    def nearest(self) -> NDArray[np.int64]:
        """`(depths, thresholds, places)` row of the nearest offer of each place."""
        n_depths, n_thresholds, n_places = (len(v) for v in self.values)
        found = np.zeros((n_depths, n_thresholds, n_places), dtype=np.int64)
        depth, threshold = np.ogrid[:n_depths, :n_thresholds]
        for p in range(n_places):
            own = [(i, at) for i, at in self.places.items() if at[2] == p]
            gap = np.stack(
                [
                    np.abs(depth - at[0]) / n_depths + np.abs(threshold - at[1]) / n_thresholds
                    for _, at in own
                ]
            )
            found[:, :, p] = np.array([i for i, _ in own])[gap.argmin(axis=0)]
        return found
