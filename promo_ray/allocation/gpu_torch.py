"""The pass over users on a device by torch; see `gpu`.

Letters: c users of a chunk, m slots, k budgets, R rows; arrays are (m, c). All operations are
elementwise, in the order of `_kernel.c` (sums over slots go slot by slot), and sums over users are
of integers: the bits do not depend on the device, on vector widths or on the number of threads.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from promo_ray.allocation.gpu_block import WINDOW, DeviceBlock, Setting

CERTAIN = 1.0 - 3.4e-4  # a smaller largest share leaves a choice
ROUND = 6755399441055744.0  # 1.5 * 2**52: adding it rounds to a whole number in the low bits
TAYLOR = tuple(1.0 / math.factorial(k) for k in range(13, -1, -1))  # of exp, from the last term
GOLDEN, MIX = 0x9E3779B97F4A7C15, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def exp_of(x: Tensor) -> Tensor:
    """exp(x) for x in [-700, 0], as `exp_of` of `_kernel.c` computes it."""
    whole = x * 1.4426950408889634 + ROUND
    k = whole - ROUND
    r = (x - k * float.fromhex("0x1.62e42fefa0000p-1")) - k * float.fromhex("0x1.cf79abc9e3b3ap-40")
    p = torch.full_like(r, TAYLOR[0])
    for term in TAYLOR[1:]:
        p = p * r + term
    return p * ((whole.view(torch.int64) + 1023) << 52).view(torch.float64)


def log_of(z: Tensor) -> Tensor:
    """log(z) for z >= 1, as `log_of` of `_kernel.c` computes it."""
    bits = z.view(torch.int64)
    k = (bits >> 52) - 1023
    f = ((bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000).view(torch.float64)
    is_high = f > 1.4142135623730951
    f, k = torch.where(is_high, f * 0.5, f), k + is_high
    s = (f - 1.0) / (f + 1.0)
    s2, p = s * s, torch.full_like(s, 1.0 / 21.0)
    for d in range(19, 0, -2):
        p = p * s2 + 1.0 / d
    return 2.0 * s * p + k.to(torch.float64) * 0.6931471805599453


def _fixed(x: Tensor) -> Tensor:
    """Nearest int64, halves away from zero."""
    return (x + torch.where(x < 0, -0.5, 0.5)).to(torch.int64)


def _signed(bits: int) -> int:
    bits &= (1 << 64) - 1
    return bits - (1 << 64) if bits >> 63 else bits


def _mix(z: Tensor) -> Tensor:
    """The last rounds of SplitMix64, on int64 bits."""
    for shift, factor in ((30, MIX[0]), (27, MIX[1])):
        z = (z ^ _shifted(z, shift)) * _signed(factor)
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, by: int) -> Tensor:
    return (z >> by) & ((1 << (64 - by)) - 1)


def _in_order(terms: Tensor) -> Tensor:
    """Sum over the first axis, one by one."""
    total = torch.zeros_like(terms[0])
    for term in terms:
        total = total + term
    return total


def _net_scores(users: DeviceBlock, setting: Setting) -> Tensor:
    """Scores `(m, c)` float64 before the price of the segment's floor."""
    prices, k, n_offers = setting.prices, len(users.costs), setting.where.rows.n_offers
    s = users.value.to(torch.float64)
    for price, cost in zip(prices[:k].tolist(), users.costs, strict=True):
        if price:
            s = s - price * cost.to(torch.float64)
    if n_offers:
        mu = torch.tensor(prices[k : k + n_offers], device=s.device)
        price = mu[:, None] if users.offer_idx is None else mu[users.offer_idx]
        use = users.capacity_use
        s = s - (price if use is None else price * use.to(torch.float64))
    return s


def _bonus(users: DeviceBlock, setting: Setting) -> Tensor | float:
    """Price `(c,)` of the floor of each user's segment, earned by serving the user."""
    if users.segment_idx is None or not setting.where.rows.n_segments:
        return 0.0
    nu = torch.tensor(setting.prices[setting.where.rows.n_packing :], device=users.value.device)
    return torch.where(users.segment_idx < 0, 0.0, nu[users.segment_idx.clamp_min(0)])


def _told(users: DeviceBlock, net: Tensor, setting: Setting) -> Tensor:
    """Scores with ties told apart by a number that belongs to user and slot."""
    key = _mix(users.keys * _signed(GOLDEN) + setting.draw_seed)
    turn = torch.arange(1, len(net) + 1, device=net.device)[:, None] * _signed(GOLDEN)
    draw = (_shifted(_mix(key + turn), 11).to(torch.float64) + 0.5) * 2.0**-53
    return net - setting.where.tie * draw + _bonus(users, setting)


def _best(s: Tensor, reach: float) -> tuple[Tensor, Tensor, Tensor]:
    """Best score, its slot (-1 = none), and users with another option within reach of it."""
    top, slot = s.max(dim=0)
    best = top.clamp_min(0.0)
    n_near = ((best - s) <= reach).sum(0) + (best <= reach)
    return best, torch.where(top > 0, slot, -1), torch.nonzero(n_near > 1)[:, 0]


def chosen_slots(block: DeviceBlock, setting: Setting, step: int) -> Tensor:
    """`(n,)` int32 best slot of each user, -1 = none."""
    chosen = torch.empty(block.n, dtype=torch.int32, device=block.value.device)
    for a in range(0, block.n, step):
        users = block.take(slice(a, a + step))
        net = _net_scores(users, setting)
        s = net + _bonus(users, setting)
        _, _, tied = _best(s, setting.where.tie)
        s[:, tied] = _told(users.take(tied), net[:, tied], setting)
        chosen[a : a + step] = _best(s, 0.0)[1]
    return chosen


def torch_sums(block: DeviceBlock, setting: Setting, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Users with a choice, wide sums `(3 + R, 2)`, and curvature `(R, R)` (upper triangle)."""
    sums = _Sums(setting, len(block.costs), block.value.device)
    for a in range(0, block.n, step):
        sums.add(block.take(slice(a, a + step)))
    return sums.n_near, sums.wide, sums.curvature


class _Sums:
    """Integer sums on the device."""

    def __init__(self, setting: Setting, k: int, device: torch.device) -> None:
        self.setting, self.rows, self.k = setting, setting.where.rows, k
        self.use_unit = torch.tensor(setting.use_unit, device=device)
        self.scale = torch.tensor(setting.curvature_scale, device=device)
        n = len(setting.prices)
        self.n_near = torch.zeros((), dtype=torch.int64, device=device)
        self.wide = torch.zeros((3 + n, 2), dtype=torch.int64, device=device)
        self.curvature = torch.zeros((n, n), dtype=torch.int64, device=device)

    def add(self, users: DeviceBlock) -> None:
        """Add users: those without another option near the best by their slot, others by shares."""
        net = _net_scores(users, self.setting)
        best, slot, is_open = _best(net + _bonus(users, self.setting), self.setting.reach)
        at = torch.arange(len(net), device=net.device)[:, None]
        x, served, smooth = (slot == at).to(torch.float64), (slot >= 0).to(torch.float64), best
        if len(is_open):
            few, smooth = users.take(is_open), best.clone()
            told = _told(few, net[:, is_open], self.setting)
            x[:, is_open], served[is_open], smooth[is_open] = self._soften(told)
        self._add_wide(0, _fixed(best * self.setting.value_unit))
        self._add_wide(1, _fixed(smooth * self.setting.value_unit))
        value = x * torch.where(x > 0, users.value.to(torch.float64), 0.0)
        self._add_wide(2, _fixed(_in_order(value) * self.setting.value_unit))
        local = _Local(users, x, served, self.rows.n_offers, self.rows.n_segments)
        for row, use in zip(local.rows, local.use, strict=True):
            self._add_wide(3 + row, _fixed(use * self.use_unit[row]))
        if len(is_open):
            open_x, open_served = x[:, is_open], served[is_open]
            local = _Local(few, open_x, open_served, self.rows.n_offers, self.rows.n_segments)
            self._add_curvature(local)

    def _soften(self, told: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Softmax of the slots and none: shares, share served, and tau log sum exp."""
        tau = self.setting.tau
        top = told.max(dim=0).values.clamp_min(0.0)
        below = (told - top) * (1.0 / tau)
        e = torch.where(below > -WINDOW, exp_of(below.clamp_min(-WINDOW)), 0.0)
        none = torch.where(top > WINDOW * tau, 0.0, exp_of((-top / tau).clamp_min(-2 * WINDOW)))
        z = _in_order(torch.cat([none[None], e]))
        x, served = e / z, 1.0 - none / z
        most = torch.maximum(x.max(dim=0).values, 1.0 - served)
        self.n_near += (most < CERTAIN).sum()
        return x, served, top + tau * log_of(z)

    def _add_wide(self, row: int | Tensor, q: Tensor) -> None:
        _add_to(self.wide[:, 0], row, q >> 32)
        _add_to(self.wide[:, 1], row, q & 0xFFFFFFFF)

    def _add_curvature(self, local: _Local) -> None:
        """Add sum_j x_j a_j a_j' - u u' of each user, all of it scaled down to fit."""
        scale, most = [self.scale[row] for row in local.rows], self.setting.curvature_most
        factor = torch.ones_like(local.served)
        for a in range(len(local.rows)):
            x = local.covariance(a, a) * scale[a] * scale[a]
            factor = torch.where(factor * x > most, most / x, factor)
        n, flat = len(self.curvature), self.curvature.view(-1)
        for a, row in enumerate(local.rows):
            for b in range(a, len(local.rows)):
                other = local.rows[b]
                if isinstance(row, int) and isinstance(other, int):
                    cell: int | Tensor = row * n + other
                else:
                    pair = torch.as_tensor(row), torch.as_tensor(other)
                    cell = torch.minimum(*pair) * n + torch.maximum(*pair)
                q = _fixed(factor * (local.covariance(a, b) * scale[a] * scale[b]))
                _add_to(flat, cell, q)


def _add_to(target: Tensor, cell: int | Tensor, q: Tensor) -> None:
    """Add the integers of users to one cell, or each to its own."""
    if isinstance(cell, int):
        target[cell] += q.sum()
    else:
        target.index_add_(0, cell, q)


class _Local:
    """The rows that users' slots use: budgets, a row per slot's offer, the segment's floor.

    Attributes:
        rows: of each local row, its number among all R, or that of each user `(c,)`.
        use: of each local row, mean use `(c,)`.
        served: `(c,)` share served.
    """

    def __init__(
        self, users: DeviceBlock, x: Tensor, served: Tensor, n_offers: int, n_segments: int
    ) -> None:
        self.x, self.served, self.k, m = x, served, len(users.costs), len(x)
        self.costs = users.costs.to(torch.float64)
        self.rows: list[int | Tensor] = list(range(self.k))
        self.use = [_in_order(x * cost) for cost in self.costs]
        self.n_packing = self.k + (m if n_offers else 0)
        if n_offers:
            w, idx = users.capacity_use, users.offer_idx
            self.first = None if idx is None else _first(torch.where(x > 0, idx, -1))
            self.amount = torch.ones_like(x) if w is None else w.to(torch.float64)
            self.rows += [self.k + j if idx is None else self.k + idx[j] for j in range(m)]
            self.use += list(self._merged(x * self.amount))
            self.squares = self._merged(x * self.amount * self.amount)
        if users.segment_idx is not None and n_segments:
            segment = users.segment_idx.to(torch.int64)
            self.has_floor = (segment >= 0).to(torch.float64)
            self.rows.append(self.k + n_offers + segment.clamp_min(0))
            self.use.append(-served * self.has_floor)

    def _merged(self, terms: Tensor) -> Tensor:
        """Terms `(m, c)` of slots, each in the first slot with the same offer."""
        if self.first is None:
            return terms
        merged = torch.zeros_like(terms)
        for slot, term in zip(self.first, terms, strict=True):
            merged.scatter_add_(0, slot[None], term[None])
        return merged

    def covariance(self, a: int, b: int) -> Tensor:
        """sum_j x_j a_ja a_jb - u_a u_b `(c,)` of local rows a <= b."""
        k, both = self.k, self.use[a] * self.use[b]
        if b < k:
            return _in_order(self.x * self.costs[a] * self.costs[b]) - both
        if b < self.n_packing and a < k:
            return self._merged(self.x * self.costs[a] * self.amount)[b - k] - both
        if b < self.n_packing:
            return self.squares[b - k] - both if a == b else -both
        product = _in_order(self.x) if a == b else -self.use[a]
        return (product - both) * self.has_floor


def _first(offer: Tensor) -> Tensor:
    """Of each slot the first one with the same offer."""
    first = torch.zeros_like(offer, dtype=torch.int64)
    for j in range(len(offer) - 1, -1, -1):
        first = torch.where(offer == offer[j], j, first)
    return first
