"""Random small cases with every oddity, against enumeration and HiGHS."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
from allocation_cases import Case, random_case
from allocation_checks import Verdict, examine, faults_of, money_of, refusal_faults
from allocation_oracles import brute_force, linear_optimum

from promo_ray.allocation import search, solve
from promo_ray.errors import InfeasibleError

# Shares of whole answers that must be the best there is, within 1e-9 of the money at stake.
TINY_SHARE = 0.97  # up to 7 users, 4 slots
SMALL_SHARE = 0.85  # up to 40 users, 6 slots
SMALL_MEAN = 2e-3  # mean of (best - value) / bound


def tiny(seed: int) -> Case:
    """What enumeration can do: 2 to 12 users, the fewer the more slots."""
    slots = seed % 4 + 1
    users = (12, 9, 6, 5)[slots - 1]
    return random_case(10_000 + seed, users, slots, most_offers=3 if slots < 4 else 1)


def survey(
    seeds: Iterable[int], make: Callable[[int], Case], best: Callable[[Case], float | None] | None
) -> tuple[list[str], list[Verdict]]:
    """Faults, each with the seed that shows it, and all verdicts."""
    verdicts = {seed: examine(make(seed), best) for seed in seeds}
    faults = [f"seed {seed}: {fault}" for seed, v in verdicts.items() for fault in v.faults]
    return faults, list(verdicts.values())


def share_of_best(verdicts: list[Verdict]) -> tuple[float, float]:
    """Share of answers that are the best, and mean shortfall."""
    short = np.array([v.short for v in verdicts if v.short is not None])
    return float(np.mean(short <= 1e-9)), float(short.mean())


def test_tiny_answers_are_those_of_enumeration():
    faults, verdicts = survey(range(160), tiny, brute_force)
    assert faults == []
    assert share_of_best(verdicts)[0] >= TINY_SHARE


def test_small_answers_have_the_bound_of_the_linear_program_and_nearly_the_best_value():
    faults, verdicts = survey(range(140), random_case, None)
    assert faults == []
    share, mean = share_of_best(verdicts)
    assert share >= SMALL_SHARE
    assert mean <= SMALL_MEAN


def test_several_offers_per_user_within_nested_groups():
    def make(seed: int) -> Case:
        case = random_case(50_000 + seed, 20, 5, has_floors=seed % 2 == 0)
        return case.but(max_offers=seed % 3 + 1)

    faults, verdicts = survey(range(60), make, None)
    assert faults == []
    assert share_of_best(verdicts)[0] >= SMALL_SHARE


def test_the_same_input_gives_the_same_bits():
    for seed in range(300, 312):
        case = random_case(seed)
        first, again = examine(case).found, examine(case).found
        if first is None or again is None:
            assert first is again is None
            continue
        assert first.choice.tobytes() == again.choice.tobytes()
        assert first.prices.tobytes() == again.prices.tobytes()
        assert (first.value, first.bound) == (again.value, again.bound)


def crowd(seed: int) -> Case:
    """Some hundred users: more than are gathered, few enough for HiGHS."""
    case = random_case(20_000 + seed, 1200, 5, most_offers=2)
    if case.floors is not None:
        case = case.but(floors=np.floor(0.5 * case.floors))
    return case


def searched(seed: int) -> list[str]:
    """Faults of an answer whose prices were searched over all users, not over a sample."""
    case = crowd(seed)
    linear = linear_optimum(case)
    try:
        found = solve(case.problem(), block_users=97)
    except InfeasibleError as error:
        # a crowd has whole answers wherever it has fractional ones with room to spare
        return refusal_faults(case, error) if linear is None else [f"refused: {error.rows}"]
    faults = faults_of(case, found)
    if linear is None:
        return [*faults, "answered, but there is no answer"]
    scale = max(abs(linear), 1e-3 * money_of(case))
    if not linear - 1e-9 * scale <= found.bound <= linear + 1e-7 * scale:
        faults.append(f"bound {found.bound!r} is not the linear optimum {linear!r}")
    if not found.converged:
        faults.append("not converged")
    if found.bound - found.value > 2.5 * len(case.limits) * largest_value(case):
        faults.append(f"gap is {found.gap}")
    return faults


def largest_value(case: Case) -> float:
    """What rounding one split user may cost at most."""
    return float(np.where(np.isfinite(case.value), np.abs(case.value), 0.0).max(initial=0.0))


@pytest.mark.parametrize(
    "batch", [0, *(pytest.param(b, marks=pytest.mark.slow) for b in range(1, 20))]
)
@pytest.mark.parametrize("sampled", [64, None])
def test_prices_of_a_crowd_reach_the_linear_optimum(monkeypatch, sampled, batch):
    if sampled is not None:  # so that passes over all users are at work
        monkeypatch.setattr(search, "_SAMPLE_USERS", sampled)
    seeds = range(20 * batch, 20 * batch + 20)
    assert [f"seed {s}: {fault}" for s in seeds for fault in searched(s)] == []


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(20))
def test_thousands_of_tiny_answers_are_those_of_enumeration(batch):
    faults, verdicts = survey(range(1000 + 200 * batch, 1200 + 200 * batch), tiny, brute_force)
    assert faults == []
    assert share_of_best(verdicts)[0] >= TINY_SHARE


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(20))
def test_thousands_of_small_answers_against_branch_and_bound(batch):
    seeds = range(1000 + 100 * batch, 1100 + 100 * batch)
    faults, verdicts = survey(seeds, random_case, None)
    assert faults == []
    share, mean = share_of_best(verdicts)
    assert share >= SMALL_SHARE - 0.05
    assert mean <= SMALL_MEAN


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(5))
def test_any_seed_and_any_split_into_blocks_keep_all_promises(batch):
    for seed in range(100 * batch, 100 * batch + 100):
        verdict = examine(random_case(seed), seed=seed, block_users=seed % 7 + 1)
        assert verdict.faults == [], seed
