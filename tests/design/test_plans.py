from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest

from promo_ray.design import Budget, Constraints, GridSteps, MenuSpace, MenuUsers, wide_grid
from promo_ray.design.plans import (
    PLANS,
    audience_of,
    constraints_of,
    holdout_for,
    measurement,
    plan_menu,
    plans_of,
)
from promo_ray.errors import ConfigError, DataError
from promo_ray.response.surface import SurfaceEffects

N = 600
RNG = np.random.default_rng(0)
PROFILES = pa.table(
    {
        "frequency": RNG.integers(0, 9, N),
        "tenure_days": RNG.uniform(0, 300, N),
        "recency_days": RNG.uniform(0, 90, N),
        "gap_p90_days": np.where(RNG.random(N) < 0.2, np.nan, 40.0),
        "segment": RNG.choice(["low_frequency", "high_frequency"], N),
        "attr_is_member": (RNG.random(N) < 0.3).astype(float),
        "affinity": RNG.random(N),
        "has_bought": RNG.integers(0, 2, N),
    }
)


class Linear:
    def effects(self, x: Any, basket: Any, offers: Any) -> SurfaceEffects:
        rows = offers.to_pylist()
        off = np.array([r["amount"] or (r["depth_rate"] or 0.0) * 40 for r in rows])
        gross = np.sqrt(off) * basket[:, None] / 15
        return SurfaceEffects(gross, np.broadcast_to(off * 0.6, gross.shape).copy())


GRID = wide_grid(
    RNG.lognormal(3.6, 0.4, 500), steps=GridSteps(depth_rates=(0.1, 0.3)), bundles=[("a", "b")]
)
USERS = MenuUsers(RNG.normal(0, 1, (N, 1)), RNG.lognormal(3.6, 0.4, N))


@pytest.mark.parametrize("name", sorted(PLANS))
def test_every_plan_makes_a_menu_within_its_limits(name: str) -> None:
    plan = PLANS[name]
    found = plan_menu(
        name, plan, Linear(), USERS, PROFILES, MenuSpace(GRID, 4), 100.0, outcome_sd=20.0,
        max_evals=200,
    )  # fmt: skip
    inside = audience_of(name, plan, PROFILES)
    measured = found.measurement
    assert found.n_audience == inside.sum() == measured.n_treated + measured.n_holdout
    assert len(found.menu.offers) <= plan.max_offers
    assert {o.terms["mechanic"] for o in found.menu.offers} <= set(plan.mechanics)
    for offer in found.menu.offers:
        depth = offer.terms["depth_rate"] or 0.0
        assert depth <= plan.max_depth_rate
    assert orjson.loads(orjson.dumps(found.document()))["plan"] == name


def test_audiences_follow_their_rules() -> None:
    table = PROFILES.to_pandas()
    late = audience_of("win_back", PLANS["win_back"], PROFILES)
    assert late.tolist() == (table["recency_days"] > table["gap_p90_days"]).tolist()
    new = audience_of("welcome", PLANS["welcome"], PROFILES)
    assert new.tolist() == ((table["frequency"] < 2) & (table["tenure_days"] < 60)).tolist()
    assert audience_of("holiday", PLANS["holiday"], PROFILES).all()


def test_an_empty_audience_and_a_missing_column_are_named() -> None:
    plan = plans_of({"welcome": {"audience": [{"column": "frequency", "below": -1}]}})["welcome"]
    with pytest.raises(DataError, match=r"plans\.welcome\.audience: .*empty"):
        audience_of("welcome", plan, PROFILES)
    with pytest.raises(DataError, match=r"plans\.member\.audience: .*'attr_is_member'"):
        audience_of("member", PLANS["member"], PROFILES.drop(["attr_is_member"]))


def test_a_text_is_no_number_and_null_is_no_text() -> None:
    bad = PROFILES.set_column(0, "frequency", pa.array(["x"] * N))
    with pytest.raises(DataError, match=r"plans\.welcome\.audience: column 'frequency' must hold"):
        audience_of("welcome", PLANS["welcome"], bad)
    rule = {"audience": [{"column": "segment", "is_in": ["None", "a"]}]}
    plan = plans_of({"low_frequency": rule})["low_frequency"]
    table = pa.table({"segment": [None, "a"]})
    assert audience_of("low_frequency", plan, table).tolist() == [False, True]
    few = pa.table({"frequency": [1, None, 1, 5], "tenure_days": [1.0, 1.0, None, 1.0]})
    assert audience_of("welcome", PLANS["welcome"], few).tolist() == [True, False, False, False]


def test_a_plan_holds_users_out_of_its_offers() -> None:
    found = plan_menu(
        "holiday", PLANS["holiday"], Linear(), USERS, PROFILES, MenuSpace(GRID, 4), 100.0,
        outcome_sd=20.0, max_evals=200,
    )  # fmt: skip
    offers = found.executable()
    assert offers
    assert {(o.audience.holdout_bp, o.audience.salt) for o in offers} == {(1_000, "plan holiday")}


def test_all_plans_come_from_one_config() -> None:
    own = {"goal": "x", "metric": "margin", "goal_days": 7, "mechanics": ["percent_off"]}
    plans = plans_of({"win_back": {"holdout_rate": 0.2}, "birthday": own})
    assert plans["win_back"].holdout_rate == 0.2
    assert plans["win_back"].mechanics == PLANS["win_back"].mechanics
    assert plans["birthday"].audience == ()
    assert plans["welcome"] == PLANS["welcome"]
    for settings, match in (
        ({"welcome": {"holdout": 0.2}}, "plans.welcome.*'holdout'"),
        ({"welcome": {"holdout_rate": 1.0}}, "plans.welcome.*holdout_rate"),
        ({"welcome": {"holdout_rate": 0.99999}}, "plans.welcome.*holdout_rate.*0.9999;"),
        ({"welcome": {"mechanics": ["gift"]}}, "^plans.welcome: gifts must list"),
        ({"birthday": {"goal": "x"}}, "plans.birthday"),
        ({"welcome": 3}, "plans.welcome must be a section"),
        ([1], "plans must be a section"),
        ({"welcome": {"mechanics": ["foo"]}}, "mechanics must be of .*'foo'"),
        ({"welcome": {"max_tries": 3}}, "max_tries"),
    ):
        with pytest.raises(ConfigError, match=match):
            plans_of(settings)  # type: ignore[arg-type]


def test_the_detectable_effect_is_found_with_the_power_of_the_plan() -> None:
    plan = PLANS["holiday"]
    found = measurement(plan, 2_000, 30.0)
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(1_000):
        treated = rng.normal(found.detectable, 30.0, found.n_treated)
        held_out = rng.normal(0.0, 30.0, found.n_holdout)
        se = 30.0 * (1 / found.n_treated + 1 / found.n_holdout) ** 0.5
        hits += abs(treated.mean() - held_out.mean()) / se > 1.959964
    assert 0.8 * 1_000 - 40 <= hits <= 0.8 * 1_000 + 40  # three standard errors


def test_the_holdout_is_the_smallest_that_finds_an_effect() -> None:
    plan = PLANS["holiday"]
    share = holdout_for(plan, 10_000, 30.0, 3.0)
    near = plans_of({"holiday": {"holdout_rate": share}})["holiday"]
    assert measurement(near, 10_000, 30.0).detectable == pytest.approx(3.0, rel=1e-3)
    with pytest.raises(ConfigError, match=r"effect must be >= 1\.68"):
        holdout_for(plan, 10_000, 30.0, 1.0)
    with pytest.raises(ConfigError, match="n_users"):
        measurement(plan, 1, 30.0)
    with pytest.raises(ConfigError, match="outcome_sd"):
        measurement(plan, 10, 0.0)


def test_the_tighter_of_two_limits_holds() -> None:
    shop = Constraints(max_depth_rate=0.25, max_offers=9, mechanics=("percent_off",))
    rules = constraints_of(PLANS["win_back"], shop)
    assert (rules.max_depth_rate, rules.max_offers) == (0.25, 2)
    assert rules.mechanics == ("percent_off",)
    with pytest.raises(ConfigError, match=r"plans\.welcome\.mechanics"):
        plan_menu(
            "welcome", PLANS["welcome"], Linear(), USERS, PROFILES, MenuSpace(GRID, 4), 100.0,
            outcome_sd=20.0, constraints=shop,
        )  # fmt: skip


def test_a_plan_may_have_several_budgets() -> None:
    budgets: Any = {
        "all": 90.0,
        "few": Budget(limit=40, measure="contacts", mechanics=("percent_off",)),
    }
    found = plan_menu(
        "holiday", PLANS["holiday"], Linear(), USERS, PROFILES, MenuSpace(GRID, 4), budgets,
        outcome_sd=20.0, max_evals=50,
    )  # fmt: skip
    document = orjson.loads(orjson.dumps(found.document()))
    assert [(b["name"], b["limit"]) for b in document["budget"]] == [("all", 90.0), ("few", 40)]
    enforced = document["guardrails"]["enforced"]
    assert "an expected cost of at most 90.00 USD" in enforced
    assert "at most 40 contacts for percent off" in enforced
    one = replace(found, budget=Budget(limit=7.0)).document()
    assert "an expected cost of at most 7.00 USD" in one["guardrails"]["enforced"]
