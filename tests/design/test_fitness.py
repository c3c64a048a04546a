from __future__ import annotations

import itertools
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from promo_ray.design import MenuFitness, Sample, allocate_menu, native
from promo_ray.design.fitness_torch import tensor_scores
from promo_ray.errors import ConfigError, DataError


def sample(n: int, g: int, seed: int, share_eligible: float = 0.9) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    value = rng.normal(0.2, 1, (n, 1)) + rng.normal(0, 1, (n, g))
    value[rng.random((n, g)) > share_eligible] = -np.inf
    return value.astype(np.float32), rng.gamma(2, 0.5, (n, g)).astype(np.float32)


def menus_of(g: int, n_menus: int, n_slots: int, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n_menus):
        own = np.sort(rng.choice(g, rng.integers(0, n_slots + 1), replace=False))
        rows.append(np.pad(own, (0, n_slots - len(own)), constant_values=-1))
    return torch.tensor(np.array(rows))


def scalar(value: Any, cost: Any, menu: Any, budget: float | None) -> Any:
    own = [i for i in menu.tolist() if i >= 0]
    return allocate_menu(value[:, own].astype(float), cost[:, own].astype(float), budget)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 1.2), st.booleans())
def test_batched_fitness_equals_a_loop_of_scalar_allocations(
    seed: int, budget_per_user: float, is_free: bool
) -> None:
    n, g = 200, 6
    value, cost = sample(n, g, seed)
    if is_free:
        cost[:, 0] = 0
    menus = menus_of(g, 10, 3, seed)
    fitness = MenuFitness(Sample(value, cost), budget_per_user=budget_per_user)
    scores = fitness.scores(menus)
    step = float(value.max())  # one user at the edge of the budget
    for i, menu in enumerate(menus):
        want = scalar(value, cost, menu, budget_per_user * n)
        got = float(scores.value[i]) * n
        assert got <= float(scores.bound[i]) * n + 1e-4
        assert got <= want.bound + 1e-4
        assert want.value - 1e-3 * abs(want.value) - 1e-4 <= got <= want.value + step
        assert float(scores.spend[i]) <= budget_per_user * (1 + 1e-6)
        assert want.cost <= budget_per_user * n


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 3))
def test_scalar_allocation_is_within_one_user_of_the_true_optimum(seed: int, budget: float) -> None:
    n, m = 5, 2
    value, cost = (a.astype(float) for a in sample(n, m, seed))
    found = allocate_menu(value, cost, budget)
    best = 0.0
    for slots in itertools.product((-1, 0, 1), repeat=n):
        pairs = [(i, j) for i, j in enumerate(slots) if j >= 0]
        if sum(cost[p] for p in pairs) <= budget:
            best = max(best, sum(value[p] for p in pairs))
    assert found.cost <= budget
    taken = [(i, j) for i, j in enumerate(found.slot) if j >= 0]
    assert found.value == pytest.approx(sum(value[p] for p in taken))
    assert found.cost == pytest.approx(sum(cost[p] for p in taken))
    assert found.value <= best + 1e-9 <= found.bound + 2e-9
    assert best - found.value <= max(0.0, value.max())


def test_same_bits_for_any_batch() -> None:
    value, cost = sample(3000, 8, 1)
    fitness = MenuFitness(Sample(value, cost), budget_per_user=0.2)
    menus = menus_of(8, 90, 4, 2)
    whole = fitness(menus)
    assert torch.equal(whole, torch.cat([fitness(m[None]) for m in menus]))
    assert torch.equal(whole.reshape(2, 45), fitness(menus.reshape(2, 45, 4)))


def test_gap_to_the_bound_is_small_on_a_usual_sample() -> None:
    value, cost = sample(5000, 20, 3)
    scores = MenuFitness(Sample(value, cost), budget_per_user=0.3).scores(
        menus_of(20, 100, 5, 4)[1:]
    )
    has_offers = scores.value > 0
    gap = (scores.bound - scores.value)[has_offers] / scores.value[has_offers]
    assert float(gap.max()) < 1e-4


def test_fixed_costs_count_per_offer_and_the_empty_menu_is_worth_nothing() -> None:
    value, cost = sample(50, 3, 5)
    free = MenuFitness(Sample(value, cost), budget_per_user=None)
    paid = MenuFitness(Sample(value, cost), budget_per_user=None, fixed_cost=[0.1, 0.2, 0.4])
    menus = torch.tensor([[-1, -1], [0, 2]])
    assert free(menus)[0] == paid(menus)[0] == 0
    assert float(free(menus)[1] - paid(menus)[1]) == pytest.approx(0.5)


def test_unlimited_budget_gives_everyone_the_best_and_zero_budget_only_what_is_free() -> None:
    value, cost = sample(100, 2, 6)
    cost[:, 1] = 0
    menu = torch.tensor([[0, 1]])
    everyone = np.maximum(value.astype(float).max(1), 0).mean()
    unlimited = MenuFitness(Sample(value, cost), budget_per_user=None).scores(menu)
    assert float(unlimited.value[0]) == pytest.approx(everyone)
    assert unlimited.price.shape == (1, 0)
    nothing = MenuFitness(Sample(value, cost), budget_per_user=0.0).scores(menu)
    assert float(nothing.value[0]) == pytest.approx(np.maximum(value[:, 1], 0).mean())
    assert float(nothing.spend[0]) == 0


def test_more_offers_and_more_budget_never_hurt() -> None:
    value, cost = sample(400, 4, 7)
    menus = torch.tensor([[0, -1, -1], [0, 1, -1], [0, 1, 2]])
    before = None
    for budget in (0.0, 0.05, 0.2, 1.0, None):
        values = MenuFitness(Sample(value, cost), budget_per_user=budget)(menus)
        assert (values.diff() >= -1e-6).all()
        assert before is None or (values >= before - 1e-6).all()
        before = values


def test_users_whom_no_offer_pleases_are_counted_and_get_none() -> None:
    value = np.array([[1.0], [-1.0], [-np.inf]], dtype=np.float32)
    cost = np.ones((3, 1), dtype=np.float32)
    scores = MenuFitness(Sample(value, cost), budget_per_user=1.0).scores(torch.tensor([[0]]))
    assert float(scores.value[0]) == pytest.approx(1 / 3)
    nobody = MenuFitness(Sample(-cost, cost), budget_per_user=1.0)(torch.tensor([[0], [-1]]))
    assert nobody.tolist() == [0, 0]


def test_travels_by_pickle_and_takes_read_only_arrays() -> None:
    value, cost = sample(50, 3, 8)
    value.setflags(write=False)
    fitness = MenuFitness(Sample(value, cost), budget_per_user=0.1)
    menus = menus_of(3, 5, 2, 9)
    again = pickle.loads(pickle.dumps(fitness))
    assert torch.equal(again(menus), fitness(menus))


def test_an_offer_is_scored_once_however_many_menus_hold_it() -> None:
    value, cost = sample(50, 5, 11)
    counted: list[int] = []

    class Counted(Sample):
        def take(self, offers: Any) -> Any:
            counted.extend(offers.tolist())
            return super().take(offers)

    fitness = MenuFitness(Counted(value, cost), budget_per_user=0.2)
    for _ in range(3):
        fitness(torch.tensor([[0, 1, -1], [1, 2, 4], [0, 2, 4]]))
    assert sorted(counted) == [0, 1, 2, 4]


def test_a_full_store_starts_anew_and_changes_no_bit() -> None:
    value, cost = sample(100, 30, 12)
    menus = menus_of(30, 60, 4, 13)
    roomy = MenuFitness(Sample(value, cost), budget_per_user=0.2)
    tight = MenuFitness(Sample(value, cost), budget_per_user=0.2)
    tight._store.most = 6
    want = roomy(menus)
    assert torch.equal(tight(menus), want)
    assert torch.equal(tight(menus.flip(0)), want.flip(0))


def test_threads_change_no_bit() -> None:
    value, cost = sample(500, 10, 14)
    menus = menus_of(10, 101, 5, 15)
    one = MenuFitness(Sample(value, cost), budget_per_user=0.2)
    many = MenuFitness(Sample(value, cost), budget_per_user=0.2, n_threads=3)
    assert torch.equal(one(menus), many(menus))


@pytest.mark.skipif(native.kernel is None, reason="the kernel was not built")
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 1.2))
def test_tensor_code_agrees_with_the_kernel(seed: int, budget_per_user: float) -> None:
    n, g = 300, 6
    value, cost = sample(n, g, seed)
    menus = menus_of(g, 12, 4, seed)
    want = MenuFitness(Sample(value, cost), budget_per_user=budget_per_user).scores(menus)
    ratio = np.where((value > 0) & (cost > 0), value / cost, 0).max(axis=0).astype(float)
    columns = (torch.from_numpy(np.ascontiguousarray(a.T)) for a in (value, cost))
    found = tensor_scores(
        *columns, menus.numpy().astype(np.int16), ratio, budget_per_user * n, 1e-6
    )
    top = float(np.maximum(value, 0).max())
    assert np.allclose(found[:, 0] / n, want.value, atol=2 * top / n)
    assert (found[:, 0] <= found[:, 1] + 1e-4).all()
    assert (found[:, 3] <= budget_per_user * n * (1 + 1e-6)).all()


@pytest.mark.parametrize(
    ("value", "cost", "budget", "error", "match"),
    [
        ([[1.0]], [[1.0, 2.0]], 1.0, DataError, "value and cost"),
        ([], [], 1.0, DataError, "value and cost"),
        ([[np.nan]], [[1.0]], 1.0, DataError, "value"),
        ([[np.inf]], [[1.0]], 1.0, DataError, "value"),
        ([[1.0]], [[-1.0]], 1.0, DataError, "cost"),
        ([[1.0]], [[np.inf]], 1.0, DataError, "cost"),
        ([[1.0]], [[1.0]], -1.0, ConfigError, "budget_per_user"),
        ([[1.0]], [[1.0]], float("nan"), ConfigError, "budget_per_user"),
    ],
)
def test_bad_input_is_refused(value: Any, cost: Any, budget: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        MenuFitness(Sample(value, cost), budget_per_user=budget)


def test_without_the_kernel_scores_are_the_same_but_for_rounding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    value, cost = sample(400, 8, 16)
    menus = menus_of(8, 30, 4, 17)
    for budget in (None, 0.0, 0.2):
        want = MenuFitness(Sample(value, cost), budget_per_user=budget).scores(menus)
        with monkeypatch.context() as patch:
            patch.setattr(native, "kernel", None)
            fitness = MenuFitness(Sample(value, cost), budget_per_user=budget)
            found = fitness.scores(menus)
            assert torch.equal(fitness(menus[3:5]), found.value[3:5])
        for a, b in zip(found[:2], want[:2], strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def test_too_many_slots_and_a_wrong_fixed_cost_are_refused() -> None:
    columns = Sample(*sample(10, 3, 1))
    with pytest.raises(ConfigError, match="64 slots"):
        MenuFitness(columns, budget_per_user=1.0)(torch.zeros((1, 65), dtype=torch.int64))
    with pytest.raises(ConfigError, match="fixed_cost"):
        MenuFitness(columns, budget_per_user=1.0, fixed_cost=[1.0, 2.0])
    with pytest.raises(ConfigError, match="n_threads"):
        MenuFitness(columns, budget_per_user=1.0, n_threads=0)
