from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.design import (
    Budget,
    BudgetRows,
    Channel,
    MenuFitness,
    MenuSpace,
    MenuUsers,
    Sample,
    Samples,
    allocate_menu,
    design_menu,
    judge_menu,
    native,
    offer_grid,
    search_menu,
)
from promo_ray.design.budgets import budgets_of, rows_on
from promo_ray.errors import ConfigError
from promo_ray.response.surface import SurfaceEffects

BASE = {**dict.fromkeys(OFFER_TERMS.names), "contact_cost": 0.1, "label": ""}
TERMS: list[dict[str, Any]] = [
    {"mechanic": "percent_off", "depth_rate": 0.1},
    {"mechanic": "percent_off", "depth_rate": 0.2, "scope": "tea"},
    {"mechanic": "amount_off", "amount": 5.0},
    {"mechanic": "spend_threshold", "amount": 5.0, "threshold": 50.0},
    {"mechanic": "message"},
]
GRID = offer_grid(
    pa.Table.from_pylist(
        [{**BASE, **row, "offer_id": f"o{i}"} for i, row in enumerate(TERMS)], schema=OFFER_TERMS
    )
)
SPACE = MenuSpace(
    GRID, 3, segments=("everyone", "members"), channels=(Channel("mail"), Channel("letter", 0.5))
)


def draw(n: int, g: int, seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    value = rng.normal(0.2, 1, (n, 1)) + rng.normal(0, 1, (n, g))
    value[rng.random((n, g)) < 0.1] = -np.inf
    return Sample(value.astype(np.float32), rng.gamma(2, 0.5, (n, g)).astype(np.float32))


def rows_of_a_shop(g: int, k: int, seed: int) -> BudgetRows:
    """One budget on all, others on some, in money or contacts; some bind and some do not."""
    rng = np.random.default_rng(seed)
    covers = rng.random((k, g)) < 0.6
    covers[0] = True
    return BudgetRows(
        tuple(f"b{i}" for i in range(k)), rng.uniform(0.02, 0.5, k), rng.random(k) < 0.5, covers
    )


def menus_of(g: int, n: int, seed: int, slots: int = 4) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, slots + 1, n)
    rows = [[*np.sort(rng.choice(g, m, replace=False)), *[-1] * (slots - m)] for m in sizes]
    return torch.tensor(np.array(rows))


def best_of(sample: Sample, rows: BudgetRows, menu: list[int]) -> float:
    """The most that parts of offers could be worth, by a linear program."""
    offers = np.array([v for v in menu if v >= 0])
    if not len(offers):
        return 0.0
    value, cost = (a.astype(float) for a in sample.take(offers))
    n, m = sample.n_users, len(offers)
    counted = np.where(rows.is_money[:, None, None], cost, 1.0) * rows.covers[:, offers, None]
    each = np.tile(np.eye(n), (1, m))
    found = linprog(
        -np.where(np.isfinite(value), value, 0.0).ravel(),
        A_ub=np.vstack([counted.reshape(len(counted), -1), each]),
        b_ub=np.concatenate([rows.limit * n, np.ones(n)]),
        bounds=[(0, 1 if ok else 0) for ok in np.isfinite(value).ravel()],
    )
    return -float(found.fun)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 5), st.integers(2, 90))
def test_menus_are_worth_what_a_linear_program_gives_and_keep_every_budget(
    seed: int, k: int, n: int
) -> None:
    sample, rows, menus = draw(n, 6, seed), rows_of_a_shop(6, k, seed), menus_of(6, 6, seed)
    scores = MenuFitness(sample, budget_per_user=rows).scores(menus)
    for menu, value, bound, spend in zip(
        menus.tolist(), scores.value, scores.bound, scores.spend, strict=True
    ):
        best = best_of(sample, rows, menu)
        assert float(value) * n == pytest.approx(best, rel=1e-5, abs=1e-6)
        assert float(bound) * n >= best * (1 - 1e-6) - 1e-6
        assert (spend.numpy() <= rows.limit * (1 + 1e-9)).all()


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 4), st.integers(2, 60))
def test_whole_users_keep_every_budget_and_lose_little(seed: int, k: int, n: int) -> None:
    sample, rows = draw(n, 3, seed), rows_of_a_shop(3, k, seed)
    use = rows.use(np.arange(3), sample.cost.T.astype(float)).transpose(0, 2, 1)
    found = allocate_menu(sample.value.astype(float), use, rows.limit * n)
    taken = np.flatnonzero(found.slot >= 0)
    assert found.cost == pytest.approx(use[:, taken, found.slot[taken]].sum(axis=1))
    assert (found.cost <= rows.limit * n).all()
    assert found.value == pytest.approx(sample.value[taken, found.slot[taken]].sum(dtype=float))
    best = best_of(sample, rows, [0, 1, 2])
    assert best * (1 + 1e-6) + 1e-6 >= found.value
    assert found.value >= best - k * max(0.0, float(sample.value.max())) - 1e-6


def test_one_budget_of_all_money_gives_the_bits_of_a_number() -> None:
    samples = Samples(*(draw(300, SPACE.n_offers, seed) for seed in (1, 2, 3)))
    plain, *others = (
        search_menu(samples, SPACE, budget_per_user=budget, max_evals=200, enumerate_up_to=0)
        for budget in (0.2, Budget(limit=0.2), [Budget(limit=0.2)], {"budget": 0.2})
    )
    assert all(other == plain for other in others)
    assert plain.judged.budgets[0].spend == plain.judged.cost
    bits = [
        MenuFitness(samples.search, budget_per_user=b)(menus_of(SPACE.n_offers, 50, 4))
        for b in (0.2, rows_on(SPACE, [Budget(limit=0.2)]))
    ]
    assert torch.equal(*bits)


def test_a_budget_that_cannot_bind_changes_little_more_than_bits() -> None:
    sample, menus = draw(2_000, SPACE.n_offers, 5), menus_of(SPACE.n_offers, 40, 6)
    one = MenuFitness(sample, budget_per_user=0.1)(menus)
    both = [Budget(limit=0.1), Budget(limit=2.0, name="contacts", measure="contacts")]
    two = MenuFitness(sample, budget_per_user=rows_on(SPACE, both)).scores(menus)
    assert torch.allclose(one, two.value, rtol=1e-5)
    assert two.price[:, 1].max() == 0


def test_one_budget_of_some_offers_or_of_contacts_leaves_the_rest_free() -> None:
    sample, menu = draw(500, SPACE.n_offers, 7), torch.arange(SPACE.n_offers)[None]
    for budget in (
        Budget(limit=0.05, channels=("letter",)),
        Budget(limit=0.05, measure="contacts", mechanics=("percent_off", "message")),
    ):
        rows = rows_on(SPACE, [budget])
        scores = MenuFitness(sample, budget_per_user=rows).scores(menu)
        best = best_of(sample, rows, menu[0].tolist())
        assert float(scores.value[0]) == pytest.approx(best / 500, rel=1e-5)
        assert float(scores.spend[0, 0]) <= 0.05 * (1 + 1e-9)


def test_batch_threads_pickle_and_a_full_store_change_no_bit() -> None:
    sample, rows, menus = draw(900, 20, 8), rows_of_a_shop(20, 3, 9), menus_of(20, 61, 10)
    fitness = MenuFitness(sample, budget_per_user=rows)
    want = fitness.scores(menus)
    others = [
        MenuFitness(sample, budget_per_user=rows, n_threads=3),
        pickle.loads(pickle.dumps(fitness)),
        MenuFitness(sample, budget_per_user=rows),
    ]
    others[-1]._store.most = 5
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(other.scores(menus), want, strict=True))
    one_by_one = [fitness.scores(menu[None]) for menu in menus]
    for field, whole in enumerate(want):
        assert torch.equal(torch.cat([s[field] for s in one_by_one]), whole)


def test_without_the_kernel_scores_are_the_same_but_for_rounding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sample, rows, menus = draw(400, 8, 11), rows_of_a_shop(8, 4, 12), menus_of(8, 30, 13)
    want = MenuFitness(sample, budget_per_user=rows).scores(menus)
    monkeypatch.setattr(native, "kernel", None)
    found = MenuFitness(sample, budget_per_user=rows).scores(menus)
    assert torch.allclose(found.value, want.value, rtol=1e-5, atol=1e-7)
    assert (found.spend.numpy() <= rows.limit * (1 + 1e-9)).all()


BUDGETS = (
    Budget(limit=0.25, name="all"),
    Budget(limit=0.06, name="letters", measure="contacts", channels=("letter",)),
    Budget(limit=0.05, name="tea", scopes=("tea",), segments=("everyone",)),
)


def test_covers_are_those_of_every_field_that_is_given() -> None:
    rows = rows_on(SPACE, BUDGETS)
    for v in range(SPACE.n_offers):
        row, segment, _, channel = SPACE.parts(v)
        tea = row == 1 and segment == "everyone"
        assert rows.covers[:, v].tolist() == [True, channel.name == "letter", tea]
    assert rows.is_money.tolist() == [True, False, True]


def test_a_menu_is_searched_and_judged_under_several_budgets() -> None:
    samples = Samples(*(draw(1_500, SPACE.n_offers, 20 + i) for i in range(3)))
    rules: dict[str, Any] = {"budget_per_user": BUDGETS, "seed": 2}
    best = search_menu(samples, SPACE, enumerate_up_to=10_000, **rules)
    found = search_menu(samples, SPACE, enumerate_up_to=0, max_evals=600, **rules)
    assert best.enumerated
    fitness = MenuFitness(samples.search, budget_per_user=rows_on(SPACE, BUDGETS))

    def most(result: Any) -> float:
        return max(float(fitness(torch.tensor([f.menu or (-1,)]))) for f in result.finalists)

    assert most(found) >= 0.99 * most(best)
    used = {b.name: b for b in found.judged.budgets}
    assert list(used) == ["all", "letters", "tea"]
    assert all(0 <= b.spend <= b.limit for b in used.values())
    assert used["letters"].measure == "contacts"
    assert used["all"].spend == pytest.approx(found.judged.cost)
    assert found.judged.value <= found.judged.bound <= found.judged.value * 1.02
    words = {b.detail for b in found.bindings if b.constraint == "budget"}
    assert "all: value of one more unit of money" in words
    assert words <= {
        "all: value of one more unit of money",
        "letters: value of one more contact",
        "tea: value of one more unit of money",
    }


def test_prices_tell_what_one_more_unit_brings() -> None:
    sample, menu = draw(20_000, SPACE.n_offers, 31), torch.tensor([[0, 3, 7]])
    limits = np.array([b.limit for b in BUDGETS])
    scores = MenuFitness(sample, budget_per_user=rows_on(SPACE, BUDGETS)).scores(menu)
    for k in range(len(BUDGETS)):
        step = 0.01 * limits[k]
        more = [
            Budget(**{**vars(b), "limit": b.limit + step * (i == k)}) for i, b in enumerate(BUDGETS)
        ]
        wider = MenuFitness(sample, budget_per_user=rows_on(SPACE, more)).scores(menu)
        gain = float(wider.value[0] - scores.value[0])
        assert gain == pytest.approx(float(scores.price[0, k]) * step, rel=0.05, abs=1e-6)


def test_the_interval_of_a_gain_covers_it_under_several_budgets() -> None:
    rows = rows_of_a_shop(3, 2, 40)
    truth = judge_menu((0, 2), draw(100_000, 3, 99), budget_per_user=rows, single_offer=1)
    hits = [0, 0]
    for seed in range(25):
        found = judge_menu((0, 2), draw(300, 3, seed), budget_per_user=rows, single_offer=1)
        for i, name in enumerate(("gain_vs_none", "gain_vs_single")):
            gain = getattr(found, name)
            hits[i] += gain.low <= getattr(truth, name).mean <= gain.high
    assert min(hits) >= 20  # 95 % less 3.4 standard errors


class Linear:
    def effects(self, x: Any, basket: Any, offers: pa.Table) -> SurfaceEffects:
        depth = np.array([row["depth_rate"] or 0.1 for row in offers.to_pylist()])
        off = depth * basket[:, None]
        return SurfaceEffects(off * (1 + x[:, :1]), off)


def test_a_design_takes_budgets_of_the_whole_campaign() -> None:
    users = MenuUsers(np.linspace(0, 1, 80)[:, None], np.full(80, 20.0))
    space = MenuSpace(GRID, 2)
    budgets = {"all": 40.0, "sent": Budget(limit=25, measure="contacts")}
    found = design_menu(Linear(), users, space, budgets, n_campaign=100, max_evals=100)
    assert [(b.name, b.limit) for b in found.judged.budgets] == [("all", 0.4), ("sent", 0.25)]
    plain = [
        design_menu(Linear(), users, space, b, max_evals=100) for b in (30.0, Budget(limit=30.0))
    ]
    assert plain[0] == plain[1]


@pytest.mark.parametrize(
    ("budgets", "match"),
    [
        (0.0, "^budgets must be > 0 and finite, or None; got 0.0$"),
        ("x", "^budgets must be > 0 and finite"),
        (True, "^budgets must be > 0 and finite"),
        ([], "^budgets must be at least one"),
        ([1.0], "^budgets must be of Budget; got 1.0$"),
        ({"all": -1.0}, "^limit of budget 'all' must be > 0 and finite; got -1.0$"),
        ([Budget(limit=1), Budget(limit=2)], "^budgets must be .* another name"),
        ({"a": Budget(limit=1, mechanics=("bogof",))}, "^mechanics of budget 'a' .*'bogof'$"),
        ({"a": Budget(limit=1, channels=("sms",))}, "^channels of budget 'a' .*'sms'$"),
        ({"a": Budget(limit=1, offer_ids=("o9",))}, "^offer_ids of budget 'a' .*'o9'$"),
        (
            Budget(limit=1, name="a", mechanics=("message",), scopes=("tea",)),
            "^budget 'a' must cover an offer; it covers none$",
        ),
    ],
)
def test_bad_budgets_are_refused_in_one_line(budgets: Any, match: str) -> None:
    users = MenuUsers(np.zeros((40, 1)), np.ones(40))
    with pytest.raises(ConfigError, match=match) as error:
        design_menu(Linear(), users, MenuSpace(GRID, 2, channels=(Channel("mail"),)), budgets)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"limit": 0}, "limit of budget 'budget' must be > 0"),
        ({"limit": float("nan")}, "limit .* > 0"),
        ({"limit": float("inf")}, "limit .* > 0"),
        ({"limit": 1, "measure": "points"}, "measure .* of money, contacts; got 'points'"),
        ({"limit": 1, "channels": "mail"}, "channels .* a list of names"),
        ({"limit": 1, "segments": ()}, "segments .* a list of names"),
    ],
)
def test_bad_fields_of_a_budget_are_named(fields: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Budget(**fields)


def test_where_no_offer_pays_several_budgets_find_the_empty_menu() -> None:
    ones = np.ones((40, SPACE.n_offers), dtype=np.float32)
    columns = Sample(-ones, ones)
    budgets = [Budget(limit=1.0, name="a"), Budget(limit=0.5, name="c", measure="contacts")]
    fitness = MenuFitness(columns, budget_per_user=rows_on(SPACE, budgets))
    assert fitness(torch.full((2, 3), -1)).tolist() == [0.0, 0.0]
    found = search_menu(
        Samples(columns, columns, columns), SPACE, budget_per_user=budgets, enumerate_up_to=0,
        max_evals=300,
    )  # fmt: skip
    assert found.menu == ()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Budget(limit=1.0, mechanics=5), "mechanics of budget 'budget' must be"),  # type: ignore[arg-type]
        (lambda: Budget(limit=1.0, name=""), "name of a budget must be"),
        (lambda: budgets_of({1: 5.0}), "name of a budget must be"),  # type: ignore[dict-item]
        (lambda: budgets_of(10**400), "must be > 0 and finite"),
    ],
)
def test_what_is_no_budget_gives_one_line(make: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


def test_names_of_a_budget_can_be_a_set() -> None:
    given = Budget(limit=1.0, mechanics={"message", "amount_off"})  # type: ignore[arg-type]
    assert given.mechanics == ("amount_off", "message")
    assert rows_on(SPACE, [given]).covers.any()
