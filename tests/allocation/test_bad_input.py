"""Faulty arguments are refused at once, each named in `DataError.where`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from allocation_cases import dense_case

from promo_ray.allocation import AllocationProblem, Block, solve
from promo_ray.errors import DataError, InfeasibleError

NAN, INF = np.nan, np.inf
GOOD: dict[str, Any] = {"value": np.ones((2, 2)), "costs": np.ones((1, 2, 2)), "budgets": [1.0]}
FLOORS: dict[str, Any] = {"segment_idx": np.array([0, 1], dtype=np.int32), "floors": [1.0, 0.0]}
LISTS: dict[str, Any] = {"capacity": [1.0] * 3, "offer_idx": np.array([[0, 1], [2, 0]], np.int32)}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"value": np.array([[NAN, 1.0], [1.0, 1.0]])}, "value"),
        ({"value": np.array([[INF, 1.0], [1.0, 1.0]])}, "value"),
        ({"value": np.full((2, 2), 1e39)}, "value"),  # infinity as float32
        ({"value": np.ones(3)}, "value"),
        ({"value": np.ones((1, 2, 2))}, "value"),
        ({"value": np.empty((2, 0))}, "value"),
        ({"value": np.array([["a", "b"], ["c", "d"]])}, "value"),
        ({"value": np.ones((2, 2), dtype=complex)}, "value"),
        ({"value": None}, "value"),
        ({"costs": np.ones((1, 2, 3))}, "costs"),
        ({"costs": np.ones((1, 3, 2))}, "costs"),
        ({"costs": np.ones((2, 2))}, "costs"),
        ({"costs": np.full((1, 2, 2), -1.0)}, "costs"),
        ({"costs": np.full((1, 2, 2), -1e-30)}, "costs"),
        ({"costs": np.full((1, 2, 2), NAN)}, "costs"),
        ({"costs": np.full((1, 2, 2), INF)}, "costs"),
        ({"costs": np.full((1, 2, 2), 1e39)}, "costs"),
        ({"budgets": [1.0, 2.0]}, "budgets"),
        ({"budgets": []}, "budgets"),
        ({"budgets": 1.0}, "budgets"),
        ({"budgets": [[1.0]]}, "budgets"),
        ({"budgets": [-1.0]}, "budgets"),
        ({"budgets": [-INF]}, "budgets"),
        ({"budgets": [NAN]}, "budgets"),
        ({"budgets": ["1"]}, "budgets"),
        ({"capacity": [1.0]}, "capacity"),
        ({"capacity": [1.0] * 3}, "capacity"),
        ({"capacity": [[1.0, 1.0]]}, "capacity"),
        ({"capacity": [1.0, NAN]}, "capacity"),
        ({"capacity": [1.0, -2.0]}, "capacity"),
        ({"capacity": [1.0], "offer_idx": np.ones((2, 2), dtype=int)}, "offer_idx"),
        ({**LISTS, "offer_idx": np.array([[0, 1], [3, 0]])}, "offer_idx"),
        ({**LISTS, "offer_idx": np.array([[0, 1], [-1, 0]])}, "offer_idx"),
        ({**LISTS, "offer_idx": np.zeros((2, 3), dtype=int)}, "offer_idx"),
        ({**LISTS, "offer_idx": np.zeros(2, dtype=int)}, "offer_idx"),
        ({"offer_idx": np.zeros((2, 2))}, "offer_idx"),
        ({**LISTS, "offer_idx": np.full((2, 2), 2**32, dtype=np.int64)}, "offer_idx"),
        ({"capacity": [1.0, 1.0], "capacity_use": np.ones((1, 2))}, "capacity_use"),
        ({"capacity": [1.0, 1.0], "capacity_use": -np.ones((2, 2))}, "capacity_use"),
        ({"capacity": [1.0, 1.0], "capacity_use": np.full((2, 2), NAN)}, "capacity_use"),
        ({"capacity": [1.0, 1.0], "capacity_use": np.full((2, 2), INF)}, "capacity_use"),
        ({**FLOORS, "segment_idx": np.array([0, 1, 0])}, "segment_idx"),
        ({**FLOORS, "segment_idx": np.array([[0, 1]])}, "segment_idx"),
        ({**FLOORS, "segment_idx": np.array([0, 2])}, "segment_idx"),
        ({**FLOORS, "segment_idx": np.array([0, -5])}, "segment_idx"),
        ({**FLOORS, "segment_idx": np.array([0.0, 1.0])}, "segment_idx"),
        ({**FLOORS, "segment_idx": np.array([0, 2**32])}, "segment_idx"),
        ({**FLOORS, "floors": [1.0, NAN]}, "floors"),
        ({**FLOORS, "floors": [1.0, -1.0]}, "floors"),
        ({**FLOORS, "floors": 1.0}, "floors"),
        ({**FLOORS, "floors": [[1.0, 0.0]]}, "floors"),
        ({**FLOORS, "floors": ["a", "b"]}, "floors"),
        ({"max_offers": 0}, "max_offers"),
        ({"max_offers": -1}, "max_offers"),
        ({"max_offers": 1.5}, "max_offers"),
        ({"max_offers": "2"}, "max_offers"),
        ({"max_offers": None}, "max_offers"),
    ],
)
def test_bad_input_names_the_argument(change, where):
    with pytest.raises(DataError) as error:
        AllocationProblem(**(GOOD | change))
    assert error.value.where == where
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    "groups",
    [
        [([0, 1], 1), ([1, 2], 1)],  # they cross
        [([0, 1, 2], 2), ([2, 3], 1)],
        [([0, 9], 1)],
        [([-1, 0], 1)],
        [([0, 1], -1)],
        [([0, 1], 1.5)],
        [([0, 1], NAN)],
        [([0.5, 1], 1)],
        [[0, 1]],
        [([0, 1],)],
        "ab",
        3,
    ],
)
def test_groups_that_are_not_nested_sets_of_offers_are_refused(groups):
    wide = {"value": np.ones((2, 4)), "costs": np.ones((1, 2, 4)), "budgets": [1.0]}
    with pytest.raises(DataError) as error:
        AllocationProblem(**wide, max_offers=2, groups=groups)
    assert error.value.where.startswith("groups")


def test_floors_need_segments():
    with pytest.raises(DataError) as error:
        AllocationProblem(**GOOD, floors=[1.0])
    assert error.value.where in ("floors", "segment_idx")


def test_endless_floors_are_refused():
    with pytest.raises(DataError) as error:
        AllocationProblem(**GOOD | FLOORS | {"floors": [INF, 0.0]})
    assert error.value.where == "floors"


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"warm_prices": [1.0, 2.0]}, "warm_prices"),
        ({"warm_prices": [-1.0]}, "warm_prices"),
        ({"warm_prices": [NAN]}, "warm_prices"),
        ({"warm_prices": [[1.0]]}, "warm_prices"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"tolerance": NAN}, "tolerance"),
    ],
)
def test_a_bad_start_or_tolerance_names_the_argument(options, where):
    problem = dense_case(10, 2, 1, seed=0).problem()
    with pytest.raises(DataError) as error:
        solve(problem, **options)
    assert error.value.where == where


def test_any_start_is_allowed_however_far_off():
    case = dense_case(200, 3, 2, seed=0)
    cold = solve(case.problem())
    for warm in ([0.0, 0.0], [1e9, 0.0], [1e-30, 1e30]):
        found = solve(case.problem(), warm_prices=warm)
        assert found.bound == pytest.approx(cold.bound, rel=1e-7)


def test_the_arrays_given_are_not_changed():
    case = dense_case(500, 4, 2, seed=1)
    before = case.value.copy(), case.costs.copy(), case.budgets.copy()
    for array in (case.value, case.costs, case.budgets):
        array.flags.writeable = False
    solve(case.problem())
    assert (case.value == before[0]).all()
    assert (case.costs == before[1]).all()
    assert (case.budgets == before[2]).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int64, np.uint8])
def test_other_types_and_layouts_of_numbers_are_taken(dtype):
    rng = np.random.default_rng(2)
    value, costs = rng.integers(1, 9, (60, 4)), rng.integers(0, 5, (2, 60, 4))
    plain = AllocationProblem(
        value=value.astype(np.float32), costs=costs.astype(np.float32), budgets=[50.0, 40.0]
    )
    other = AllocationProblem(
        value=np.asfortranarray(value.astype(dtype)),
        costs=costs.astype(dtype)[:, ::-1][:, ::-1],
        budgets=[50, 40],
    )
    a, b = solve(plain), solve(other)
    assert (a.choice == b.choice).all()
    assert (a.value, a.bound) == (b.value, b.bound)


def test_lists_are_taken_as_arrays():
    problem = AllocationProblem(
        value=[[1, 2], [3, 4]],
        costs=[[[1, 1], [1, 1]]],
        budgets=[1],
        capacity=[1, 1],
        segment_idx=[0, 1],
        floors=[0, 1],
    )
    found = solve(problem)
    assert found.choice.tolist() == [-1, 1]
    assert found.value == 4.0


def test_wider_costs_are_rounded_up_so_that_rows_hold_for_the_caller_too():
    rng = np.random.default_rng(4)
    costs = rng.exponential(1, (1, 500, 3))
    problem = AllocationProblem(value=rng.uniform(0, 1, (500, 3)), costs=costs, budgets=[50.0])
    assert (problem.costs >= costs).all()
    found = solve(problem)
    at = np.flatnonzero(found.choice >= 0)
    assert costs[0, at, found.choice[at]].sum() <= 50.0


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"costs": np.ones((1, 20, 4))}, "costs must be an array of float32"),
        ({"costs": np.ones((1, 20, 4), np.int32)}, "costs must be an array of float32"),
        ({"costs": np.ones((1, 10, 4), np.float32)}, "costs must be"),
        ({"costs": np.ones((2, 20, 4), np.float32)}, "budgets"),
        ({"segment_idx": np.zeros(3, np.int32)}, "segment_idx must be"),
        ({"keys": np.zeros(3, np.uint64)}, "keys must be"),
        ({"capacity_use": np.ones((20, 3), np.float32)}, "capacity_use must be"),
        ({"value": np.ones((20, 4))}, "value must be an array of float32"),
    ],
)
def test_a_block_of_wrong_shape_or_type_is_named(change, word):
    good = Block(np.ones((20, 4), np.float32), np.ones((1, 20, 4), np.float32))
    with pytest.raises(DataError, match=word) as error:
        solve([good, good._replace(**change)], budgets=[5.0])
    assert error.value.where == "blocks[1]"


def test_parts_with_unlike_arrays_are_refused():
    value, costs = np.ones((20, 3), np.float32), np.ones((0, 20, 3), np.float32)
    plain = {"value": value, "costs": costs, "budgets": [], "capacity": [4.0, 4.0, 4.0]}
    for name, array in (("capacity_use", value), ("offer_idx", np.zeros((20, 3), np.int32))):
        other = AllocationProblem(**plain, **{name: array})
        for parts in ([AllocationProblem(**plain), other], [other, AllocationProblem(**plain)]):
            with pytest.raises(DataError, match="of the first block"):
                solve(parts)


def test_a_poor_start_does_not_refuse_what_can_be_done():
    problem = AllocationProblem(
        value=np.random.default_rng(0).gamma(2, 1, (20_000, 4)),
        costs=np.ones((1, 20_000, 4)),
        budgets=[1000.0],
        segment_idx=np.zeros(20_000, np.int32),
        floors=[900.0],
    )
    assert solve(problem, warm_prices=[0.0, 1e300]).value == solve(problem).value
    with pytest.raises(DataError, match="finite"):
        solve(problem, warm_prices=[np.inf, 0.0])


def test_more_offers_than_slots_leave_columns_empty():
    value = np.ones((5, 2), np.float32)
    found = solve(
        AllocationProblem(value=value, costs=np.empty((0, 5, 2)), budgets=[], max_offers=4)
    )
    assert found.choice.tolist() == [[0, 1, -1, -1]] * 5


@pytest.mark.parametrize("floor", [1e16, 1e300])
def test_an_absurd_floor_is_refused(floor):
    with pytest.raises(InfeasibleError) as error:
        solve(
            AllocationProblem(
                value=np.ones((50, 2)),
                costs=np.ones((1, 50, 2)),
                budgets=[30.0],
                segment_idx=np.zeros(50, np.int32),
                floors=[floor],
            )
        )
    assert error.value.rows[0] == "floor[0]"
