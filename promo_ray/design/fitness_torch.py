"""Scores of menus by tensor code: on a GPU, and where the compiled kernel is absent."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_CHUNK = 1 << 17  # users times menus per pass; a float32 array of it fits a second-level cache
_MAX_PASSES = 40


class _Point(NamedTuple):
    price: Tensor
    spend: Tensor
    value: Tensor

    def bound(self, budget: float) -> Tensor:
        return self.value + self.price * (budget - self.spend)


def tensor_scores(
    value: Tensor,
    cost: Tensor,
    menus: NDArray[np.int16],
    top: NDArray[np.float64],
    budget: float,
    tolerance: float,
) -> NDArray[np.float64]:
    """`(n, 4)` value, bound, price and spend over all users; see `native.scores`."""
    device, slots = value.device, menus.shape[1]
    value = torch.cat([value, torch.zeros_like(value[:1])])
    cost = torch.cat([cost, torch.zeros_like(cost[:1])])
    local = torch.from_numpy(menus.astype(np.int64)).to(device)
    local = torch.where(local < 0, len(value) - 1, local)
    highest = np.append(top[: len(value) - 1], 0.0)
    limits = torch.from_numpy(highest).to(device)[local].amax(-1) if slots else local.sum(-1) * 0.0
    size = max(1, _CHUNK // max(1, value.shape[1]))
    parts = [
        _solve(value, cost, m, t * (1 + 1e-5), budget, tolerance)
        for m, t in zip(torch.split(local, size), torch.split(limits, size), strict=True)
    ]
    return torch.cat(parts).cpu().numpy()


def _solve(
    value: Tensor, cost: Tensor, menus: Tensor, top: Tensor, budget: float, tolerance: float
) -> Tensor:
    """Bracket from price 0 to that of free offers alone, then secants and halvings in turn."""
    low = _at(value, cost, menus, torch.zeros_like(top))
    slack = low.spend <= budget
    free = torch.stack([low.value, low.value, low.price, low.spend], dim=1)
    if bool(slack.all()):
        return free
    high = _at(value, cost, menus, top.float().double())
    for turn in range(_MAX_PASSES):
        share = (low.spend - budget) / (low.spend - high.spend)
        middle = (low.price * high.price).sqrt() if turn else high.price / 4
        middle = torch.where(low.price > 0, middle, high.price / 4)
        secant = low.price + share.clamp(0.01, 0.99) * (high.price - low.price)
        price = (secant if turn % 2 else middle).float().double()
        bound = torch.minimum(low.bound(budget), high.bound(budget))
        fill = ((budget - high.spend) / (low.spend - high.spend)).clamp(0, 1)
        gap = bound - (high.value + fill * (low.value - high.value))
        done = slack | (gap <= tolerance * bound.abs())
        done |= ~((price > low.price) & (price < high.price))
        if bool(done.all()):
            break
        point = _at(value, cost, menus, price)
        fits = point.spend <= budget
        # a menu that is done stays as it is, whatever others of its batch need
        low = _choose(fits | done, low, point)
        high = _choose(fits & ~done, point, high)
    share = ((budget - high.spend) / (low.spend - high.spend)).nan_to_num(0.0).clamp(0, 1)
    found = torch.stack(
        [
            high.value + share * (low.value - high.value),
            torch.minimum(low.bound(budget), high.bound(budget)),
            high.price,
            high.spend + share * (low.spend - high.spend),
        ],
        dim=1,
    )
    return torch.where(slack[:, None], free, found)


def _at(value: Tensor, cost: Tensor, menus: Tensor, price: Tensor) -> _Point:
    """Every user takes the best at a price."""
    minus = -price.float().unsqueeze(-1)  # exact: prices are float32 numbers
    best = torch.zeros(len(menus), value.shape[1], device=value.device)
    used, wins = torch.zeros_like(best), torch.empty_like(best)
    for slot in menus.unbind(-1):
        slot_cost = cost.index_select(0, slot)
        net = value.index_select(0, slot).addcmul_(minus, slot_cost)
        # a mask of floats and lerp by 0 or 1 are exact, and ten times as fast as where
        torch.gt(net, best, out=wins)
        torch.maximum(net, best, out=best)
        used.lerp_(slot_cost, wins)
    spend = used.sum(-1, dtype=torch.float64)
    return _Point(price, spend, best.sum(-1, dtype=torch.float64) + price * spend)


def _choose(mask: Tensor, yes: _Point, no: _Point) -> _Point:
    return _Point(*(torch.where(mask, a, b) for a, b in zip(yes, no, strict=True)))


def tensor_passes(
    value: Tensor,
    cost: Tensor,
    menus: NDArray[np.int16],
    kinds: NDArray[np.uint8],
    per_cost: NDArray[np.float32],
    per_offer: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Net value and use of each budget; see `native.passes`."""
    device, (n, n_budgets, slots) = value.device, kinds.shape
    local = torch.from_numpy(menus.astype(np.int64)).to(device)
    kind, *prices = (torch.from_numpy(a).to(device) for a in (kinds, per_cost, per_offer))
    net = torch.zeros(n, dtype=torch.float64, device=device)
    use = torch.zeros(n, n_budgets, dtype=torch.float64, device=device)
    size = max(1, _CHUNK // max(1, value.shape[1]))
    for start in range(0, n, size):
        part = slice(start, start + size)
        own, (rate, fee) = local[part], (p[part] for p in prices)
        best = torch.zeros(len(own), value.shape[1], device=device)
        used = torch.zeros(n_budgets, *best.shape, device=device)
        for j in range(slots):
            index = own[:, j].clamp(min=0)
            slot_cost = cost.index_select(0, index)
            mine = value.index_select(0, index) - rate[:, j, None] * slot_cost - fee[:, j, None]
            wins = (mine > best) & (own[:, j, None] >= 0)
            best = torch.where(wins, mine, best)
            for k in range(n_budgets):
                what = kind[part, k, j, None]
                counted = torch.where(what == 1, slot_cost, (what == 2).float())
                used[k] = torch.where(wins, counted, used[k])
        net[part] = best.sum(-1, dtype=torch.float64)
        use[part] = used.sum(-1, dtype=torch.float64).T
    return net.cpu().numpy(), use.cpu().numpy()
