"""Answers to related problems are related as theory says."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from allocation_cases import INF, Case, dense_case, random_case, segmented_case
from allocation_checks import money_of, pairs_of
from allocation_oracles import linear_optimum

from promo_ray.allocation import Allocation, AllocationProblem, solve


def answer(case: Case) -> Allocation:
    """Bounds to 1e-10, so that they can be compared to 1e-9."""
    return solve(case.problem(), tolerance=1e-10)


def small_cases(n: int, start: int = 0, **options: object) -> Iterator[tuple[int, Case]]:
    """Seeded small cases that have a fractional answer with room to spare (floors halved)."""
    for seed in range(start, start + n):
        case = random_case(seed, 30, 5, **options)
        if case.floors is not None:
            case = case.but(floors=np.floor(case.floors * 0.4))
            if linear_optimum(case.but(budgets=case.budgets * 0.5)) is None:
                continue
        yield seed, case


def scale_of(case: Case, found: Allocation) -> float:
    """Money that a share of 1e-9 refers to; of 1e-7 if the solver says that it fell short."""
    scale = max(abs(found.bound), 1e-3 * money_of(case))
    return scale if found.converged else 100 * scale


@pytest.mark.parametrize("factor", [2.0**-20, 2.0**10, 1000.0])
def test_scaling_values_scales_value_bound_and_prices(factor):
    for seed, case in small_cases(12, 100):
        scaled = case.but(value=case.value * np.float32(factor))
        a, b = answer(case), answer(scaled)
        near = 1e-6 * scale_of(case, a) * factor  # 1000 * value is rounded to float32
        assert b.bound == pytest.approx(a.bound * factor, abs=near), seed
        assert b.value == pytest.approx(a.value * factor, abs=near), seed


@pytest.mark.parametrize("factor", [2.0**-12, 2.0**20, 1000.0])
def test_scaling_costs_and_budgets_leaves_value_and_bound(factor):
    for seed, case in small_cases(12, 200):
        if factor == 1000.0 and not (case.costs.astype(int) == case.costs).all():
            continue  # 1000 * cost is rounded up, which may cost an answer that fits to the digit
        scaled = case.but(costs=case.costs * np.float32(factor), budgets=case.budgets * factor)
        a, b = answer(case), answer(scaled)
        assert b.bound == pytest.approx(a.bound, abs=1e-9 * scale_of(case, a)), seed
        assert b.value == pytest.approx(a.value, abs=1e-9 * scale_of(case, a)), seed


def test_scaling_all_money_scales_a_large_answer():
    case = dense_case(20_000, 5, 3, seed=11)
    for factor in (2.0**-20, 1000.0):
        scaled = case.but(
            value=case.value * np.float32(factor),
            costs=case.costs * np.float32(factor),
            budgets=case.budgets * factor,
        )
        a, b = answer(case), answer(scaled)
        assert b.bound == pytest.approx(a.bound * factor, rel=2e-7)
        assert b.value == pytest.approx(a.value * factor, rel=2e-5)
        np.testing.assert_allclose(a.prices, b.prices, rtol=1e-3)


def permuted(case: Case, order: np.ndarray) -> AllocationProblem:
    """The users in another order, each with the key that the first order gave."""
    problem = case.take(order).problem()
    if not hasattr(problem, "keys"):
        return problem
    return dataclasses.replace(problem, keys=order.astype(np.uint64))


def test_permuting_users_permutes_small_answers():
    n_same, n_all = 0, 0
    for seed, case in small_cases(60, 300):
        values = case.value[np.isfinite(case.value)]
        if len(np.unique(values)) < len(values):
            continue  # ties
        order = np.random.default_rng(seed).permutation(len(case.value))
        a, b = answer(case), solve(permuted(case, order), tolerance=1e-10)
        near = 1e-9 * max(scale_of(case, a), scale_of(case, b))
        assert b.bound == pytest.approx(a.bound, abs=near), seed
        n_all += 1
        n_same += bool((a.choice[order] == b.choice).all())
    assert n_all >= 20
    assert n_same >= 0.95 * n_all


@pytest.mark.parametrize("make", [dense_case, segmented_case])
def test_permuting_users_permutes_a_large_answer(make):
    case = make(20_000, 5, 2, seed=10)
    order = np.random.default_rng(0).permutation(len(case.value))
    a, b = answer(case), solve(permuted(case, order))
    assert b.bound == pytest.approx(a.bound, rel=2e-7)
    assert b.value == pytest.approx(a.value, rel=2e-5)
    assert np.mean(a.choice[order] == b.choice) > 0.995


def test_raising_a_budget_or_capacity_never_lowers_the_bound():
    for seed, case in small_cases(25, 400):
        before = answer(case)
        near = 1e-9 * scale_of(case, before)
        for k in range(len(case.budgets)):
            raised = case.budgets.copy()
            raised[k] = raised[k] * 1.3 + 0.01
            assert answer(case.but(budgets=raised)).bound >= before.bound - near, (seed, k)
            raised[k] = INF
            assert answer(case.but(budgets=raised)).bound >= before.bound - near, (seed, k)
        if case.capacity is not None:
            raised = case.capacity + 1.0
            assert answer(case.but(capacity=raised)).bound >= before.bound - near, seed


def test_raising_a_budget_step_by_step_on_many_users():
    case = dense_case(3000, 4, 2, seed=12)
    bounds = []
    for factor in (0.0, 0.5, 1.0, 1.001, 1.5, 10.0, INF):
        budgets = case.budgets.copy()
        budgets[0] = budgets[0] * factor if factor < INF else INF
        bounds.append(answer(case.but(budgets=budgets)).bound)
    assert all(b >= a * (1 - 1e-7) for a, b in itertools.pairwise(bounds))
    assert bounds[0] < bounds[2] < bounds[-2] <= bounds[-1] * (1 + 1e-7)


def test_lowering_a_floor_never_lowers_the_bound():
    n_seen = 0
    for seed, case in small_cases(40, 500, has_floors=True):
        if not case.floors.any():
            continue
        n_seen += 1
        before = answer(case)
        lowered = answer(case.but(floors=np.floor(case.floors * 0.5)))
        without = answer(case.but(floors=None, segment_idx=None))
        near = 1e-9 * scale_of(case, before)
        assert lowered.bound >= before.bound - near, seed
        assert without.bound >= lowered.bound - near, seed
    assert n_seen >= 10


def test_a_slot_that_nobody_can_get_changes_nothing():
    for seed, case in small_cases(25, 600):
        m = case.value.shape[1]

        def wider(array: np.ndarray | None, fill: float) -> np.ndarray | None:
            if array is None:
                return None
            more = np.full((*array.shape[:-1], 1), fill, dtype=array.dtype)
            return np.concatenate([array, more], axis=-1)

        capacity = case.capacity
        if capacity is not None and case.offer_idx is None:
            capacity = np.append(capacity, 3.0)
        more = case.but(
            value=wider(case.value, -INF),
            costs=wider(case.costs, 1.0),
            offer_idx=wider(case.offer_idx, 0),
            capacity_use=wider(case.capacity_use, 1.0),
            capacity=capacity,
        )
        a, b = answer(case), answer(more)
        near = 1e-9 * max(scale_of(case, a), scale_of(case, b))
        assert b.bound == pytest.approx(a.bound, abs=near), seed
        assert b.value == pytest.approx(a.value, abs=near), seed
        assert b.choice.max(initial=-1) < m


def test_users_who_can_get_nothing_change_nothing():
    for seed, case in small_cases(25, 700):
        n = len(case.value)
        more = case.take(np.append(np.arange(n), np.zeros(5, dtype=int)))
        value = more.value.copy()
        value[n:] = -INF
        a, b = answer(case), answer(more.but(value=value))
        near = 1e-9 * max(scale_of(case, a), scale_of(case, b))
        assert b.bound == pytest.approx(a.bound, abs=near), seed
        assert b.value == pytest.approx(a.value, abs=near), seed
        assert (b.choice[n:] == -1).all()


def test_twice_the_users_and_limits_give_twice_the_bound():
    for seed, case in small_cases(25, 800):
        twice = case.take(np.tile(np.arange(len(case.value)), 2)).but(
            budgets=2 * case.budgets,
            capacity=None if case.capacity is None else 2 * case.capacity,
            floors=None if case.floors is None else 2 * case.floors,
        )
        a, b = answer(case), answer(twice)
        near = 1e-9 * scale_of(twice, b)
        assert b.bound == pytest.approx(2 * a.bound, abs=near), seed
        assert b.value >= 2 * a.value - 2e-2 * scale_of(case, a), seed


def test_an_offer_listed_twice_is_one_offer():
    for seed, case in small_cases(25, 900, most_offers=1):
        twice = case.but(
            value=np.repeat(case.value, 2, axis=1),
            costs=np.repeat(case.costs, 2, axis=2),
            offer_idx=np.repeat(case.offer, 2, axis=1).astype(np.int32),
            capacity_use=np.repeat(case.use, 2, axis=1),
        )
        a, b = answer(case), answer(twice)
        near = 1e-9 * max(scale_of(case, a), scale_of(case, b))
        assert b.bound == pytest.approx(a.bound, abs=near), seed
        assert b.value == pytest.approx(a.value, abs=near), seed


def test_lists_of_all_offers_in_any_order_are_the_dense_problem():
    for seed, case in small_cases(25, 1000, most_offers=1):
        if case.offer_idx is not None:
            continue
        rng = np.random.default_rng(seed)
        order = rng.permuted(np.tile(np.arange(case.value.shape[1]), (len(case.value), 1)), axis=1)
        at = np.arange(len(case.value))[:, None]
        use = None if case.capacity_use is None else case.capacity_use[at, order]
        listed = case.but(
            value=case.value[at, order],
            costs=case.costs[:, at, order],
            offer_idx=order.astype(np.int32),
            capacity_use=use,
        )
        a, b = answer(case), answer(listed)
        assert b.bound == pytest.approx(a.bound, abs=1e-9 * scale_of(case, a)), seed
        assert b.value == pytest.approx(a.value, abs=1e-9 * scale_of(case, a)), seed


def test_floors_of_zero_are_no_floors():
    for seed, case in small_cases(20, 1100, has_floors=False):
        segment = (np.arange(len(case.value)) % 3).astype(np.int32)
        a, b = answer(case), answer(case.but(segment_idx=segment, floors=np.zeros(3)))
        assert b.bound == pytest.approx(a.bound, abs=1e-9 * scale_of(case, a)), seed
        assert b.value == pytest.approx(a.value, abs=1e-9 * scale_of(case, a)), seed
        assert b.prices.shape == (len(a.prices) + 3,)


def test_as_many_offers_as_slots_without_rows_are_all_positive_slots():
    for n in (1, 50, 3000):
        rng = np.random.default_rng(n)
        value = rng.normal(0, 1, (n, 4)).astype(np.float32)
        value[rng.random((n, 4)) < 0.2] = -INF
        for most in (4, 6):
            case = Case(value=value, costs=np.zeros((0, n, 4)), budgets=np.empty(0))
            found = answer(case.but(max_offers=most))
            assert found.choice.shape == (n, most)
            for own, chosen in zip(value, found.choice, strict=True):
                slots = chosen[chosen >= 0].tolist()
                assert slots == [s for s in np.argsort(-own).tolist() if own[s] > 0]
            assert found.gap == 0.0


def test_more_offers_per_user_never_lower_the_bound():
    for seed, case in small_cases(15, 1200):
        bounds = [answer(case.but(max_offers=q)).bound for q in (1, 2, 3)]
        near = 1e-9 * money_of(case)
        assert bounds[0] <= bounds[1] + near, seed
        assert bounds[1] <= bounds[2] + near, seed


def test_a_group_of_all_offers_is_the_limit_per_user():
    for seed, case in small_cases(15, 1300, most_offers=1):
        n_offers = int(case.offer.max()) + 1
        n_offers = n_offers if case.capacity is None else len(case.capacity)
        wide = case.but(max_offers=3, groups=[(list(range(n_offers)), 1)])
        a, b = answer(case), answer(wide)
        assert b.bound == pytest.approx(a.bound, abs=1e-9 * scale_of(case, a)), seed
        users, _ = pairs_of(wide, b.choice)
        assert len(np.unique(users)) == len(users)
