"""Edges of the problem, each with the answer known in advance."""

from __future__ import annotations

import numpy as np
import pytest
from allocation_cases import INF, Case
from allocation_checks import faults_of

from promo_ray.allocation import Allocation, AllocationProblem, choose, solve


def hold(case: Case) -> Allocation:
    found = solve(case.problem())
    assert faults_of(case, found) == []
    return found


def test_no_rows_give_everyone_the_best_positive_slot():
    value = np.array([[1, 2], [-1, -2], [-INF, -INF], [0, 3]], dtype=np.float32)
    found = hold(Case(value=value, costs=np.zeros((0, 4, 2)), budgets=np.empty(0)))
    assert found.choice.tolist() == [1, -1, -1, 1]
    assert (found.gap, found.value) == (0.0, 5.0)
    assert found.converged


def test_no_users():
    problem = AllocationProblem(
        value=np.empty((0, 3)),
        costs=np.empty((2, 0, 3)),
        budgets=[1.0, 2.0],
        capacity=[1, 1, 1],
        segment_idx=np.empty(0, dtype=np.int32),
        floors=[0.0],
    )
    found = solve(problem)
    assert found.choice.shape == (0,)
    assert (found.value, found.bound, found.gap) == (0.0, 0.0, 0.0)
    assert found.slack.tolist() == [1, 2, 1, 1, 1, 0]
    assert found.prices.shape == (6,)


@pytest.mark.parametrize("most", [2, 3])
def test_no_users_and_several_offers(most):
    problem = AllocationProblem(
        value=np.empty((0, 3)), costs=np.empty((1, 0, 3)), budgets=[1.0], max_offers=most
    )
    assert solve(problem).choice.shape == (0, most)


@pytest.mark.parametrize("n", [1, 30, 3000])
def test_nobody_eligible(n):
    case = Case(
        value=np.full((n, 2), -INF, np.float32),
        costs=np.ones((1, n, 2), np.float32),
        budgets=np.array([5.0]),
        capacity=np.array([1.0, 0.0]),
    )
    found = hold(case)
    assert (found.choice == -1).all()
    assert (found.value, found.bound, found.gap) == (0.0, 0.0, 0.0)
    assert found.slack.tolist() == [5.0, 1.0, 0.0]


@pytest.mark.parametrize("n", [1, 30, 3000])
def test_only_negative_values(n):
    case = Case(
        value=np.full((n, 2), -1.0, np.float32),
        costs=np.ones((1, n, 2), np.float32),
        budgets=np.array([5.0]),
    )
    found = hold(case)
    assert (found.choice == -1).all()
    assert (found.value, found.bound, found.gap) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("n", [5, 3000])
def test_zero_budget_leaves_only_offers_that_use_none_of_it(n):
    rng = np.random.default_rng(2)
    costs = rng.exponential(1, (2, n, 3)).astype(np.float32)
    costs[0, :, 2] = 0
    value = rng.uniform(0.1, 1, (n, 3)).astype(np.float32)
    found = hold(Case(value=value, costs=costs, budgets=np.array([0.0, INF])))
    assert (found.choice == 2).all()
    assert found.gap < 1e-12
    assert (choose(value, costs, found.prices) == 2).all()


@pytest.mark.parametrize("n", [4, 2000])
def test_free_offers_go_to_all_whatever_the_price(n):
    value = np.full((n, 1), 0.5, dtype=np.float32)
    found = hold(Case(value=value, costs=np.zeros((1, n, 1), np.float32), budgets=np.array([0.0])))
    assert (found.choice == 0).all()


@pytest.mark.parametrize("n", [4, 2000])
def test_capacities_of_zero_close_their_offers(n):
    value = np.tile(np.array([3, 2, 1], np.float32), (n, 1))
    case = Case(
        value=value,
        costs=np.zeros((0, n, 3), np.float32),
        budgets=np.empty(0),
        capacity=np.array([0.0, n / 2, INF]),
    )
    found = hold(case)
    assert np.bincount(found.choice, minlength=3).tolist() == [0, n // 2, n // 2]
    assert found.gap < 1e-7


@pytest.mark.parametrize("n", [5, 4000])
def test_endless_limits_are_no_limits(n):
    rng = np.random.default_rng(3)
    value = rng.normal(0, 1, (n, 3)).astype(np.float32)
    case = Case(
        value=value,
        costs=rng.exponential(1, (2, n, 3)).astype(np.float32),
        budgets=np.array([INF, INF]),
        capacity=np.full(3, INF),
    )
    found = hold(case)
    assert (found.prices == 0).all()
    assert (found.slack == INF).all()
    best = value.argmax(axis=1)
    assert (found.choice == np.where(value.max(axis=1) > 0, best, -1)).all()
    assert found.gap == 0.0


def test_one_unit_costs_fill_an_integer_budget_to_the_last_unit():
    value = np.arange(1, 101, dtype=np.float32)[:, None]
    case = Case(value=value, costs=np.ones((1, 100, 1), np.float32), budgets=np.array([7.0]))
    found = hold(case)
    assert found.slack[0] == 0.0
    assert found.value == sum(range(94, 101))


def test_a_budget_is_kept_to_the_last_bit():
    """Ten times 0.1 as float32 is above 1: nine users fit, and a tenth by its last bit does not."""
    case = Case(
        value=np.ones((10, 1), np.float32),
        costs=np.full((1, 10, 1), 0.1, np.float32),
        budgets=np.array([1.0]),
    )
    assert (hold(case).choice >= 0).sum() == 9
    exact = case.but(budgets=np.array([10 * float(np.float32(0.1))]))
    assert (hold(exact).choice >= 0).sum() == 10


@pytest.mark.parametrize("power", [20, 30])
def test_sums_beyond_float32_are_kept(power):
    """One large use and many small ones, that a sum in float32 (or float64: 30) would lose."""
    n = 50
    costs = np.full((1, n, 1), 2.0**-power, np.float32)
    costs[0, 0] = 2.0**power
    case = Case(
        value=np.append(1e6, np.ones(n - 1)).astype(np.float32)[:, None],
        costs=costs,
        budgets=np.array([2.0**power + 10_240 * 2.0**-power]),
    )
    assert (hold(case).choice == 0).all()


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30])
def test_very_small_and_large_money(scale):
    rng = np.random.default_rng(4)
    case = Case(
        value=(rng.gamma(2, 1, (1500, 3)) * scale).astype(np.float32),
        costs=(rng.gamma(2, 1, (1, 1500, 3)) / scale).astype(np.float32),
        budgets=np.array([500.0 / scale]),
    )
    found = hold(case)
    assert found.converged
    assert found.gap < 1e-4


def test_one_user_and_one_slot():
    for value, budget, chosen in ((2.0, 1.0, 0), (2.0, 0.5, -1), (-2.0, 1.0, -1)):
        case = Case(
            value=np.full((1, 1), value, np.float32),
            costs=np.ones((1, 1, 1), np.float32),
            budgets=np.array([budget]),
        )
        found = hold(case)
        assert found.choice.tolist() == [chosen]
        assert found.bound == pytest.approx(max(0.0, value) * min(1.0, budget), abs=2e-7)


@pytest.mark.parametrize("most", [2, 5])
def test_more_offers_per_user_than_slots(most):
    case = Case(
        value=np.array([[1.0], [2.0], [-1.0]], np.float32),
        costs=np.ones((1, 3, 1), np.float32),
        budgets=np.array([1.0]),
        max_offers=most,
    )
    found = hold(case)
    assert found.choice[:, 0].tolist() == [-1, 0, -1]
    assert (found.choice[:, 1:] == -1).all()


def test_groups_limit_offers_of_a_user_whatever_slots_they_stand_in():
    case = Case(
        value=np.array([[5, 4, 3, 2], [5, 4, 3, 2]], np.float32),
        costs=np.zeros((0, 2, 4), np.float32),
        budgets=np.empty(0),
        offer_idx=np.array([[0, 1, 2, 3], [3, 2, 0, 1]], np.int32),
        max_offers=3,
        groups=[([0, 1], 1), ([0, 1, 2], 2)],
    )
    found = hold(case)
    assert found.choice.tolist() == [[0, 2, 3], [0, 1, 2]]
    assert found.gap == 0.0


def test_a_group_with_a_limit_of_zero_closes_its_offers():
    case = Case(
        value=np.array([[5, 4, 3], [1, -1, -1]], np.float32),
        costs=np.zeros((0, 2, 3), np.float32),
        budgets=np.empty(0),
        groups=[([0], 0)],
    )
    assert hold(case).choice.tolist() == [1, -1]


def test_a_floor_pays_for_one_offer_only():
    """The second offer of a served user must earn its own value."""
    case = Case(
        value=np.array([[-1, -2], [-3, -4]], np.float32),
        costs=np.zeros((0, 2, 2), np.float32),
        budgets=np.empty(0),
        segment_idx=np.array([0, 0], np.int32),
        floors=np.array([2.0]),
        max_offers=2,
    )
    found = hold(case)
    assert found.choice.tolist() == [[0, -1], [0, -1]]
    assert found.value == -4.0
    assert found.bound == pytest.approx(-4.0, abs=1e-12)


def test_users_without_a_segment_do_not_count_for_floors():
    case = Case(
        value=np.full((4, 1), -1.0, np.float32),
        costs=np.zeros((0, 4, 1), np.float32),
        budgets=np.empty(0),
        segment_idx=np.array([-1, 0, -1, 0], np.int32),
        floors=np.array([1.0]),
    )
    found = hold(case)
    assert (found.choice >= 0).sum() == 1
    assert found.choice[[0, 2]].tolist() == [-1, -1]


def test_progress_is_told_the_passes():
    rng = np.random.default_rng(0)
    told = []

    def progress(stage, done, total=0, **fields):
        told.append((stage, done))

    problem = AllocationProblem(
        value=rng.gamma(2, 1, (50, 2)), costs=rng.gamma(2, 1, (1, 50, 2)), budgets=[10.0]
    )
    solve(problem, progress=progress)
    assert told[0] == ("allocate", 1)
