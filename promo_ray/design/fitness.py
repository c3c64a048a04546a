"""Fitness of whole populations of menus: value of the best allocation under the budgets.

Every user gets the offer of the menu with the largest value less price times cost, or none. The
prices are the duals of the budgets, found for every menu by itself. Value and cost of an offer are
computed once, when a menu first holds it, and shared by all menus that do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from promo_ray.design import native
from promo_ray.design.budgets import BudgetRows, rows_of
from promo_ray.design.columns import Columns
from promo_ray.design.fitness_torch import tensor_passes, tensor_scores
from promo_ray.design.prices import priced
from promo_ray.errors import ConfigError

_TOLERANCE = 1e-6  # relative gap between value and bound at which the search of prices ends
_HINT_TOLERANCE = 1e-3  # the same for an offer alone
_STORE_BYTES = 1 << 29  # value and cost of offers met so far
_MOST_MENUS = 1 << 12  # per call of the kernel
_FIRST_SIZE = 64  # columns that the store begins with
_CPU = torch.device("cpu")


def padded(menus: Iterable[Sequence[int]], n_slots: int | None = None) -> Tensor:
    """Menus as `(n, slots)` int64, -1 = empty; as many slots as the longest has if None."""
    rows = [list(menu) for menu in menus]
    width = max([1, *map(len, rows)]) if n_slots is None else n_slots
    filled = [row + [-1] * (width - len(row)) for row in rows]
    return torch.tensor(filled, dtype=torch.int64).reshape(len(rows), width)


class MenuScores(NamedTuple):
    """Scores of menus, per user of the sample; float64.

    Attributes:
        value: `(*batch, pop)` value of a feasible allocation, less fixed costs. It is whole for
            all users but for the share of those on the edge that the rest of a budget pays for.
        bound: `(*batch, pop)` no allocation of the menu is worth more.
        price: `(*batch, pop, K)` value per unit of each budget below which offers are not handed
            out; 0 = budget left.
        spend: `(*batch, pop, K)` what that allocation uses, <= each budget.
    """

    value: Tensor
    bound: Tensor
    price: Tensor
    spend: Tensor


class MenuFitness:
    """Values menus on a sample of users; picklable, the same sample for all menus.

    Args:
        columns: the sample.
        budget_per_user: money over the number of users, or budgets on the sample's columns, see
            `budgets.rows_on`; None = unlimited.
        fixed_cost: value lost per user for every offer that stands in the menu (what it costs to
            run an offer, over the number of users of the campaign); scalar or one per offer.
        n_threads: threads that share the menus of a call; changes no bit.

    Raises:
        ConfigError: a setting out of range.
    """

    def __init__(
        self,
        columns: Columns,
        *,
        budget_per_user: float | BudgetRows | None,
        fixed_cost: ArrayLike = 0.0,
        n_threads: int = 1,
    ) -> None:
        if n_threads < 1:
            raise ConfigError(f"n_threads must be >= 1; got {n_threads}")
        self.columns = columns
        self.budgets = rows_of(budget_per_user, columns.n_offers)
        self.fixed_cost = np.asarray(fixed_cost, dtype=np.float64)
        if self.fixed_cost.shape not in ((), (columns.n_offers,)):
            raise ConfigError(
                f"fixed_cost must be one number or one per offer; got {self.fixed_cost.shape}"
            )
        self.n_threads = n_threads
        self._store = _Store(columns, self.budgets)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_store": _Store(self.columns, self.budgets)}

    def __call__(self, menus: Tensor) -> Tensor:
        """Value of each menu per user: `(*batch, pop, slots)` int64 to `(*batch, pop)` float64."""
        return self.scores(menus).value

    def scores(self, menus: Tensor) -> MenuScores:
        """Value, bound, prices and spend of menus.

        Args:
            menus: `(*batch, pop, slots)` int64 offers, -1 = empty slot; an offer that stands in
                two slots pays its fixed cost twice.

        Returns:
            The same bits for any batch and order of menus on one kind of device.

        Raises:
            ConfigError: more than 64 slots.
        """
        shape, slots = menus.shape[:-1], menus.shape[-1]
        if slots > native.MAX_SLOTS:
            raise ConfigError(f"menus must have at most {native.MAX_SLOTS} slots; got {slots}")
        flat = menus.reshape(-1, slots).cpu().numpy()
        n, k, parts = self.columns.n_users, len(self.budgets.limit), []
        size = _MOST_MENUS
        if self._store.most < self.columns.n_offers:  # what a chunk holds must fit the store
            size = max(1, min(size, self._store.most // max(1, slots)))
        for start in range(0, len(flat), size):
            local = self._store.local(flat[start : start + size])
            parts.append(self._score(local, menus.device))
        found = np.concatenate(parts) if parts else np.empty((0, 2 + 2 * k))
        fixed = np.where(
            flat < 0, 0.0, np.broadcast_to(self.fixed_cost, self.columns.n_offers)[flat]
        ).sum(axis=1)
        columns = (
            found[:, 0] / n - fixed, found[:, 1] / n - fixed, found[:, 2 : 2 + k],
            found[:, 2 + k :] / n,
        )  # fmt: skip
        return MenuScores(
            *(torch.from_numpy(c.copy()).reshape(shape + c.shape[1:]).to(menus.device)
              for c in columns)
        )  # fmt: skip

    def _score(self, menus: NDArray[np.int16], device: torch.device) -> NDArray[np.float64]:
        """`(n, 2 + 2 K)` value, bound, prices and spend over all users."""
        store = self._store
        if device.type != "cpu" or native.kernel is None:
            return store.scores(menus, _TOLERANCE, device)
        pieces = np.array_split(menus, min(self.n_threads, max(1, len(menus))))
        if len(pieces) == 1:
            return store.scores(menus, _TOLERANCE)
        with ThreadPoolExecutor(len(pieces)) as pool:
            return np.concatenate(list(pool.map(lambda m: store.scores(m, _TOLERANCE), pieces)))


def in_fractions(
    menu: Sequence[int], columns: Columns, rows: BudgetRows, fixed_cost: ArrayLike = 0.0
) -> tuple[MenuScores, float]:
    """Scores `(1,)` of one menu, and the money per user that its allocation is expected to cost.

    Args:
        menu: at least one offer.
        columns: users.
        rows: budgets.
        fixed_cost: see `MenuFitness`.
    """
    if len(rows.names) == native.MAX_BUDGETS:  # no room to measure money beside
        own = MenuFitness(columns, budget_per_user=rows, fixed_cost=fixed_cost)
        found = own.scores(padded([menu]))
        return found, float(found.spend[0].numpy()[rows.is_money].max(initial=0.0))
    _, cost = columns.take(np.array(menu, dtype=np.int64))
    wide = BudgetRows(
        (*rows.names, "money"),
        np.append(rows.limit, 1.0 + float(cost.max())),  # never binds
        np.append(rows.is_money, True),
        np.concatenate([rows.covers, np.ones_like(rows.covers[:1])]),
    )
    found = MenuFitness(columns, budget_per_user=wide, fixed_cost=fixed_cost).scores(padded([menu]))
    k = len(rows.names)
    return (
        found._replace(price=found.price[:, :k], spend=found.spend[:, :k]),
        float(found.spend[0, k]),
    )


class _Store:
    """Columns of the offers met so far, and scores from them; starts anew when it is full."""

    def __init__(self, columns: Columns, budgets: BudgetRows) -> None:
        self._columns, self._budgets = columns, budgets
        self._limit = budgets.limit * columns.n_users
        self.stride = -(-columns.n_users // native.ALIGNED) * native.ALIGNED
        # the store of a large sample is small, but a menu always fits
        most = max(_STORE_BYTES // (8 * self.stride), 2 * native.MAX_SLOTS)
        self.most = min(native.MAX_COLUMNS, most, max(columns.n_offers, 1))
        self._clear()

    def _clear(self) -> None:
        """Forget all columns."""
        self._place: dict[int, int] = {}
        # one row that the empty slots of menus may read while no offer is there
        self.value = np.zeros((1, self.stride), dtype=np.float32)
        self.cost = np.zeros_like(self.value)  # of one budget: what it measures
        self._offer = np.zeros(1, dtype=np.int64)
        # prices from which the search begins, and the largest value per cost
        self.own, self.top = np.zeros((1, max(1, len(self._limit)))), np.zeros(1)
        self._on_device: dict[torch.device, tuple[int, Tensor, Tensor]] = {}

    def local(self, menus: NDArray[np.int64]) -> NDArray[np.int16]:
        """Menus by numbers of columns of the store, -1 = empty."""
        offers, place = np.unique(menus, return_inverse=True)
        is_known = offers >= 0
        new = [int(o) for o in offers[is_known] if int(o) not in self._place]
        if len(self._place) + len(new) > self.most:
            self._clear()
            new = offers[is_known].tolist()
        if new:
            self._add(np.array(new, dtype=np.int64))
        at = [self._place[o] if o >= 0 else -1 for o in offers.tolist()]
        found: NDArray[np.int16] = np.array(at, dtype=np.int16)[place.reshape(menus.shape)]
        return found

    def _add(self, offers: NDArray[np.int64]) -> None:
        value, cost = self._columns.take(offers)
        if len(self._limit) == 1:
            cost = self._budgets.use(offers, cost)[0]
        start, n, end = len(self._place), self._columns.n_users, len(self._place) + len(offers)
        if end > len(self.value):
            size = min(self.most, max(2 * end, _FIRST_SIZE))
            for name in ("value", "cost", "own", "top", "_offer"):
                setattr(self, name, _longer(getattr(self, name), size))
        self.value[start:end, :n], self.cost[start:end, :n] = value, cost
        self._offer[start:end] = offers
        pays = (value > 0) & (cost > 0)
        ratio = np.divide(value, cost, out=np.zeros_like(value), where=pays)
        self.top[start:end] = ratio.max(axis=1, initial=0.0)
        self._place.update(zip(offers.tolist(), range(start, end), strict=True))
        if native.kernel is not None and np.isfinite(self._limit).any():
            single = np.arange(start, end, dtype=np.int16)[:, None]
            found = self.scores(single, _HINT_TOLERANCE)
            self.own[start:end] = found[:, 2 : 2 + len(self._limit)]

    def scores(
        self, menus: NDArray[np.int16], tolerance: float, device: torch.device = _CPU
    ) -> NDArray[np.float64]:
        """`(n, 2 + 2 K)` value, bound, prices and spend over all users."""
        k, is_native = len(self._limit), device.type == "cpu" and native.kernel is not None
        if k <= 1:
            limit = float(self._limit[0]) if k else np.inf
            if is_native:
                hints = self.own[:, 0], self.top
                found = native.scores(self.value, self.cost, menus, hints, limit, tolerance)
            else:
                found = tensor_scores(*self.tensors(device), menus, self.top, limit, tolerance)
            return found[:, : 2 + 2 * k]
        is_open = menus >= 0
        offers = np.where(is_open, self._offer[menus], 0)
        covers = self._budgets.covers[:, offers].transpose(1, 0, 2) & is_open[:, None]
        kinds = np.where(self._budgets.is_money[:, None], 1, 2).astype(np.uint8) * covers
        sample = (self.value, self.cost) if is_native else self.tensors(device)
        passes: Any = native.passes if is_native else tensor_passes

        def evaluate(rows: NDArray[np.int64], prices: NDArray[np.float64]) -> tuple[Any, Any]:
            rates = (
                (prices[:, None] @ (kinds[rows] == kind))[:, 0].astype(np.float32)
                for kind in (1, 2)
            )
            net, use = passes(*sample, menus[rows], kinds[rows], *rates)
            return net + (prices * use).sum(axis=1), use

        first = np.where(is_open[:, :, None], self.own[menus], 0.0).max(axis=1, initial=0.0)
        return priced(evaluate, self._limit, first, tolerance)

    def tensors(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Value and cost as tensors `(columns, stride)`."""
        size = len(self._place)
        found = self._on_device.get(device)
        if found is None or found[0] != size:
            value, cost = (
                torch.from_numpy(a[: max(1, size)]).to(device) for a in (self.value, self.cost)
            )
            found = self._on_device[device] = (size, value, cost)
        return found[1], found[2]


def _longer(array: NDArray[Any], size: int) -> NDArray[Any]:
    found = np.zeros((size, *array.shape[1:]), dtype=array.dtype)
    found[: len(array)] = array
    return found
