"""The whole answer over few users: oracles by enumeration, HiGHS, and certified gaps."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from promo_ray.allocation import finish as finish_module
from promo_ray.allocation.exact import from_units, units
from promo_ray.allocation.exchange import losses
from promo_ray.allocation.finish import Few, Finish, NoFinish, Room, UserLimits, finish


def limits_of(n_offers: int, most: int, groups: tuple[tuple[int, int, int], ...]) -> UserLimits:
    """Tree of limits; groups: (first offer, last offer + 1, limit), outer first."""
    parent, spans = [-1], [(0, n_offers)]
    node = np.zeros(n_offers, dtype=np.int64)
    for a, b, _ in groups:
        parent.append(max(i for i, (c, d) in enumerate(spans) if c <= a and b <= d))
        spans.append((a, b))
        node[a:b] = len(spans) - 1
    limit = np.array([most, *(g[2] for g in groups)], dtype=np.int64)
    return UserLimits(limit, np.array(parent, dtype=np.int64), node)


def tiny(seed: int) -> tuple[Few, Room, UserLimits]:
    """At most 4 users and 4 slots with every oddity."""
    rng = np.random.default_rng(seed)
    n, m, k = int(rng.integers(1, 5)), int(rng.integers(1, 5)), int(rng.integers(0, 3))
    is_grid = rng.random() < 0.5
    value = rng.integers(-2, 4, (n, m)) * 0.1 if is_grid else rng.normal(0.3, 1, (n, m))
    cost = rng.integers(0, 4, (k, n, m)) * 0.1 if is_grid else rng.exponential(1, (k, n, m))
    cost *= rng.random((k, n, m)) < 0.9
    amount = np.ones((n, m)) if rng.random() < 0.5 else rng.integers(0, 4, (n, m)) * 0.3
    n_offers = 4
    offer = np.array([rng.permutation(n_offers)[:m] for _ in range(n)])
    able = rng.random((n, m)) < 0.9
    user, slot = np.nonzero(able)
    pick = (user, slot)
    n_floors = int(rng.integers(0, 3))
    segment = rng.integers(-1, n_floors, n) if n_floors else np.full(n, -1)
    few = Few(
        n,
        user,
        slot,
        value[pick].astype(np.float32).astype(np.float64),
        cost[:, user, slot].astype(np.float32).astype(np.float64),
        offer[pick],
        amount[pick].astype(np.float32).astype(np.float64),
        segment,
    )
    use = few.cost.sum(axis=1)
    left: list[int | None] = [
        units(u * f) for u, f in zip(use, rng.uniform(0, 0.8, k), strict=True)
    ]
    if is_grid and k:  # a limit that some set meets exactly
        left[0] = sum(units(c) for c in few.cost[0, rng.random(len(user)) < 0.3].tolist())
    if rng.random() < 0.6:
        left += [units(float(x)) for x in rng.integers(0, 4, n_offers) * (1 if is_grid else 0.7)]
    left = [None if rng.random() < 0.15 else x for x in left]
    missing = rng.integers(-1, 3, n_floors).tolist()
    groups = ((0, 3, int(rng.integers(0, 3))), (1, 2, int(rng.integers(0, 2))))
    most = int(rng.integers(1, 4))
    return few, Room(left, missing), limits_of(n_offers, most, groups[: int(rng.integers(0, 3))])


def keeps_rows(few: Few, room: Room, limits: UserLimits, taken: np.ndarray[Any, Any]) -> bool:
    """Whether a whole answer keeps rows exactly and the limits of users."""
    pairs = np.flatnonzero(taken).tolist()
    k = len(few.cost)
    for r, left in enumerate(room.left):
        use = few.cost[r] if r < k else np.where(few.offer == r - k, few.amount, 0.0)
        if left is not None and sum(units(use[p]) for p in pairs) > left:
            return False
    served = {int(few.user[p]) for p in pairs}
    for g, need in enumerate(room.missing):
        if sum(few.segment[u] == g for u in served) < need:
            return False
    counts: dict[tuple[int, int], int] = {}
    for p in pairs:
        node = int(limits.node_of_offer[few.offer[p]])
        while node >= 0:
            at = (int(few.user[p]), node)
            counts[at] = counts.get(at, 0) + 1
            node = int(limits.parent[node])
    return all(n <= limits.limit[node] for (_, node), n in counts.items())


def best_by_enumeration(few: Few, room: Room, limits: UserLimits) -> float | None:
    """Optimum over all sets of pairs; None if none keeps the rows."""
    free = Room([None] * len(room.left), [])
    per_user = []
    for u in range(few.n_users):
        own = np.flatnonzero(few.user == u)
        sets = [s for i in range(len(own) + 1) for s in itertools.combinations(own.tolist(), i)]
        flags = [np.isin(np.arange(len(few.user)), s) for s in sets]
        per_user.append([f for f in flags if keeps_rows(few, free, limits, f)])
    best = None
    for parts in itertools.product(*per_user):
        taken = np.any(parts, axis=0)
        value = float(few.value[taken].sum())
        if (best is None or value > best) and keeps_rows(few, room, limits, taken):
            best = value
    return best


def relaxed_by_highs(few: Few, room: Room, limits: UserLimits) -> float | None:
    """Optimum of the linear program with all rows, by HiGHS."""
    p, n = len(few.user), few.n_users
    rows, limit = [], []
    k = len(few.cost)
    for r, left in enumerate(room.left):
        if left is not None:
            use = few.cost[r] if r < k else np.where(few.offer == r - k, few.amount, 0.0)
            rows.append(np.concatenate([use, np.zeros(n)]))
            limit.append(from_units(left))
    for u in range(n):
        own = (few.user == u).astype(float)
        rows.append(np.concatenate([-own, np.eye(n)[u]]))  # served <= pairs
        limit.append(0.0)
        for g in range(len(limits.limit)):
            inside = np.zeros(len(limits.node_of_offer), dtype=bool)
            for o, node in enumerate(limits.node_of_offer.tolist()):
                while node >= 0:
                    inside[o] |= node == g
                    node = int(limits.parent[node])
            rows.append(np.concatenate([own * inside[few.offer], np.zeros(n)]))
            limit.append(float(limits.limit[g]))
    for g, need in enumerate(room.missing):
        rows.append(np.concatenate([np.zeros(p), -(few.segment == g).astype(float)]))
        limit.append(-float(need))
    # a pair that no user may get is out
    top = np.ones(p + n)
    for q in range(p):
        alone = np.arange(p) == q
        top[q] = keeps_rows(few, Room([None] * len(room.left), []), limits, alone)
    got = linprog(
        np.concatenate([-few.value, np.zeros(n)]),
        A_ub=np.array(rows),
        b_ub=limit,
        bounds=np.stack([np.zeros(p + n), top], axis=1),
    )
    return None if got.x is None else -got.fun


@pytest.mark.parametrize("few_pairs", [200, 0])
def test_tiny_answers_are_optimal_or_refused(few_pairs: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(finish_module, "_FEW_PAIRS", few_pairs)
    worse = 0
    for seed in range(80):
        few, room, limits = tiny(seed)
        n_rows = len(room.left) + len(room.missing)
        prices = np.random.default_rng(seed).exponential(0.3, n_rows)
        best = best_by_enumeration(few, room, limits)
        got = finish(few, room, limits, prices, target=0.0, work=300_000)
        relaxed = relaxed_by_highs(few, room, limits)
        if best is None:
            assert isinstance(got, NoFinish), seed
            assert got.lp_feasible == (relaxed is not None), seed
            continue
        assert isinstance(got, Finish), seed
        assert keeps_rows(few, room, limits, got.taken), seed
        assert got.value <= best + 1e-9, seed
        assert got.value == math.fsum(few.value[got.taken].tolist())
        assert relaxed is not None
        assert got.relaxed == pytest.approx(max(relaxed, best), abs=1e-6), seed
        worse += got.value < best - 1e-9
        assert all(n is None or n >= 0 for n in got.left)
        assert all(n <= 0 for n in got.missing)
    assert worse <= (0 if few_pairs else 10)


def test_losses_equal_enumeration() -> None:
    for seed in range(60):
        few, room, limits = tiny(seed)
        free = Room([None] * len(room.left), [-9] * len(room.missing))
        crowd = finish_module._crowd(few, free, limits, finish_module._can_fit(few, free, limits))
        prices = np.random.default_rng(seed).exponential(0.3, crowd.n_rows)
        got = losses(crowd, prices)
        score = crowd.value - prices[: crowd.n_budgets] @ crowd.cost
        if crowd.n_offers:
            score -= prices[crowd.n_budgets + crowd.offer] * crowd.amount
        credit = np.append(prices[crowd.n_budgets + crowd.n_offers :], 0.0)[crowd.segment]
        kept = few._replace(
            user=crowd.user, cost=crowd.cost, offer=crowd.offer, amount=crowd.amount
        )
        for u in range(crowd.n_users):
            own = np.flatnonzero(crowd.user == u).tolist()
            worth = {}
            for size in range(len(own) + 1):
                for s in itertools.combinations(own, size):
                    flags = np.isin(np.arange(len(crowd.user)), s)
                    if keeps_rows(kept, free._replace(missing=[]), limits, flags):
                        worth[s] = score[list(s)].sum() + (credit[u] if s else 0.0)
            best = max(worth.values())
            assert got.best[u] == pytest.approx(best, abs=1e-12)
            for p in own:
                other = max(w for s, w in worth.items() if (p in s) != got.taken[p])
                assert got.loss[p] == pytest.approx(best - other, abs=1e-12)


def full(name: str, n: int, seed: int) -> tuple[Few, Room, UserLimits]:
    """A whole problem of n users."""
    rng = np.random.default_rng(seed)
    m, most = 10, 1
    segment, missing, cap = np.full(n, -1), [], []
    value, cost = rng.uniform(0, 1, (n, m)), rng.uniform(0.1, 1, (5, n, m))
    budgets = 0.25 * n * np.linspace(0.9, 1.1, 5)
    if name == "capacities":
        value[rng.random((n, m)) < 0.5] = -np.inf
        cost, budgets, cap = cost[:2], np.array([0.3, 0.33]) * n, [0.08 * n] * m
    elif name == "floors":
        segment = rng.integers(0, 5, n)
        value = rng.normal(0.2, 0.7, (n, m)) - 0.5 * (segment[:, None] == 1)
        cost, budgets = cost[:2], np.array([0.22, 0.22]) * n
        missing = np.floor(0.8 * np.bincount(segment, minlength=5)).astype(int).tolist()
    elif name == "several":
        most, segment = 3, rng.integers(0, 3, n)
        cost, budgets, cap = cost[:3], np.array([0.6, 0.6, 0.65]) * n, [0.15 * n] * m
        missing = np.floor(0.9 * np.bincount(segment, minlength=3)).astype(int).tolist()
    elif name == "ties":
        value, cost = rng.integers(1, 5, (n, m)) * 0.5, rng.integers(1, 5, (2, n, m)) * 0.125
        budgets = np.array([0.2, 0.22]) * n
    user, slot = np.nonzero(np.isfinite(value))
    few = Few(
        n,
        user,
        slot,
        value[user, slot].astype(np.float32).astype(np.float64),
        cost[:, user, slot].astype(np.float32).astype(np.float64),
        slot,
        np.ones(len(user)),
        segment,
    )
    room = Room([units(b) for b in [*budgets, *np.floor(cap)]], missing)
    groups = ((0, 4, 2), (0, 2, 1)) if name == "several" else ()
    return few, room, limits_of(m, most, groups)


@pytest.mark.parametrize("name", ["dense", "capacities", "floors", "several", "ties"])
def test_whole_answers_are_near_the_linear_program(name: str) -> None:
    few, room, limits = full(name, 1500, 3)
    prices = np.full(len(room.left) + len(room.missing), 0.5)
    got = finish(few, room, limits, prices, target=0.0, work=2_000_000)
    assert isinstance(got, Finish)
    assert keeps_rows(few, room, limits, got.taken)
    assert (got.relaxed - got.value) <= 2e-4 * abs(got.relaxed)
    assert got.relaxed >= got.value
    again = finish(few, room, limits, prices, target=0.0, work=2_000_000)
    assert isinstance(again, Finish)
    assert (again.taken == got.taken).all()
    loose = finish(few, room, limits, prices, target=1e-3 * got.value, work=2_000_000)
    assert isinstance(loose, Finish)
    assert loose.relaxed - loose.value <= 1e-3 * got.value


def test_small_answers_are_close_to_branch_and_bound(monkeypatch: Any) -> None:
    monkeypatch.setattr(finish_module, "_FEW_PAIRS", 0)
    for name in ("dense", "capacities", "floors"):
        few, room, limits = full(name, 40, 5)
        p = len(few.user)
        rows = [few.cost, (few.user == np.arange(40)[:, None]).astype(float)]
        limit = [from_units(b or 0) for b in room.left[: len(few.cost)]] + [1.0] * 40
        if name == "capacities":
            rows.append((few.offer == np.arange(10)[:, None]).astype(float))
            limit += [from_units(b or 0) for b in room.left[2:]]
        for g, need in enumerate(room.missing):
            rows.append(-(few.segment[few.user] == g).astype(float)[None])
            limit.append(-float(need))
        best = milp(
            -few.value,
            integrality=np.ones(p),
            bounds=Bounds(0, 1),
            constraints=LinearConstraint(np.concatenate(rows), -np.inf, limit),
            options={"mip_rel_gap": 1e-2},
        )
        prices = np.full(len(room.left) + len(room.missing), 0.5)
        got = finish(few, room, limits, prices, target=0.0, work=2_000_000)
        assert isinstance(got, Finish)
        assert got.value >= -best.fun - 0.02 * abs(best.fun)


def test_order_of_users_does_not_matter_without_ties() -> None:
    few, room, limits = full("dense", 400, 1)
    prices = np.full(len(room.left), 0.5)
    got = finish(few, room, limits, prices, target=0.0, work=500_000)
    turn = np.argsort(-few.user, kind="stable")
    back = few._replace(
        user=few.n_users - 1 - few.user[turn],
        slot=few.slot[turn],
        value=few.value[turn],
        cost=few.cost[:, turn],
        offer=few.offer[turn],
        amount=few.amount[turn],
    )
    other = finish(back, room, limits, prices, target=0.0, work=500_000)
    assert isinstance(got, Finish)
    assert isinstance(other, Finish)
    assert other.relaxed == pytest.approx(got.relaxed, abs=1e-9)


def test_rows_without_room_are_refused_or_left_alone() -> None:
    few, room, limits = full("dense", 30, 2)
    prices = np.zeros(5)
    below = finish(few, room._replace(left=[-1] * 5), limits, prices, target=0.0, work=1000)
    assert isinstance(below, NoFinish)
    assert not below.lp_feasible
    zero = finish(few, room._replace(left=[0] * 5), limits, prices, target=0.0, work=1000)
    assert isinstance(zero, Finish)
    assert not zero.taken.any()
    free = finish(few, room._replace(left=[None] * 5), limits, prices, target=0.0, work=1000)
    assert isinstance(free, Finish)
    assert free.value == pytest.approx(few.value.reshape(30, 10).max(axis=1).sum())
    assert free.left == [None] * 5


def test_deeper_search_comes_nearer_and_ends() -> None:
    few, room, limits = full("dense", 1500, 3)
    prices = np.full(len(room.left), 0.5)
    shallow = finish(few, room, limits, prices, target=0.0, work=1_000_000)
    deep = finish(few, room, limits, prices, target=0.0, work=1_000_000, wanted=0.01)
    again = finish(few, room, limits, prices, target=0.0, work=1_000_000, wanted=0.01)
    assert isinstance(shallow, Finish)
    assert isinstance(deep, Finish)
    assert isinstance(again, Finish)
    assert keeps_rows(few, room, limits, deep.taken)
    assert deep.relaxed - deep.value <= 0.9 * (shallow.relaxed - shallow.value)
    assert (deep.taken == again.taken).all()


def test_users_all_alike_end_within_the_work() -> None:
    n = 700
    few, room, limits = full("dense", n, 3)
    grid = np.tile(np.arange(1, 11) * 0.3, n)
    few = few._replace(value=grid, cost=np.tile(grid**1.5, (5, 1)))
    prices = np.full(5, 0.2)
    got = finish(few, room, limits, prices, target=0.0, work=500_000, wanted=0.0)
    assert isinstance(got, Finish)
    assert keeps_rows(few, room, limits, got.taken)
