"""The oracles agree with each other; what they check is shown on faulty answers too."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from allocation_cases import Case, random_case
from allocation_oracles import (
    brute_force,
    dual_value,
    exact_sum,
    largest_scale,
    linear_optimum,
    program_of,
    whole_optimum,
)
from scipy.optimize import linprog


def tiny(seed: int) -> Case:
    return random_case(seed, max_users=6, max_slots=3)


def test_branch_and_bound_gives_the_answer_of_enumeration():
    n_none = 0
    for seed in range(150):
        case = tiny(seed)
        best, whole = brute_force(case), whole_optimum(case)
        assert (best is None) == (whole is None), seed
        n_none += best is None
        if best is not None and whole is not None:
            assert whole.least - 1e-9 <= best <= whole.most + 1e-9, seed
    assert 5 <= n_none <= 60


def test_the_least_dual_value_is_the_linear_optimum():
    """HiGHS's own prices, put into the dual function, give HiGHS's optimum."""
    for seed in range(200, 300):
        case = tiny(seed)
        linear = linear_optimum(case)
        if linear is None:
            continue
        program = program_of(case)
        kept = np.flatnonzero(np.isfinite(program.limit))
        found = linprog(
            -program.gain, A_ub=program.matrix[kept], b_ub=program.limit[kept], bounds=(0, 1)
        )
        rows = np.zeros(len(program.limit))
        rows[kept] = -found.ineqlin.marginals
        n_users = len(case.value)
        n_upper = len(case.limits) - case.n_floors
        first = n_users * (1 + len(case.groups or ()))
        prices = np.concatenate([rows[first : first + n_upper], rows[program.floor_rows]])
        assert dual_value(case, np.maximum(prices, 0)) == pytest.approx(linear, abs=1e-7), seed
        for draw in range(5):  # and any other prices are an upper bound
            some = np.random.default_rng(draw).exponential(1, len(prices))
            some[~np.isfinite(case.limits)] = 0
            assert dual_value(case, some) >= linear - 1e-9


def test_the_largest_scale_separates_floors_that_fit_from_those_that_do_not():
    n_seen = 0
    for seed in range(400):
        case = random_case(seed, max_users=12, has_floors=True)
        if not case.floors.any():
            continue
        scale = largest_scale(case)
        if scale < 1e-6:
            continue
        n_seen += 1
        assert linear_optimum(case.but(floors=case.floors * scale * (1 - 1e-6))) is not None
        assert linear_optimum(case.but(floors=case.floors * scale * (1 + 1e-6) + 1e-6)) is None
    assert n_seen > 100


def test_exact_sums_agree_with_fractions_and_correct_rounding():
    rng = np.random.default_rng(0)
    values = (rng.normal(0, 1, 3000) * 10.0 ** rng.integers(-30, 30, 3000)).astype(np.float32)
    exact = sum((Fraction(v) for v in values.tolist()), Fraction(0))
    assert exact_sum(values) == exact
    assert float(exact) == math.fsum(values.tolist())


def test_random_cases_show_every_oddity():
    cases = [random_case(seed) for seed in range(600)]
    shown = {
        "one user": any(len(c.value) == 1 for c in cases),
        "one slot": any(c.value.shape[1] == 1 for c in cases),
        "no budget": any(len(c.budgets) == 0 for c in cases),
        "zero budget": any((c.budgets == 0).any() for c in cases),
        "endless budget": any(np.isinf(c.budgets).any() for c in cases),
        "endless capacity": any(
            c.capacity is not None and np.isinf(c.capacity).any() for c in cases
        ),
        "nobody eligible": any(not np.isfinite(c.value).any() for c in cases),
        "user not eligible": any((~np.isfinite(c.value)).all(axis=1).any() for c in cases),
        "free offers": any((c.costs == 0).any() for c in cases),
        "negative with floors": any(
            c.n_floors > 0 and (c.value[np.isfinite(c.value)] < 0).any() for c in cases
        ),
        "copies": any(len(np.unique(c.value, axis=0)) < len(c.value) // 2 for c in cases),
        "lists": any(c.offer_idx is not None for c in cases),
        "offer twice": any(
            c.offer_idx is not None
            and c.value.shape[1] > 1
            and (c.offer_idx[:, 0] == c.offer_idx[:, 1]).any()
            for c in cases
        ),
        "use": any(c.capacity_use is not None for c in cases),
        "groups": any(c.groups for c in cases),
        **{f"q={q}": any(c.max_offers == q for c in cases) for q in (1, 2, 3)},
    }
    assert [name for name, is_shown in shown.items() if not is_shown] == []
