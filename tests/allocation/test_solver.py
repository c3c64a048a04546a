from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest

from promo_ray.allocation import AllocationProblem, choose, choose_block, solve, solve_resident
from promo_ray.allocation.exact import from_units, parts_of, total_units, units
from promo_ray.errors import DataError
from promo_ray.execution import SerialExecutor
from promo_ray.execution.executor import SerialResident
from promo_ray.numerics.merge_tree import partial_merge


def test_small_answers_equal_brute_force_or_lie_within_their_own_gap(make_random, check, optimum):
    n_best = 0
    for seed in range(30):
        problem = make_random(seed, max_users=5, max_slots=3)
        found = solve(problem)
        check(problem, found)
        best = optimum["brute"](problem)
        assert found.value <= best + 1e-12
        assert best <= found.bound * (1 + 1e-12)
        n_best += found.value >= best * (1 - 1e-12)
    assert n_best >= 28


def test_bound_is_the_linear_optimum_and_value_near_the_whole_one(make_random, check, optimum):
    shortfalls = []
    for seed in range(1000, 1040):
        problem = make_random(seed)
        found = solve(problem)
        check(problem, found)
        linear, whole = optimum["linear"](problem), optimum["whole"](problem)
        assert found.bound == pytest.approx(linear, rel=1e-9, abs=1e-9)
        assert found.bound >= linear - 1e-9 * max(1.0, linear)
        assert found.converged
        assert found.value <= whole * (1 + 1e-6) + 1e-6  # HiGHS may break rows by 1e-6
        shortfalls.append((whole - found.value) / max(whole, 1e-12))
    assert np.mean(shortfalls) < 2e-3
    assert np.mean(np.array(shortfalls) < 1e-6) > 0.85


def test_searched_prices_reach_the_linear_optimum(make_dense, check, optimum):
    # more users than are ever gathered, so that sample, Newton and ties are all at work
    problem = make_dense(1600, 3, 2, seed=1)
    found = solve(problem, block_users=300)
    check(problem, found)
    assert found.converged
    assert found.bound == pytest.approx(optimum["linear"](problem), rel=1e-9)
    assert found.gap < 2e-4


@pytest.mark.parametrize(("k", "most"), [(1, 1e-5), (5, 1e-4)])
def test_whole_gap_at_100_000_users(make_dense, check, k, most):
    problem = make_dense(100_000, 10, k, seed=0)
    found = solve(problem)
    check(problem, found)
    assert found.converged
    assert found.gap <= most
    assert found.n_passes <= 12


def test_offer_capacities_and_budgets_together(check):
    rng = np.random.default_rng(3)
    n, m = 20_000, 5
    problem = AllocationProblem(
        value=rng.gamma(2, 1, (n, m)).astype(np.float32),
        costs=rng.gamma(2, 1, (1, n, m)).astype(np.float32),
        budgets=np.array([0.4 * n]),
        capacity=np.full(m, n // 15),
    )
    found = solve(problem)
    check(problem, found)
    assert found.converged
    assert found.gap < 1e-4
    assert (found.prices[1:] > 0).any()


def test_complete_ties_are_split_and_use_the_budget(make_tied, check):
    problem = make_tied(20_000)
    found = solve(problem)
    check(problem, found)
    assert found.gap < 1e-4
    assert found.slack[0] < 20.0


@pytest.mark.parametrize("seed", range(6))
def test_odd_problems_keep_every_row_and_their_certificate(make_odd, check, seed):
    problem = make_odd(seed)
    found = solve(problem)
    check(problem, found)
    assert found.converged


def test_heavy_tails(check):
    rng = np.random.default_rng(5)
    n, m = 20_000, 6
    value = rng.pareto(1.3, (n, m)).astype(np.float32)
    costs = rng.gamma(2, 1, (2, n, m)).astype(np.float32)
    problem = AllocationProblem(value=value, costs=costs, budgets=np.array([0.2 * n, 0.3 * n]))
    found = solve(problem)
    check(problem, found)
    assert found.gap < 2e-4


def test_giants_that_no_budget_can_hold_do_not_crowd_out_the_others(check):
    rng = np.random.default_rng(6)
    n = 3000
    value = rng.uniform(0.5, 1.5, (n, 1)).astype(np.float32)
    costs = rng.uniform(0.5, 1.5, (1, n, 1)).astype(np.float32)
    budget = 50.0
    value[:3], costs[0, :3] = 1e4, 2 * budget  # each alone would be worth more than all others
    problem = AllocationProblem(value=value, costs=costs, budgets=[budget])
    found = solve(problem)
    check(problem, found)
    assert (found.choice[:3] == -1).all()
    others = AllocationProblem(value=value[3:], costs=costs[:, 3:], budgets=[budget])
    assert found.value == pytest.approx(solve(others).bound, rel=1e-3)
    assert found.bound > 10 * found.value  # the linear program may take half a giant


def test_one_unit_costs_fill_an_integer_budget_to_the_last_unit(check):
    value = np.arange(1, 101, dtype=np.float32)[:, None]
    problem = AllocationProblem(value=value, costs=np.ones((1, 100, 1)), budgets=np.array([7.0]))
    found = solve(problem)
    check(problem, found)
    assert found.slack[0] == 0.0
    assert found.value == sum(range(94, 101))


class GroupedResident(SerialResident):
    """Workers own shards and merge what they own, as a cluster would."""

    def __init__(self, shards, n_workers):
        super().__init__(shards)
        self.n_workers = n_workers

    def reduce(self, function, merge, *args):
        results = self.map(function, *args)
        nodes = {}
        for worker in range(self.n_workers):
            own = {(0, i): r for i, r in enumerate(results) if i % self.n_workers == worker}
            nodes |= partial_merge(pickle.loads(pickle.dumps(own)), len(results), merge)
        (root,) = partial_merge(nodes, len(results), merge).values()
        return root


class GroupedExecutor:
    def __init__(self, n_workers):
        self.n_workers = n_workers

    def load(self, sources):
        return GroupedResident(list(sources), self.n_workers)


def test_same_bits_for_any_executor_and_number_of_workers(make_dense):
    problem = make_dense(2500, 4, 1, seed=7)
    reference = solve(problem, block_users=39)
    for n_workers in (1, 2, 7, 64):
        found = solve(problem, GroupedExecutor(n_workers), block_users=39)
        assert found.choice.tobytes() == reference.choice.tobytes()
        assert found.prices.tobytes() == reference.prices.tobytes()
        assert (found.bound, found.value, found.n_passes) == (
            reference.bound,
            reference.value,
            reference.n_passes,
        )


def test_resident_blocks_give_the_same_answer_without_moving_the_data(make_dense):
    problem = make_dense(4000, 5, 2, seed=8)
    whole = solve(problem, block_users=700)
    resident = SerialExecutor().load(problem.blocks(700))
    found = solve_resident(resident, problem.budgets)
    choices = resident.map(choose_block, each=found.decisions)
    assert [len(c) for c in choices] == [700] * 5 + [500]
    np.testing.assert_array_equal(np.concatenate(choices), whole.choice)
    assert found.bound == whole.bound


def test_bad_numbers_in_resident_blocks_are_refused(make_dense):
    problem = make_dense(10, 2, 1, seed=0)
    block = problem.blocks(10)[0]
    bad = block._replace(value=np.where(block.value > 2, np.nan, block.value).astype(np.float32))
    with pytest.raises(DataError, match="blocks"):
        solve_resident(SerialExecutor().load([bad]), problem.budgets)


class CountingResident(SerialResident):
    """Notes the most bytes that one block or merge sends."""

    most = 0

    def reduce(self, function, merge, *args):
        def noted(a, b):
            merged = merge(a, b)
            self.most = max(self.most, len(pickle.dumps(merged)))
            return merged

        return super().reduce(function, noted, *args)


def test_traffic_of_a_pass_does_not_grow_with_the_users(make_dense):
    most = []
    for n in (8000, 32_000):
        problem = make_dense(n, 4, 1, seed=9)
        resident = CountingResident(problem.blocks(2000))
        solve_resident(resident, problem.budgets)
        most.append(resident.most)
    assert most[1] < 1.2 * most[0]


def test_permuting_users_permutes_the_answer(make_dense):
    base = make_dense(3000, 4, 2, seed=10)
    order = np.random.default_rng(0).permutation(3000)
    moved = AllocationProblem(
        value=base.value[order],
        costs=base.costs[:, order],
        budgets=base.budgets,
        keys=base.keys[order],
    )
    a, b = solve(base), solve(moved)
    assert b.bound == pytest.approx(a.bound, rel=1e-9)
    assert b.value == pytest.approx(a.value, rel=1e-4)
    assert np.mean(a.choice[order] == b.choice) > 0.99


@pytest.mark.parametrize("factor", [2.0**-20, 2.0**10, 1000.0])
def test_scaling_money_scales_value_and_bound(make_dense, factor):
    base = make_dense(2000, 4, 2, seed=11)
    scaled = AllocationProblem(
        value=base.value * np.float32(factor),
        costs=base.costs * np.float32(factor),
        budgets=base.budgets * factor,
    )
    a, b = solve(base), solve(scaled)
    assert b.bound == pytest.approx(a.bound * factor, rel=1e-6)
    assert b.value == pytest.approx(a.value * factor, rel=1e-3)
    np.testing.assert_allclose(a.prices, b.prices, rtol=1e-3)


def test_raising_a_budget_never_lowers_the_bound(make_dense):
    base = make_dense(600, 3, 2, seed=12)
    bounds = []
    for factor in (0.0, 0.5, 1.0, 1.5, 10.0, np.inf):
        raised = base.budgets * np.array([1.0, 1.0])
        raised[0] = raised[0] * factor if factor < np.inf else np.inf
        bounds.append(
            solve(AllocationProblem(value=base.value, costs=base.costs, budgets=raised)).bound
        )
    assert all(b >= a * (1 - 1e-9) for a, b in itertools.pairwise(bounds))


def test_warm_prices_save_passes_and_keep_the_certificate(make_dense, check):
    base = make_dense(20_000, 6, 4, seed=13)
    rng = np.random.default_rng(1)
    moved = AllocationProblem(
        value=base.value * rng.normal(1, 0.05, base.value.shape).astype(np.float32),
        costs=base.costs,
        budgets=base.budgets * 1.05,
    )
    cold = solve(moved)
    warm = solve(moved, warm_prices=solve(base).prices)
    check(moved, warm)
    assert warm.bound == pytest.approx(cold.bound, rel=1e-7)
    assert warm.n_passes <= cold.n_passes


def test_no_rows_give_everyone_the_best_positive_slot(check):
    value = np.array([[1, 2], [-1, -2], [-np.inf, -np.inf], [0, 3]], dtype=np.float32)
    problem = AllocationProblem(value=value, costs=np.zeros((0, 4, 2)), budgets=[])
    found = solve(problem)
    check(problem, found)
    assert found.choice.tolist() == [1, -1, -1, 1]
    assert (found.gap, found.value) == (0.0, 5.0)


def test_no_users():
    problem = AllocationProblem(
        value=np.empty((0, 3)), costs=np.empty((2, 0, 3)), budgets=[1.0, 2.0], capacity=[1, 1, 1]
    )
    found = solve(problem)
    assert found.choice.shape == (0,)
    assert (found.value, found.bound, found.gap) == (0.0, 0.0, 0.0)
    assert found.slack.tolist() == [1, 2, 1, 1, 1]


@pytest.mark.parametrize("n", [5, 3000])
def test_zero_budget_leaves_only_offers_that_use_none_of_it(check, n):
    rng = np.random.default_rng(2)
    costs = rng.exponential(1, (2, n, 3)).astype(np.float32)
    costs[0, :, 2] = 0
    value = rng.uniform(0.1, 1, (n, 3)).astype(np.float32)
    problem = AllocationProblem(value=value, costs=costs, budgets=[0.0, np.inf])
    found = solve(problem)
    check(problem, found)
    assert (found.choice == 2).all()
    assert found.gap < 1e-12
    assert (choose(value, costs, found.prices) == 2).all()


@pytest.mark.parametrize("n", [4, 2000])
def test_free_offers_go_to_all_whatever_the_price(check, n):
    value = np.full((n, 1), 0.5, dtype=np.float32)
    problem = AllocationProblem(value=value, costs=np.zeros((1, n, 1)), budgets=[0.0])
    found = solve(problem)
    check(problem, found)
    assert (found.choice == 0).all()


def test_progress_is_told_the_passes(make_dense):
    told = []

    def progress(stage, done, total=0, **fields):
        told.append((stage, done))

    solve(make_dense(50, 2, 1, seed=0), progress=progress)
    assert told[0] == ("allocate", 1)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"value": np.array([[np.nan, 1.0], [1.0, 1.0]])}, "value"),
        ({"value": np.array([[np.inf, 1.0], [1.0, 1.0]])}, "value"),
        ({"value": np.ones(3)}, "value"),
        ({"value": np.empty((2, 0))}, "value"),
        ({"value": np.array([["a", "b"], ["c", "d"]])}, "value"),
        ({"costs": np.ones((1, 2, 3))}, "costs"),
        ({"costs": np.full((1, 2, 2), -1.0)}, "costs"),
        ({"costs": np.full((1, 2, 2), np.nan)}, "costs"),
        ({"costs": np.full((1, 2, 2), np.inf)}, "costs"),
        ({"budgets": [1.0, 2.0]}, "budgets"),
        ({"budgets": [-1.0]}, "budgets"),
        ({"budgets": [np.nan]}, "budgets"),
        ({"capacity": [1.0]}, "capacity"),
        ({"capacity": [1.0, np.nan]}, "capacity"),
        ({"capacity": [1.0], "offer_idx": np.ones((2, 2), dtype=int)}, "offer_idx"),
        ({"offer_idx": np.zeros((2, 2))}, "offer_idx"),
        ({"capacity": [1.0, 1.0], "capacity_use": np.ones((1, 2))}, "capacity_use"),
        ({"keys": np.zeros(2)}, "keys"),
    ],
)
def test_bad_input_names_the_argument(change, where):
    good = {"value": np.ones((2, 2)), "costs": np.ones((1, 2, 2)), "budgets": [1.0]}
    with pytest.raises(DataError) as error:
        AllocationProblem(**(good | change))
    assert error.value.where == where


def test_bad_start_or_tolerance_names_the_argument(make_dense):
    problem = make_dense(10, 2, 1, seed=0)
    with pytest.raises(DataError, match="warm_prices"):
        solve(problem, warm_prices=[1.0, 2.0])
    with pytest.raises(DataError, match="tolerance"):
        solve(problem, tolerance=0.0)


def test_wider_costs_are_rounded_up_so_that_rows_hold_for_the_caller_too():
    rng = np.random.default_rng(4)
    costs = rng.exponential(1, (1, 500, 3))
    problem = AllocationProblem(value=rng.uniform(0, 1, (500, 3)), costs=costs, budgets=[50.0])
    assert (problem.costs >= costs).all()
    found = solve(problem)
    at = np.flatnonzero(found.choice >= 0)
    assert costs[0, at, found.choice[at]].sum() <= 50.0


def test_exact_sums_do_not_depend_on_order_or_split():
    rng = np.random.default_rng(0)
    values = (rng.normal(0, 1, 5000) * 10.0 ** rng.integers(-30, 30, 5000)).astype(np.float32)
    parts = parts_of(values)
    exact = sum(units(v) for v in values.tolist())
    assert total_units(parts) == exact
    shuffled = rng.permutation(values)
    split = parts_of(shuffled[:1234]) + parts_of(shuffled[1234:])
    assert split.tobytes() == parts.tobytes()
    assert from_units(units(0.1)) == pytest.approx(0.1, abs=2.0**-149)
