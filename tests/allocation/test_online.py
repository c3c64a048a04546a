from __future__ import annotations

import numpy as np

from promo_ray.allocation import AllocationProblem, choose, solve


def test_choosing_by_prices_agrees_with_the_solution_but_for_ties(make_dense):
    problem = make_dense(5000, 6, 3, seed=1)
    found = solve(problem)
    online = choose(problem.value, problem.costs, found.prices)
    assert np.mean(online == found.choice) > 0.995


def test_one_user_and_a_batch_agree():
    rng = np.random.default_rng(0)
    values, costs = rng.normal(0, 1, (7, 4)), rng.exponential(1, (2, 7, 4))
    values[3] = -np.inf
    prices = np.array([0.2, 0.1, 0.5, 0.0, 0.1, 0.0])
    batch = choose(values, costs, prices)
    single = [int(choose(values[i], costs[:, i], prices)) for i in range(7)]
    assert batch.tolist() == single
    assert batch[3] == -1


def test_sparse_lists_use_the_price_of_their_own_offer(make_random):
    for seed in range(20):
        problem = make_random(seed)
        if problem.capacity is None or problem.offer_idx is None:
            continue
        prices = np.arange(len(problem.budgets) + len(problem.capacity)) / 10
        got = choose(
            problem.value,
            problem.costs,
            prices,
            offer_idx=problem.offer_idx,
            capacity_use=problem.capacity_use,
        )
        k = len(problem.budgets)
        for i in range(len(problem.value)):
            scores = [0.0]
            for j in range(problem.value.shape[1]):
                score = float(problem.value[i, j])
                score -= sum(prices[r] * float(problem.costs[r, i, j]) for r in range(k))
                use = 1.0 if problem.capacity_use is None else problem.capacity_use[i, j]
                scores.append(score - prices[k + problem.offer_idx[i, j]] * float(use))
            assert scores[got[i] + 1] == max(scores) or np.isclose(scores[got[i] + 1], max(scores))


def test_no_budget_rows():
    problem = AllocationProblem(value=np.array([[1.0, 2.0]]), costs=np.zeros((0, 1, 2)), budgets=[])
    assert choose(problem.value, problem.costs, np.empty(0)).tolist() == [1]
