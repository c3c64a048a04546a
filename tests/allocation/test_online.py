from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promo_ray.allocation import AllocationProblem, choose, solve
from promo_ray.errors import DataError


class Case:
    """Users with every oddity: ties, not eligible, lists, floors, zero prices, no rows."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.shape = tuple(rng.integers(1, 6, int(rng.integers(1, 3))).tolist())
        m, self.k = int(rng.integers(1, 7)), int(rng.integers(0, 11))
        dtype = np.float32 if seed % 2 else np.float64
        shape = (*self.shape, m)
        # quarters are exact: a score has the same bits in any order of summation
        self.values = (rng.integers(-4, 12, shape) / 4).astype(dtype)
        self.values[rng.random(shape) < 0.2] = -np.inf
        self.costs = (rng.integers(0, 5, (self.k, *shape)) / 4).astype(dtype)
        has_offers, has_lists = rng.random() < 0.7, rng.random() < 0.5
        self.n_offers = (int(rng.integers(1, 9)) if has_lists else m) if has_offers else 0
        self.more = {"max_offers": int(rng.integers(1, 4)), "n_segments": int(rng.integers(0, 4))}
        if has_lists and has_offers:
            self.more["offer_idx"] = rng.integers(0, self.n_offers, shape).astype(np.int32)
        if rng.random() < 0.5:
            self.more["capacity_use"] = (rng.integers(0, 5, shape) / 4).astype(np.float32)
        if self.more["n_segments"]:
            self.more["segment_idx"] = rng.integers(-1, self.more["n_segments"], self.shape)
        n_rows = self.k + self.n_offers + self.more["n_segments"]
        self.prices = rng.integers(0, 4, n_rows) / 4 * (rng.random(n_rows) < 0.7)

    def of_user(self, at: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, dict]:
        more = {
            key: value[at] if isinstance(value, np.ndarray) else value
            for key, value in self.more.items()
        }
        return self.values[at], self.costs[(slice(None), *at)], more


def by_hand(values, costs, prices, *, offer_idx=None, capacity_use=None, segment_idx=None,
            n_segments=0, max_offers=1):  # fmt: skip
    """Slots of one user, one price and one slot at a time."""
    k, n_offers = len(costs), len(prices) - len(costs) - n_segments
    scores = []
    for j in range(len(values)):
        score = float(values[j]) - sum(float(prices[r] * costs[r, j]) for r in range(k))
        if n_offers:
            offer = j if offer_idx is None else int(offer_idx[j])
            score -= prices[k + offer] * (1.0 if capacity_use is None else capacity_use[j])
        scores.append(score)
    has_floor = segment_idx is not None and segment_idx >= 0
    bonus = prices[k + n_offers + int(segment_idx)] if has_floor else 0.0
    order = sorted(range(len(scores)), key=lambda j: (-scores[j], j))
    found = [j for i, j in enumerate(order[:max_offers]) if scores[j] + bonus * (i == 0) > 0]
    return found + [-1] * (max_offers - len(found))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_slots_are_those_of_a_loop_over_slots(seed):
    case = Case(seed)
    got = choose(case.values, case.costs, case.prices, **case.more)
    q = case.more["max_offers"]
    assert got.dtype == np.int32
    assert got.shape == (case.shape if q == 1 else (*case.shape, q))
    for at in np.ndindex(*case.shape):
        values, costs, more = case.of_user(at)
        want = by_hand(values, costs, case.prices, **more)
        assert np.atleast_1d(got[at]).tolist() == want
        single = choose(values, costs, case.prices, **more)
        assert single.dtype == np.int32
        assert single.shape == (() if q == 1 else (q,))
        assert np.atleast_1d(single).tolist() == want


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("m", [1, 2, 7, 32])
def test_near_ties_fall_alike_in_a_batch_and_alone(dtype, m):
    """Scores differ by rounding only: the last bit decides, so it must be the same."""
    rng = np.random.default_rng(m)
    costs = rng.uniform(0.1, 1, (11, 2000, m)).astype(dtype)
    prices = rng.uniform(0.1, 1, 11)
    values = np.tensordot(prices, costs, axes=1)  # every score is 0 but for rounding
    batch = choose(values, costs, prices)
    single = [int(choose(values[i], costs[:, i], prices)) for i in range(len(values))]
    assert batch.tolist() == single
    swapped = np.ascontiguousarray(np.moveaxis(costs, 0, -1))  # another order in memory
    assert batch.tolist() == choose(values, np.moveaxis(swapped, -1, 0), prices).tolist()


def test_choosing_by_prices_agrees_with_the_solution_but_for_ties(make_dense):
    problem = make_dense(5000, 6, 3, seed=1)
    found = solve(problem)
    online = choose(problem.value, problem.costs, found.prices)
    assert np.mean(online == found.choice) > 0.995


def test_the_first_of_tied_slots_wins():
    values, costs = np.array([-np.inf, 2.0, 3.0, 2.0]), np.array([[0.0, 1.0, 2.0, 1.0]])
    assert choose(values, costs, np.array([1.0])) == 1
    assert choose(values, costs, np.array([1.0]), max_offers=3).tolist() == [1, 2, 3]


def test_a_score_of_zero_gets_nothing():
    assert choose(np.array([1.0, 0.5]), np.array([[1.0, 1.0]]), np.array([1.0])) == -1


def test_nothing_eligible_gives_none_even_in_a_segment_with_a_floor():
    values, costs = np.full((2, 3), -np.inf), np.ones((1, 2, 3))
    prices = np.array([0.5, 100.0])
    more = {"segment_idx": np.array([0, 0]), "n_segments": 1}
    assert choose(values, costs, prices, **more).tolist() == [-1, -1]
    assert choose(values[0], costs[:, 0], prices, segment_idx=0, n_segments=1) == -1
    many = choose(values, costs, prices, max_offers=2, **more)
    assert many.tolist() == [[-1, -1], [-1, -1]]


def test_a_floor_makes_one_negative_slot_worth_giving_but_not_two():
    values, costs, prices = np.array([-2.0, -1.0]), np.zeros((0, 2)), np.array([1.5, 0.0])
    assert choose(values, costs, prices, segment_idx=0, n_segments=2) == 1
    assert choose(values, costs, prices, segment_idx=1, n_segments=2) == -1
    found = choose(values, costs, prices, segment_idx=0, n_segments=2, max_offers=2)
    assert found.tolist() == [1, -1]


def test_more_offers_than_slots_are_filled_up_with_none():
    found = choose(np.array([1.0, 2.0]), np.zeros((0, 2)), np.empty(0), max_offers=4)
    assert found.tolist() == [1, 0, -1, -1]


def test_no_budget_rows():
    problem = AllocationProblem(value=np.array([[1.0, 2.0]]), costs=np.zeros((0, 1, 2)), budgets=[])
    assert choose(problem.value, problem.costs, np.empty(0)).tolist() == [1]


def test_no_users_and_no_slots():
    assert choose(np.empty((0, 3)), np.empty((2, 0, 3)), np.ones(2)).shape == (0,)
    assert choose(np.empty((4, 0)), np.empty((2, 4, 0)), np.ones(2)).tolist() == [-1] * 4
    assert choose(np.empty(0), np.empty((2, 0)), np.ones(2)) == -1


def test_input_is_left_as_it_was():
    values, costs, prices = np.array([[1.0, 2.0]]), np.array([[[1.0, 0.5]]]), np.ones(2 + 1)
    for array in (values, costs, prices):
        array.flags.writeable = False
    assert choose(values, costs, prices).tolist() == [1]
    assert choose(values[0], costs[:, 0], prices) == 1


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"costs": np.ones((2, 4))}, "costs"),
        ({"prices": np.ones(1)}, "prices"),
        ({"prices": np.ones(4)}, "prices"),  # neither 2 budgets nor 2 + 3 slots
        ({"segment_idx": 0}, "n_segments"),
        ({"prices": np.ones(2), "segment_idx": 0, "n_segments": 1}, "prices"),
        ({"offer_idx": np.zeros(1, dtype=np.int32)}, "offer_idx"),
        ({"capacity_use": np.ones(2)}, "capacity_use"),
    ],
)
def test_shapes_that_do_not_fit_are_named(change, where):
    given = {"values": np.ones(3), "costs": np.ones((2, 3)), "prices": np.ones(5), **change}
    with pytest.raises(DataError) as caught:
        choose(given.pop("values"), given.pop("costs"), given.pop("prices"), **given)
    assert caught.value.where == where


def test_choosing_loads_neither_scipy_nor_torch():
    code = (
        "import sys, promo_ray.allocation.online;"
        "sys.exit(any(name in sys.modules for name in ('scipy', 'torch', 'ray')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
