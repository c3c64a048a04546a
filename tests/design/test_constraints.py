from __future__ import annotations

from typing import Any

import pytest
import torch

from promo_ray.bench.design_rules import BASKETS, count_violations, random_space, violations_of
from promo_ray.config import parse
from promo_ray.design import Constraints, MenuSpace
from promo_ray.design.local import mended
from promo_ray.errors import ConfigError
from promo_ray.pipeline.design import DesignConfig

SPACE = random_space(1)
IDS = SPACE.grid.offer_ids


def place(mechanic: str, **parameters: Any) -> list[int]:
    return [
        i
        for i, row in enumerate(SPACE.grid.terms.to_pylist())
        if row["mechanic"] == mechanic and all(row[k] == v for k, v in parameters.items())
    ]


def test_no_menu_breaks_a_rule_and_repaired_genes_stay() -> None:
    found = count_violations(40, seed=5)
    assert found["n_menus"] == 800
    assert found["n_menus_that_break_a_rule"] == 0
    assert found["n_allocations_over_a_budget"] == 0
    assert found["n_repairs_that_change_repaired_ones"] == 0


def test_the_check_itself_sees_what_is_broken() -> None:
    a, b = (SPACE.variant(i) for i in place("percent_off", scope=None)[-2:])
    names = tuple(IDS[SPACE.parts(v)[0]] for v in (a, b))
    for rules, want in (
        (Constraints(max_offers=1), "max_offers"),
        (Constraints(max_depth_rate=0.01, typical_basket=BASKETS), "max_depth_rate"),
        (Constraints(min_margin_rate=0.5, margin_rate={"": 0.5}, typical_basket=BASKETS),
         "min_margin_rate"),
        (Constraints(mechanics=("spend_threshold",)), "mechanics"),
        (Constraints(forbidden_pairs=(names,)), "forbidden_pairs"),  # type: ignore[arg-type]
        (Constraints(exclusive_groups=(names,)), "exclusive_groups"),
    ):  # fmt: skip
        assert want in violations_of(SPACE.under(rules), (a, b))
        (kept,) = mended(SPACE.under(rules), [(a, b)])
        assert violations_of(SPACE.under(rules), kept) == []


def test_an_offer_too_deep_gives_way_to_the_deepest_allowed_one() -> None:
    rows = place("percent_off", scope="tea")
    depths = [SPACE.grid.terms["depth_rate"][i].as_py() for i in rows]
    limit = depths[1] + 0.01
    tight = SPACE.under(Constraints(max_depth_rate=limit, typical_basket=BASKETS))
    (menu,) = mended(tight, [(SPACE.variant(rows[-1]),)])
    assert [SPACE.parts(v)[0] for v in menu] == [rows[1]]
    none = SPACE.under(Constraints(max_depth_rate=0.0, typical_basket=BASKETS))
    assert mended(none, [(SPACE.variant(rows[-1]),)]) == [()]


def test_the_margin_floor_counts_on_what_is_paid() -> None:
    """At margin 0.4 and floor 0.25, d may be (0.4 - 0.25) / 0.75 = 0.2 and not more."""
    rules = Constraints(min_margin_rate=0.25, margin_rate=0.4, typical_basket=BASKETS)
    mended_rows = SPACE.under(rules)._mended
    for i in place("percent_off"):
        depth = SPACE.grid.terms["depth_rate"][i].as_py()
        assert (mended_rows[i] == i) == (depth <= 0.2 + 1e-9)


def test_an_amount_off_a_scope_is_held_against_what_is_spent_there() -> None:
    """4 off tea, of which an order holds 25, is 0.16; of the whole basket of 40 it is 0.1."""
    rules = Constraints(max_depth_rate=0.15, typical_basket=BASKETS)
    kept = SPACE.under(rules)._mended
    for i in place("amount_off"):
        row = SPACE.grid.terms.slice(i, 1).to_pylist()[0]
        assert (kept[i] == i) == (row["amount"] / BASKETS[row["scope"] or ""] <= 0.15)
    with pytest.raises(ConfigError, match="typical_basket must be given for scope 'tea'"):
        SPACE.under(Constraints(max_depth_rate=0.15, typical_basket=40.0))
    # offers that other rules bar need no basket
    SPACE.under(Constraints(max_depth_rate=0.15, mechanics=("percent_off",)))


def test_of_two_that_exclude_one_another_the_better_stays() -> None:
    a, b = place("percent_off", scope=None)[:2]
    rules = Constraints(exclusive_groups=((IDS[a], IDS[b]),))
    rank = SPACE.rank.copy()
    rank[a], rank[b] = 7, 3
    for order, kept in ((SPACE.rank, a), (rank, b)):
        (menu,) = mended(SPACE.under(rules, order), [(SPACE.variant(a), SPACE.variant(b))])
        assert [SPACE.parts(v)[0] for v in menu] == [kept]


def test_offers_outside_what_was_tried_can_be_forbidden() -> None:
    assert not SPACE.grid.is_between.any()  # nothing was tried in this grid
    nothing = SPACE.under(Constraints(support="between"))
    assert (nothing.decode(torch.ones(1, nothing.space.n_genes)) == -1).all()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"max_offers": 0}, "max_offers"),
        ({"max_depth_rate": 1.5}, "max_depth_rate"),
        ({"min_margin_rate": 1.0, "margin_rate": 0.5}, "min_margin_rate"),
        ({"min_margin_rate": 0.1}, "margin_rate must be given"),
        ({"margin_rate": 1.0}, "margin_rate"),
        ({"typical_basket": 0.0}, "typical_basket"),
        ({"support": "beyond"}, "support"),
        ({"forbidden_pairs": (("a", "a"),)}, "forbidden_pairs"),
        ({"exclusive_groups": (("a", "b"), ("b", "c"))}, "exclusive_groups must not overlap; 'b'"),
    ],
)
def test_bad_rules_are_refused_by_name(settings: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Constraints(**settings)


@pytest.mark.parametrize(
    ("rules", "match"),
    [
        (Constraints(mechanics=("gift",)), "mechanics"),
        (Constraints(forbidden_pairs=(("none", IDS[0]),)), "forbidden_pairs"),
        (Constraints(exclusive_groups=(("percent_off", IDS[0]),)), "exclusive_groups"),
        (Constraints(max_depth_rate=0.5), "typical_basket"),
        (Constraints(min_margin_rate=0.1, margin_rate={"tea": 0.5}, typical_basket=9.0), "scope"),
    ],
)
def test_rules_that_do_not_fit_the_grid_are_refused(rules: Constraints, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        MenuSpace(SPACE.grid, 3, constraints=rules)


def test_rules_stand_in_the_config_of_the_stage() -> None:
    config = parse(DesignConfig, {"constraints": {"exclusive_groups": [["percent_off"]]}})
    assert config.constraints.exclusive_groups == (("percent_off",),)
    with pytest.raises(ConfigError, match="max_offer"):
        parse(DesignConfig, {"constraints": {"max_offer": 1}})
    with pytest.raises(ConfigError, match="max_offers"):
        parse(DesignConfig, {"constraints": {"max_offers": 0}})
