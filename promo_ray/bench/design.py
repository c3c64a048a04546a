"""Design of menus on simulated shops: against the optimum, other searches, truth, and the clock."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from promo_ray.bench.design_cases import Case, Truth, grid_of, large_case, small_case
from promo_ray.bench.design_rules import count_violations
from promo_ray.data.simulate import Shop
from promo_ray.design import (
    GridSteps,
    MenuFitness,
    MenuSpace,
    MenuUsers,
    Predicted,
    Sample,
    design_menu,
    judge_menu,
    native,
    search_menu,
)
from promo_ray.design.budgets import BudgetRows
from promo_ray.design.local import Evaluator, Menu, mended
from promo_ray.execution.threads import single_threaded
from promo_ray.seeding import stream


def optimum(n_seeds: int = 20, max_evals: int = 1_000) -> dict[str, Any]:
    """Share of the best of all menus that the search reaches, on the users of the search."""
    shares = []
    for seed in range(n_seeds):
        case = small_case(seed)
        rules: dict[str, Any] = {"budget_per_user": case.budgets, "seed": seed}
        best = search_menu(case.samples, case.space, enumerate_up_to=10_000, **rules)
        found = search_menu(
            case.samples, case.space, enumerate_up_to=0, max_evals=max_evals, **rules
        )
        fitness = case.fitness(case.samples.search)
        most = max(float(fitness(torch.tensor([menu.menu or (-1,)]))[0]) for menu in best.finalists)
        # the race may prefer another menu; what the search found is the best of its finalists
        mine = max(
            float(fitness(torch.tensor([menu.menu or (-1,)]))[0]) for menu in found.finalists
        )
        shares.append(mine / most)
    return {
        "case": "optimum known",
        "n_menus": case.space.n_menus,
        "max_evals": max_evals,
        "n_seeds": n_seeds,
        "n_at_least_99_percent": sum(share >= 0.99 for share in shares),
        "worst_share": min(shares),
    }


def against_others(
    method: str | None = None,
    *,
    kind: str = "exclusive",
    n_seeds: int = 10,
    max_evals: int = 2_000,
) -> dict[str, Any]:
    """Gain over the best of greedy, random search and single offers at equal evaluations.

    Every search's best menu on the users of the search is valued on users that none saw.
    """
    islands = ("ga", "pso", "sa", "auto") if method is None else (method,) * 4
    gains, cpu_s = [], []
    for seed in range(n_seeds):
        case = large_case(seed, kind)
        started = time.process_time()
        with single_threaded():
            found = search_menu(
                case.samples, case.space, budget_per_user=case.budgets, islands=islands,
                max_evals=max_evals, enumerate_up_to=0, seed=seed,
            )  # fmt: skip
            cpu_s.append(time.process_time() - started)
            others = [search(case, max_evals, seed) for search in (greedy, random_menus, singles)]
        held_out = case.fitness(case.samples.judge)
        values = [
            float(held_out(torch.tensor([menu or (-1,)]))[0]) for menu in (found.menu, *others)
        ]
        gains.append([values[0] / v - 1 for v in values[1:]])
    over = np.array(gains)
    return {
        "case": "large space",
        "islands": "+".join(islands),
        "kind": kind,
        "n_budgets": len(case.budgets),
        "n_variants": case.space.n_offers,
        "max_evals": max_evals,
        "n_seeds": n_seeds,
        "median_gain_over_best_other": float(np.median(over.min(axis=1))),
        "least_gain_over_best_other": float(over.min()),
        **{
            f"median_gain_over_{name}": float(np.median(over[:, i]))
            for i, name in enumerate(("greedy", "random", "single"))
        },
        "cpu_s": statistics.median(cpu_s),
    }


def _evaluator(case: Case) -> Evaluator:
    return Evaluator(case.space, case.fitness(case.samples.search))


def greedy(case: Case, max_evals: int, seed: int) -> Menu:
    """Offer by offer, each the best of as many as the evaluations allow, while it pays.

    Source: Mirzasoleiman et al. 2015, stochastic greedy; all offers where evaluations suffice.
    """
    evaluate, rng = _evaluator(case), stream(seed, "bench.greedy")
    space, best = case.space, 0.0
    menu: Menu = ()
    n_slots = min(space.max_offers, len(space.constraints.exclusive_groups) or space.max_offers)
    for k in range(1, n_slots + 1):
        pool = rng.permutation(space.n_offers)[: max_evals // n_slots].tolist()
        tried = [m for m in mended(space, [(*menu, v) for v in pool]) if len(m) == k]
        if not tried:
            break
        values = evaluate(tried)
        at = int(np.argmax(values))
        if values[at] <= best:
            break
        menu, best = tried[at], values[at]
    return menu


def random_menus(case: Case, max_evals: int, seed: int) -> Menu:
    """The best of random menus of any size."""
    evaluate, rng, space = _evaluator(case), stream(seed, "bench.random"), case.space
    while evaluate.n_evals < max_evals:
        drawn = [
            rng.integers(space.n_offers, size=rng.integers(1, space.max_offers + 1)).tolist()
            for _ in range(max_evals - evaluate.n_evals)
        ]
        evaluate(mended(space, drawn))
    return evaluate.best(1)[0].menu


def singles(case: Case, max_evals: int, seed: int) -> Menu:
    """The best of single offers, allocated under the budget."""
    evaluate, space = _evaluator(case), case.space
    pool = stream(seed, "bench.single").permutation(space.n_offers)[:max_evals].tolist()
    evaluate(mended(space, [[v] for v in pool]))
    return evaluate.best(1)[0].menu


def coverage(n_shops: int = 100, n_users: int = 4_000, n_more: int = 20_000) -> dict[str, Any]:
    """Shops in which the winner's gain lies in the interval predicted on held-out users.

    The gain is that over users of the shop who had no part in search, race or judgement.
    """
    n_inside, errors = 0, []
    for seed in range(n_shops):
        shop = Shop(n_users=n_users + n_more, n_items=60, n_categories=4, seed=seed)
        grid = grid_of(shop, GridSteps(contact_cost=0.1))
        numbers = np.arange(n_users + n_more, dtype=float)[:, None]
        users = MenuUsers(numbers[:n_users], np.ones(n_users))
        budget = 1.0
        found = design_menu(
            Truth(shop), users, MenuSpace(grid, 4), budget * n_users, max_evals=500, seed=seed
        )
        rest = Predicted((Truth(shop),), numbers[n_users:], np.ones(n_more), grid.terms)
        own = rest.take(np.array(found.menu))
        truth = judge_menu(
            range(len(found.menu)), Sample(own[0].T, own[1].T), budget_per_user=budget,
            single_offer=0,
        )  # fmt: skip
        gain = found.judged.gain_vs_none
        n_inside += gain.low <= truth.value <= gain.high
        errors.append((found.judged.value - truth.value) / truth.value)
    return {
        "case": "held-out gain",
        "n_shops": n_shops,
        "n_inside": n_inside,
        "mean_error": statistics.fmean(errors),
        "mean_error_se": statistics.stdev(errors) / n_shops**0.5,
    }


def speed(
    n_users: int = 20_000, n_offers: int = 200, n_slots: int = 8, n_budgets: int = 1
) -> dict[str, Any]:
    """Menus per processor second of one thread, and per second of two; all budgets bind.

    The first budget is on money and all offers, others on a random half of them and on contacts
    or money in turn.
    """
    rng = stream(0, "bench.speed")
    value = rng.normal(0.2, 1, (n_users, 1)) + rng.normal(0, 1, (n_users, n_offers))
    cost = rng.gamma(2, 0.5, (n_users, n_offers))
    sample = Sample(value.astype(np.float32), cost.astype(np.float32))
    rows = [rng.permutation(n_offers)[:n_slots] for _ in range(4_000)]
    menus = torch.from_numpy(np.sort(np.array(rows), axis=1))
    limit, covers = np.full(n_budgets, 0.06), rng.random((n_budgets, n_offers)) < 0.5
    limit[0], covers[0] = 0.3, True
    names = tuple(f"budget {k}" for k in range(n_budgets))
    budgets = BudgetRows(names, limit, np.arange(n_budgets) % 2 == 0, covers)

    def rate(n_threads: int, clock: Callable[[], float]) -> float:
        fitness = MenuFitness(sample, budget_per_user=budgets, n_threads=n_threads)
        fitness(menus[:400])  # every offer is met
        rates = []
        for _ in range(5):
            started = clock()
            fitness(menus)
            rates.append(len(menus) / (clock() - started))
        return statistics.median(rates)

    with single_threaded():
        per_cpu_s, wall = rate(1, time.process_time), rate(2, time.perf_counter)
    return {
        "case": "speed",
        "n_users": n_users,
        "n_slots": n_slots,
        "n_budgets": n_budgets,
        "menus_per_cpu_s": per_cpu_s,
        "menus_per_s_of_2_threads": wall,
        "has_kernel": native.kernel is not None,
    }


def run(quick: bool = False) -> Iterator[dict[str, Any]]:
    """Records of all cases.

    Args:
        quick: fewer seeds, shops and constraint sets.
    """
    machine = {"bench": "design", "numpy": np.__version__, "machine": platform.machine()}
    for n_budgets in (1, 2, 4):
        yield {**machine, **speed(n_budgets=n_budgets)}
    yield {**machine, **optimum(3 if quick else 20)}
    for kind in ("exclusive", "plain", "whole"):
        options: dict[str, Any] = {"kind": kind, "n_seeds": 2 if quick else 10}
        yield {**machine, **against_others(**options)}
    for method in () if quick else ("ga", "pso", "sa", "auto"):
        yield {**machine, **against_others(method, n_seeds=5)}
    yield {**machine, **coverage(5 if quick else 100)}
    yield {**machine, "case": "constraints", **count_violations(500 if quick else 10_000)}
