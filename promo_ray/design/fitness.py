"""Fitness of whole populations of menus: value of the best allocation under the budget.

Every user gets the offer of the menu with the largest value less price times cost, or none. The
price is the dual of the budget; it is bisected for all menus at once. Value and cost of an offer
are shared by all menus that hold it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from promo_ray.errors import ConfigError, DataError

_N_RUNGS = 64  # prices tried first: quantiles of value per cost
_N_HALVINGS = 4  # halvings between two rungs: 1,024 steps of price in all
_CHUNK = 1 << 17  # users times menus per pass; a float32 array of it fits a second-level cache


class MenuScores(NamedTuple):
    """Scores of menus, per user of the sample; each `(*batch, pop)` float64.

    Attributes:
        value: value of a feasible allocation, less fixed costs. It is whole for all users but
            for the share of those on the edge that the rest of the budget pays for.
        bound: no allocation of the menu is worth more.
        price: value per unit of cost below which offers are not handed out; 0 = budget left.
        spend: cost of that allocation, <= the budget.
    """

    value: Tensor
    bound: Tensor
    price: Tensor
    spend: Tensor


class MenuFitness:
    """Values menus on a sample of users; picklable, the same sample for all menus.

    Args:
        value: `(n, g)` expected value of each offer of the grid for each user, net of its
            costs; -inf = not eligible.
        cost: `(n, g)` expected use of the budget, finite and >= 0.
        budget_per_user: budget over the number of users; None = unlimited.
        fixed_cost: value lost per user for every offer that stands in the menu (what it costs to
            run an offer, over the number of users of the campaign); scalar or `(g,)`.

    Raises:
        DataError: shapes differ, NaN, negative cost, or no user.
        ConfigError: negative budget.
    """

    def __init__(
        self,
        value: ArrayLike,
        cost: ArrayLike,
        *,
        budget_per_user: float | None,
        fixed_cost: ArrayLike = 0.0,
    ) -> None:
        value, cost = checked_sample(value, cost)
        if budget_per_user is not None and not budget_per_user >= 0:
            raise ConfigError(f"budget_per_user must be >= 0; got {budget_per_user}")
        self.n_users, self.n_offers = value.shape
        self.budget_per_user = budget_per_user
        self._fixed = np.append(np.broadcast_to(np.asarray(fixed_cost, float), self.n_offers), 0.0)
        # users whom no offer can please never take one; leaving them out changes no sum
        is_open = (value > 0).any(axis=1)
        self._value = _with_empty(value[is_open])
        self._cost = _with_empty(cost[is_open])
        self._rungs = _price_rungs(self._value, self._cost)
        self._on_device: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_on_device": {}}

    def __call__(self, menus: Tensor) -> Tensor:
        """Value of each menu per user: `(*batch, pop, slots)` int64 to `(*batch, pop)` float64."""
        return self.scores(menus).value

    def scores(self, menus: Tensor) -> MenuScores:
        """Value, bound, price and spend of menus.

        Args:
            menus: `(*batch, pop, slots)` int64 rows of the grid, -1 = empty slot; an offer that
                stands in two slots pays its fixed cost twice.

        Returns:
            The same bits for any batch and order of menus.
        """
        shape = menus.shape[:-1]
        flat = torch.where(menus < 0, self.n_offers, menus).reshape(-1, menus.shape[-1])
        size = max(1, _CHUNK // max(1, self._value.shape[1]))
        parts = [self._score(chunk) for chunk in torch.split(flat, size)]
        columns = [torch.cat(column).reshape(shape) for column in zip(*parts, strict=True)]
        return MenuScores(*columns)

    def _score(self, menus: Tensor) -> MenuScores:
        n = self.n_users
        fixed = torch.from_numpy(self._fixed).to(menus.device)[menus].sum(-1)
        zero = torch.zeros(len(menus), dtype=torch.float64, device=menus.device)
        spend_low, value_low = self._allocate(menus, zero)
        if self.budget_per_user is None:
            return MenuScores(value_low / n - fixed, value_low / n - fixed, zero, spend_low / n)
        budget = self.budget_per_user * n
        is_slack = spend_low <= budget
        all_value, all_spend = value_low, spend_low
        rungs = torch.from_numpy(self._rungs).to(menus.device)
        low, high = torch.zeros_like(menus[:, 0]), torch.full_like(menus[:, 0], len(rungs) - 1)
        # the last rung spends on free offers alone
        spend_high, value_high = self._allocate(menus, rungs[high])
        for _ in range((len(rungs) - 2).bit_length()):
            middle = (low + high) // 2
            spend, value = self._allocate(menus, rungs[middle])
            fits = spend <= budget
            low, high = torch.where(fits, low, middle), torch.where(fits, middle, high)
            spend_low, value_low = _choose(fits, (spend_low, value_low), (spend, value))
            spend_high, value_high = _choose(fits, (spend, value), (spend_high, value_high))
        price_low, price_high = rungs[low], rungs[high]
        for _ in range(_N_HALVINGS):
            price = ((price_low + price_high) / 2).float().double()
            spend, value = self._allocate(menus, price)
            fits = spend <= budget
            price_low, price_high = _choose(fits, (price_low, price), (price, price_high))
            spend_low, value_low = _choose(fits, (spend_low, value_low), (spend, value))
            spend_high, value_high = _choose(fits, (spend, value), (spend_high, value_high))
        # low overspends, high fits: the rest of the budget pays for a share of the way to low
        share = ((budget - spend_high) / (spend_low - spend_high)).clamp(0, 1)
        value = value_high + share * (value_low - value_high)
        spend = spend_high + share * (spend_low - spend_high)
        bound_low = value_low + price_low * (budget - spend_low)
        bound_high = value_high + price_high * (budget - spend_high)
        bound = torch.minimum(bound_low, bound_high)
        return MenuScores(
            value=torch.where(is_slack, all_value, value) / n - fixed,
            bound=torch.where(is_slack, all_value, bound) / n - fixed,
            price=torch.where(is_slack, 0.0, price_high),
            spend=torch.where(is_slack, all_spend, spend) / n,
        )

    def _allocate(self, menus: Tensor, price: Tensor) -> tuple[Tensor, Tensor]:
        """Spend and value over the sample when every user takes the best at a price, float64."""
        all_values, all_costs = self._tensors(menus.device)
        minus = -price.float().unsqueeze(-1)  # exact: prices are float32 numbers
        best = torch.zeros(len(menus), all_values.shape[1], device=menus.device)
        cost, is_better = torch.zeros_like(best), torch.empty_like(best)
        for slot in menus.unbind(-1):
            slot_cost = all_costs.index_select(0, slot)
            net = all_values.index_select(0, slot).addcmul_(minus, slot_cost)
            # a mask of floats and lerp by 0 or 1 are exact, and ten times as fast as where
            torch.gt(net, best, out=is_better)
            torch.maximum(net, best, out=best)
            cost.lerp_(slot_cost, is_better)
        spend = cost.sum(-1, dtype=torch.float64)
        return spend, best.sum(-1, dtype=torch.float64) + price * spend

    def _tensors(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._on_device:
            # a copy: arrays from other processes are read-only
            both = (torch.tensor(self._value), torch.tensor(self._cost))
            self._on_device[device] = (both[0].to(device), both[1].to(device))
        return self._on_device[device]


def checked_sample(
    value: ArrayLike, cost: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Value and cost as float32 `(n, g)`.

    Raises:
        DataError: shapes differ, no user or offer, NaN or +inf, or a cost negative or not finite.
    """
    value, cost = np.asarray(value, dtype=np.float32), np.asarray(cost, dtype=np.float32)
    if value.ndim != 2 or value.shape != cost.shape or 0 in value.shape:
        raise DataError(
            f"must be (users, offers), alike and not empty; got {value.shape}, {cost.shape}",
            where="value and cost",
        )
    if np.isnan(value).any() or (value == np.inf).any():
        raise DataError("must be finite, or -inf for an offer not eligible", where="value")
    if not (np.isfinite(cost).all() and (cost >= 0).all()):
        raise DataError("must be finite and >= 0", where="cost")
    return value, cost


def _with_empty(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Offers as rows, `(g + 1, n)`; the last row is the empty slot, worth and costing nothing."""
    return np.vstack([values.T, np.zeros((1, len(values)), dtype=np.float32)])


def _price_rungs(value: NDArray[np.float32], cost: NDArray[np.float32]) -> NDArray[np.float64]:
    """Prices from 0 to just above the largest value per cost, spaced by its quantiles."""
    pays = (value > 0) & (cost > 0)
    ratio = value[pays].astype(np.float64) / cost[pays]
    if not ratio.size:
        return np.zeros(2)
    inner = np.quantile(ratio, np.arange(1, _N_RUNGS) / _N_RUNGS)
    # above the largest ratio by more than float32 can round away
    prices = np.concatenate([[0.0], inner, [ratio.max() * (1 + 1e-5)]])
    return prices.astype(np.float32).astype(np.float64)


def _choose(
    fits: Tensor, yes: tuple[Tensor, Tensor], no: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    return torch.where(fits, yes[0], no[0]), torch.where(fits, yes[1], no[1])
