"""Floors that cannot be met are refused with reasons; floors that just fit are met."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from allocation_cases import INF, Case, random_case
from allocation_checks import faults_of, refusal_faults
from allocation_oracles import largest_scale, linear_optimum, whole_optimum

from promo_ray.allocation import solve
from promo_ray.errors import InfeasibleError


def refusal(case: Case) -> InfeasibleError:
    with pytest.raises(InfeasibleError) as caught:
        solve(case.problem())
    return caught.value


def plain(n: int, m: int = 2, k: int = 1, *, n_segments: int = 2) -> Case:
    """Users alternate between segments; every cost is 1, every value the slot's number + 1."""
    value = np.tile(np.arange(1, m + 1, dtype=np.float32), (n, 1))
    segment = (np.arange(n) % n_segments).astype(np.int32)
    ones = np.ones((k, n, m), dtype=np.float32)
    return Case(
        value=value,
        costs=ones,
        budgets=np.full(k, float(n)),
        segment_idx=segment,
        floors=np.zeros(n_segments),
    )


@pytest.mark.parametrize("n", [10, 30_000])
def test_a_floor_above_the_eligible_users(n):
    case = plain(n)
    value = case.value.copy()
    value[1::4] = -INF  # half of segment 1
    able = int(np.isfinite(value[1::2, 0]).sum())
    error = refusal(case.but(value=value, floors=np.array([1.0, able + 1.0])))
    assert error.rows == ("floor[1]",)
    assert error.max_floor_scale == pytest.approx(able / (able + 1), rel=1e-6 if n < 100 else 1e-3)
    found = solve(case.but(value=value, floors=np.array([1.0, float(able)])).problem())
    assert (found.choice[1::2] >= 0).sum() == able


@pytest.mark.parametrize("n", [12, 30_000])
def test_a_budget_too_small_for_the_floors(n):
    case = plain(n, k=3)
    budgets = np.array([n, n / 4, INF])
    error = refusal(case.but(budgets=budgets, floors=np.array([n / 6, n / 6])))
    assert set(error.rows) == {"budget[1]", "floor[0]", "floor[1]"}
    if n < 100:  # 1.5 users of each segment, or one whole one
        assert 0.5 - 1e-9 <= error.max_floor_scale <= 0.75 + 1e-9
    else:
        assert error.max_floor_scale == pytest.approx(0.75, rel=1e-3)
    fits = case.but(budgets=budgets, floors=np.array([n / 8, n / 8]))  # to the last unit
    found = solve(fits.but(floors=np.floor(fits.floors)).problem())
    assert faults_of(fits.but(floors=np.floor(fits.floors)), found) == []


@pytest.mark.parametrize("n", [12, 30_000])
def test_a_capacity_too_small_for_a_floor(n):
    case = plain(n, m=4)
    value = case.value.copy()
    value[0::2, :3] = -INF  # segment 0 can get offer 3 only
    case = case.but(value=value, capacity=np.array([n, n, n, n / 4]))
    error = refusal(case.but(floors=np.array([n / 3, 1.0])))
    assert set(error.rows) == {"capacity[3]", "floor[0]"}
    assert error.max_floor_scale == pytest.approx(0.75, rel=1e-6 if n < 100 else 1e-3)
    fits = case.but(floors=np.array([n / 4, n / 2]))
    found = solve(fits.problem())
    assert faults_of(fits, found) == []
    assert (found.choice[0::2] == 3).sum() == n / 4


def test_a_budget_of_zero_and_a_floor():
    case = plain(20).but(budgets=np.array([0.0]), floors=np.array([1.0, 0.0]))
    error = refusal(case)
    assert set(error.rows) == {"budget[0]", "floor[0]"}
    assert error.max_floor_scale == pytest.approx(0.0, abs=1e-12)


def test_no_users_and_a_floor():
    case = plain(0).but(floors=np.array([0.0, 2.0]))
    error = refusal(case)
    assert error.rows == ("floor[1]",)
    assert error.max_floor_scale == 0.0


def test_several_offers_to_one_user_count_once_for_a_floor():
    case = plain(10).but(max_offers=2, groups=[([0, 1], 2)], floors=np.array([6.0, 0.0]))
    error = refusal(case)
    assert error.rows == ("floor[0]",)
    assert error.max_floor_scale == pytest.approx(5 / 6, rel=1e-9)
    fits = case.but(floors=np.array([5.0, 5.0]), budgets=np.array([10.0]))
    found = solve(fits.problem())
    assert faults_of(fits, found) == []
    assert ((found.choice >= 0).sum(axis=1) == 1).all()


def test_the_error_keeps_its_fields_across_pickling_and_ends_a_job_with_3():
    error = refusal(plain(4).but(floors=np.array([3.0, 0.0])))
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is InfeasibleError
    assert (copy.rows, copy.max_floor_scale, str(copy)) == (
        error.rows,
        error.max_floor_scale,
        str(error),
    )
    assert error.exit_code == 3
    assert "floor[0]" in str(error)


def test_rows_without_a_part_in_the_conflict_are_not_named():
    rng = np.random.default_rng(3)
    case = plain(60, m=3, k=3, n_segments=3).but(
        value=rng.uniform(1, 2, (60, 3)).astype(np.float32),
        costs=rng.uniform(1, 2, (3, 60, 3)).astype(np.float32),
        budgets=np.array([1000.0, 10.0, 1000.0]),
        capacity=np.full(3, 60.0),
        floors=np.array([0.0, 15.0, 3.0]),
    )
    error = refusal(case)
    assert set(error.rows) <= {"budget[1]", "floor[1]", "floor[2]"}
    assert refusal_faults(case, error) == []


def tightened(seed: int) -> tuple[Case, float]:
    """A random case whose floors are stretched to several times what fits, and what fits."""
    case = random_case(seed, 40, 5, has_floors=True)
    rng = np.random.default_rng([seed, 5])
    inside = np.isfinite(case.value).any(axis=1) & (case.segment_idx >= 0)
    able = np.bincount(case.segment_idx[inside], minlength=case.n_floors)
    case = case.but(floors=np.floor(able * rng.uniform(0.3, 1.3, case.n_floors)))
    return case, largest_scale(case) if case.floors.any() else 10.0


@pytest.mark.parametrize("start", [0, pytest.param(1000, marks=pytest.mark.slow)])
def test_refusals_name_rows_that_conflict_and_the_largest_scale(start):
    n_refused = 0
    for seed in range(start, start + (80 if start == 0 else 1500)):
        case, scale = tightened(seed)
        if scale >= 1 - 1e-9:
            continue
        n_refused += 1
        assert refusal_faults(case, refusal(case)) == [], seed
    assert n_refused > 20


@pytest.mark.parametrize("start", [0, pytest.param(1000, marks=pytest.mark.slow)])
def test_floors_scaled_to_what_just_fits_are_met(start):
    n_met = 0
    for seed in range(start, start + (60 if start == 0 else 1000)):
        case, scale = tightened(seed)
        if scale >= 1 or scale <= 0:
            continue
        fits = case.but(floors=np.floor(case.floors * scale * (1 + 1e-9)))
        if whole_optimum(fits) is None:
            continue
        n_met += 1
        assert faults_of(fits, solve(fits.problem())) == [], seed
    assert n_met > 10


def cheapest_first(case: Case) -> float:
    """Largest scale with one budget and no capacity: the cheapest slot of the cheapest users."""
    cost = np.where(np.isfinite(case.value), case.costs[0].astype(float), INF).min(axis=1)
    segments = range(case.n_floors)
    curves = [np.cumsum(np.sort(cost[case.segment_idx == g])) for g in segments]

    def spend(scale: float) -> float:
        total = 0.0
        for curve, floor in zip(curves, case.floors, strict=True):
            points = np.append(0.0, curve)
            at = scale * floor
            if at > len(curve):
                return INF
            total += float(np.interp(at, np.arange(len(points)), points))
        return total

    low, high = 0.0, 10.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if spend(middle) <= case.budgets[0] else (low, middle)
    return low


def test_the_closed_form_of_one_budget_is_the_linear_program():
    rng = np.random.default_rng(0)
    case = costly(rng, 300)
    assert cheapest_first(case) == pytest.approx(largest_scale(case), rel=1e-9)


def costly(rng: np.random.Generator, n: int) -> Case:
    """Floors that use more than the budget even by the cheapest offers."""
    value = rng.normal(0, 1, (n, 3)).astype(np.float32)
    value[rng.random((n, 3)) < 0.1] = -INF
    costs = rng.gamma(2, 1, (1, n, 3)).astype(np.float32)
    segment = rng.integers(0, 3, n).astype(np.int32)
    floors = np.array([n // 10, n // 5, n // 4], dtype=float)
    return Case(
        value=value, costs=costs, budgets=np.array([0.1 * n]), segment_idx=segment, floors=floors
    )


def test_the_largest_scale_of_30_000_users():
    case = costly(np.random.default_rng(1), 30_000)
    scale = cheapest_first(case)
    assert 0.05 < scale < 0.95
    error = refusal(case)
    assert error.max_floor_scale == pytest.approx(scale, rel=1e-3)
    assert "budget[0]" in error.rows
    just = case.but(floors=np.floor(case.floors * scale * 0.999))
    assert faults_of(just, solve(just.problem())) == []


def test_a_fractional_floor_needs_the_next_whole_user():
    case = plain(10).but(floors=np.array([2.5, 0.0]), value=np.full((10, 2), -1.0, np.float32))
    found = solve(case.problem())
    assert (found.choice[0::2] >= 0).sum() == 3
    assert found.value == -3.0
    assert found.bound >= -3.0
    assert found.bound <= -2.5 + 1e-9


def test_floors_pick_the_least_loss_among_negative_values():
    rng = np.random.default_rng(4)
    n = 2000
    value = -rng.gamma(2, 1, (n, 3)).astype(np.float32)
    segment = (np.arange(n) % 2).astype(np.int32)
    case = Case(
        value=value,
        costs=np.ones((1, n, 3), np.float32),
        budgets=np.array([float(n)]),
        segment_idx=segment,
        floors=np.array([100.0, 7.0]),
    )
    found = solve(case.problem())
    assert faults_of(case, found) == []
    best = -np.sort(-value.max(axis=1)[segment == 0])[:100].sum(dtype=float)
    best -= np.sort(-value.max(axis=1)[segment == 1])[:7].sum(dtype=float)
    assert found.value == pytest.approx(best, rel=1e-9)
    assert found.bound == pytest.approx(best, rel=1e-6)
    assert linear_optimum(case) == pytest.approx(best, rel=1e-9)
