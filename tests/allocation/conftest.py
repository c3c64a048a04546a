"""Seeded allocation problems and independent oracles for them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for allocation_cases, _oracles, _checks

from allocation_cases import Case, dense_case, odd_case, random_case, tied_case
from allocation_checks import faults_of
from allocation_oracles import brute_force, linear_optimum, whole_optimum

from promo_ray.allocation import Allocation, AllocationProblem


def case_of(problem: AllocationProblem) -> Case:
    """The arrays of a problem."""
    names = Case.__dataclass_fields__
    return Case(**{n: getattr(problem, n) for n in names if hasattr(problem, n)})


@pytest.fixture(scope="session")
def make_random() -> Callable[..., AllocationProblem]:
    """Problems of `random_case` with budgets and capacities only, one offer per user."""

    def make(seed: int, max_users: int = 40, max_slots: int = 6) -> AllocationProblem:
        case = random_case(seed, max_users, max_slots, has_floors=False, most_offers=1)
        return case.problem()

    return make


@pytest.fixture(scope="session")
def make_odd() -> Callable[..., AllocationProblem]:
    return lambda seed: odd_case(seed).problem()


@pytest.fixture(scope="session")
def make_dense() -> Callable[..., AllocationProblem]:
    def make(n: int, m: int, k: int, seed: int, tight: float = 0.2) -> AllocationProblem:
        return dense_case(n, m, k, seed, tight).problem()

    return make


@pytest.fixture(scope="session")
def make_tied() -> Callable[..., AllocationProblem]:
    return lambda n, m=6: tied_case(n, m).problem()


@pytest.fixture(scope="session")
def check() -> Callable[[AllocationProblem, Allocation], None]:
    """Fails unless an answer keeps every row exactly and agrees with its certificate."""

    def check(problem: AllocationProblem, found: Allocation) -> None:
        assert faults_of(case_of(problem), found) == []

    return check


@pytest.fixture(scope="session")
def optimum() -> dict[str, Callable[[AllocationProblem], float]]:
    """Oracles for problems that have an answer."""

    def whole(problem: AllocationProblem) -> float:
        found = whole_optimum(case_of(problem))
        return -np.inf if found is None else found.most

    return {
        "linear": lambda problem: linear_optimum(case_of(problem)),
        "whole": whole,
        "brute": lambda problem: brute_force(case_of(problem)),
    }
