"""Seeded allocation problems as plain arrays, apart from the classes of the library."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from promo_ray.allocation import AllocationProblem

INF = np.inf


@dataclass(frozen=True, kw_only=True)
class Case:
    """Arguments of `AllocationProblem`; the oracles read these, never the problem."""

    value: np.ndarray
    costs: np.ndarray
    budgets: np.ndarray
    offer_idx: np.ndarray | None = None
    capacity: np.ndarray | None = None
    capacity_use: np.ndarray | None = None
    segment_idx: np.ndarray | None = None
    floors: np.ndarray | None = None
    max_offers: int = 1
    groups: Sequence[tuple[Sequence[int], int]] | None = None

    def problem(self) -> AllocationProblem:
        """The same as a problem; arguments at their defaults are left out."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        given = {name: x for name, x in fields.items() if x is not None}
        if self.max_offers == 1:
            del given["max_offers"]
        return AllocationProblem(**given)

    def but(self, **changes: Any) -> Case:
        """A copy with some arguments changed."""
        return dataclasses.replace(self, **changes)

    def take(self, users: np.ndarray) -> Case:
        """These users in this order, limits unchanged."""
        per_user = ("value", "offer_idx", "capacity_use", "segment_idx")
        found = {n: None if (x := getattr(self, n)) is None else x[users] for n in per_user}
        return self.but(**found, costs=self.costs[:, users])

    @property
    def limits(self) -> np.ndarray:
        """Right-hand sides: budgets, capacities, floors."""
        empty = np.empty(0)
        more = [empty if x is None else np.asarray(x) for x in (self.capacity, self.floors)]
        return np.concatenate([np.asarray(self.budgets), *more]).astype(np.float64)

    @property
    def n_floors(self) -> int:
        """Number of floor rows."""
        return 0 if self.floors is None else len(self.floors)

    @property
    def offer(self) -> np.ndarray:
        """`(n, m)` offer of each slot."""
        if self.offer_idx is not None:
            return self.offer_idx
        return np.broadcast_to(np.arange(self.value.shape[1]), self.value.shape)

    @property
    def use(self) -> np.ndarray:
        """`(n, m)` use of the own offer's row."""
        ones = np.ones(self.value.shape, dtype=np.float32)
        return ones if self.capacity_use is None else self.capacity_use

    @property
    def row_names(self) -> list[str]:
        """Name of each row as an `InfeasibleError` gives it."""
        n_capacities = 0 if self.capacity is None else len(self.capacity)
        sizes = {"budget": len(self.budgets), "capacity": n_capacities, "floor": self.n_floors}
        return [f"{kind}[{i}]" for kind, size in sizes.items() for i in range(size)]


def random_case(
    seed: int,
    max_users: int = 40,
    max_slots: int = 6,
    *,
    has_floors: bool | None = None,
    most_offers: int = 3,
) -> Case:
    """Small case with every oddity; `has_floors` None: half of them have floors."""
    rng = np.random.default_rng([seed, 31])
    n, m = int(rng.integers(1, max_users + 1)), int(rng.integers(1, max_slots + 1))
    k = int(rng.integers(0, 4))
    is_grid = rng.random() < 0.35
    value, costs = _amounts(rng, n, m, k, is_grid)
    if rng.random() < 0.25 and n > 1:  # users who are copies of others
        source = rng.integers(0, max(1, n // 3), n)
        value, costs = value[source], costs[:, source]
    budgets = rng.uniform(0, 0.6, k) * costs.max(axis=2, initial=0).sum(axis=1, dtype=np.float64)
    if is_grid:
        budgets = np.floor(budgets)
    budgets[rng.random(k) < 0.1] = 0.0
    budgets[rng.random(k) < 0.1] = INF
    case = Case(value=value, costs=costs, budgets=budgets)
    case, n_offers = _with_offers(rng, case, is_grid)
    if rng.random() < 0.5 if has_floors is None else has_floors:
        case = _with_floors(rng, case)
    if most_offers > 1 and rng.random() < 0.4:
        case = case.but(max_offers=int(rng.integers(1, most_offers + 1)))
        if rng.random() < 0.6:
            case = case.but(groups=laminar_groups(rng, n_offers))
    return case


def _amounts(
    rng: np.random.Generator, n: int, m: int, k: int, is_grid: bool
) -> tuple[np.ndarray, np.ndarray]:
    kind = rng.random()
    if is_grid:
        value, costs = rng.integers(-1, 4, (n, m)), rng.integers(0, 3, (k, n, m))
    elif kind < 0.15:
        value, costs = rng.pareto(1.3, (n, m)), rng.pareto(1.3, (k, n, m))
    elif kind < 0.3:  # value in proportion to the first cost: all users tie at one price
        costs = rng.exponential(1, (k, n, m))
        value = 2 * costs[0] if k else rng.normal(1, 1, (n, m))
    else:
        value, costs = rng.normal(1, 1, (n, m)), rng.exponential(1, (k, n, m))
    value, costs = value.astype(np.float32), costs.astype(np.float32)
    value[rng.random((n, m)) < 0.15] = -INF
    value[rng.random(n) < 0.1] = -INF
    if rng.random() < 0.02:
        value[:] = -INF
    costs[rng.random((k, n, m)) < 0.1] = 0.0
    return value, costs


def _with_offers(rng: np.random.Generator, case: Case, is_grid: bool) -> tuple[Case, int]:
    n, m = case.value.shape
    if rng.random() < 0.45:
        return case, m
    n_offers = m if rng.random() < 0.5 else int(rng.integers(1, 9))
    capacity = np.floor(rng.uniform(0, 0.6 * n + 1, n_offers))
    capacity[rng.random(n_offers) < 0.1] = INF
    case = case.but(capacity=capacity)
    if n_offers != m or rng.random() < 0.3:  # lists: the same offer may stand in one twice
        case = case.but(offer_idx=rng.integers(0, n_offers, (n, m)).astype(np.int32))
    if rng.random() < 0.5:
        use = rng.integers(0, 3, (n, m)) if is_grid else rng.exponential(1, (n, m))
        case = case.but(capacity_use=use.astype(np.float32))
    return case, n_offers


def _with_floors(rng: np.random.Generator, case: Case) -> Case:
    n = len(case.value)
    n_segments = int(rng.integers(1, 4))
    segment = rng.integers(0, n_segments, n).astype(np.int32)
    able = np.bincount(segment, np.isfinite(case.value).any(axis=1), n_segments)
    share = rng.uniform(0, 0.7, n_segments) * (rng.random(n_segments) < 0.8)
    floors = np.floor(share * able)
    if rng.random() < 0.04:
        floors[0] = able[0] + 1
    if rng.random() < 0.2:
        segment[rng.random(n) < 0.15] = -1  # in no segment
    return case.but(segment_idx=segment, floors=floors)


def laminar_groups(rng: np.random.Generator, n_offers: int) -> list[tuple[list[int], int]]:
    """Nested or disjoint sets of offers, each with a limit per user."""
    order = rng.permutation(n_offers)
    cuts = np.unique(rng.integers(0, n_offers + 1, 2))
    groups = []
    for part in np.split(order, cuts):
        if len(part) > 1:
            groups.append((sorted(part.tolist()), int(rng.integers(rng.random() > 0.1, 3))))
        if len(part) > 2:
            groups.append((sorted(part[: len(part) // 2 + 1].tolist()), 1))
    if rng.random() < 0.3:
        groups.append((list(range(n_offers)), 2))
    return groups


def dense_case(n: int, m: int, k: int, seed: int, tight: float = 0.2) -> Case:
    """Gamma values and costs; budgets a share of the use when everyone takes the best."""
    rng = np.random.default_rng(seed)
    value = rng.gamma(2, 1, (n, m)).astype(np.float32)
    costs = rng.gamma(2, 1, (k, n, m)).astype(np.float32)
    use = costs[:, np.arange(n), value.argmax(axis=1)].sum(axis=1, dtype=np.float64)
    return Case(value=value, costs=costs, budgets=tight * use)


def tied_case(n: int, m: int = 6) -> Case:
    """Every user has the same values and costs."""
    grid = np.arange(1, m + 1, dtype=np.float32)
    value = np.broadcast_to(grid, (n, m)).copy()
    costs = np.broadcast_to(grid**1.5, (1, n, m)).copy()
    return Case(value=value, costs=costs, budgets=np.array([0.7 * n]))


def odd_case(seed: int) -> Case:
    """Some thousand users with heavy tails or ties, odd scales of money and narrow rows."""
    rng = np.random.default_rng(seed)
    n, m, k = int(rng.integers(700, 4000)), int(rng.integers(1, 8)), int(rng.integers(1, 4))
    value = rng.pareto(1.2, (n, m)) if seed % 2 else rng.integers(-1, 4, (n, m))
    costs = rng.exponential(1, (k, n, m)) if seed % 3 else rng.integers(0, 3, (k, n, m))
    value = value.astype(np.float32)
    value[rng.random((n, m)) < 0.15] = -INF
    costs = (costs * 10.0 ** rng.integers(-6, 6)).astype(np.float32)
    budgets = rng.uniform(0, 0.6, k) * costs.max(axis=2).sum(axis=1, dtype=np.float64)
    return Case(
        value=value,
        costs=costs,
        budgets=budgets * 10.0 ** -rng.integers(0, 3),
        capacity=np.floor(rng.uniform(0, 0.4 * n, 30) * 10.0 ** -rng.integers(0, 3)),
        offer_idx=rng.integers(0, 30, (n, m)).astype(np.int32),
    )


def segmented_case(n: int, m: int, k: int, seed: int, n_segments: int = 4) -> Case:
    """Dense case with capacities and floors that bind: one segment earns half of the others."""
    case = dense_case(n, m, k, seed)
    rng = np.random.default_rng([seed, 7])
    segment = rng.integers(0, n_segments, n).astype(np.int32)
    value = case.value.copy()
    value[segment == 0] *= 0.5
    floors = np.full(n_segments, 0.0)
    floors[0] = n // (4 * n_segments)
    return case.but(
        value=value,
        capacity=np.full(m, float(n // 40)),
        segment_idx=segment,
        floors=floors,
    )
