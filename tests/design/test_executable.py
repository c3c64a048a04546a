from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.design import (
    Channel,
    Constraints,
    MenuSpace,
    MenuUsers,
    OfferGrid,
    Sample,
    Samples,
    Window,
    design_menu,
    offer_grid,
    search_menu,
)
from promo_ray.errors import ConfigError, DataError
from promo_ray.offers import Window as OfferWindow
from promo_ray.offers import check_offers
from promo_ray.response.surface import SurfaceEffects


def grid_of(n: int) -> OfferGrid:
    rows = [
        dict.fromkeys(OFFER_TERMS.names)
        | {"offer_id": f"o{i}", "mechanic": "percent_off", "depth_rate": 0.05 * (i + 1)}
        | {"contact_cost": 0.25, "label": ""}
        for i in range(n)
    ]
    return offer_grid(pa.Table.from_pylist(rows, schema=OFFER_TERMS))


def samples_of(n_offers: int, shift: float = 0.5, n: int = 300) -> Samples:
    rng = np.random.default_rng(0)
    draw = [(rng.normal(shift, 1, (n, n_offers)), rng.uniform(0.2, 1, (n, n_offers)))] * 3
    return Samples(*(Sample(v.astype(np.float32), c.astype(np.float32)) for v, c in draw))


def test_executable_offers_carry_all_that_the_menu_says() -> None:
    week = OfferWindow(weekdays=("sat", "sun"), timezone="Europe/Berlin")
    space = MenuSpace(
        grid_of(2), 2, segments=("vip", "new"), windows=(Window("weekends", 0.3, week),),
        channels=(Channel("mail", 0.5), Channel("push")),
        constraints=Constraints(min_margin_rate=0.1, margin_rate=0.5),
    )  # fmt: skip
    value = np.full((300, space.n_offers), -1.0, np.float32)
    first, second = space.variant(0, 0, 0, 0), space.variant(0, 1, 0, 1)
    value[:150, first] = value[150:, second] = 2.0
    sample = Sample(value, np.full_like(value, 0.1))
    order = np.random.default_rng(1).permutation(300)
    sample = Sample(sample.value[order], sample.cost[order])
    found = search_menu(Samples(sample, sample, sample), space, budget_per_user=None)
    assert found.menu == (first, second)
    offers = found.executable()
    assert [o.id for o in offers] == ["o0", "o0-2"]
    assert [o.audience.segments_any for o in offers] == [("vip",), ("new",)]
    assert [o.audience.channels for o in offers] == [("mail",), ("push",)]
    assert [o.contact_cost for o in offers] == [75, 25]
    assert [o.caps.min_margin_bp for o in offers] == [1_000, 1_000]
    assert {o.window for o in offers} == {week}
    check_offers(offers)
    terms = found.offer_set().terms.to_pylist()
    assert [row["offer_id"] for row in terms] == ["o0", "o0-2"]
    assert [row["contact_cost"] for row in terms] == [o.contact_cost / 100 for o in offers]
    assert found.offer_set().offers == offers


def test_executable_offers_keep_their_exclusive_group() -> None:
    rules = Constraints(exclusive_groups=(("o0", "o1"),))
    found = search_menu(
        samples_of(3), MenuSpace(grid_of(3), 2, constraints=rules), budget_per_user=None
    )
    groups = {o.id: o.stacking.group for o in found.executable()}
    assert {groups.get("o0"), groups.get("o1")} - {None} == {"one of o0, o1"}
    assert groups["o2"] is None


class EarlyAndLate:
    """The first offer is worth 1 to the first half of the users, the second 3 to the rest."""

    def effects(self, x: Any, basket: Any, offers: Any) -> SurfaceEffects:
        is_late = x[:, :1] > 0.5
        is_first = offers["depth_rate"].to_numpy() < 0.07
        value = np.where(is_first, np.where(is_late, 0.0, 1.0), np.where(is_late, 3.0, 0.0))
        return SurfaceEffects(value + 1e-3 * x, np.full(value.shape, 0.1))


def test_the_order_of_the_users_says_nothing() -> None:
    """Searched and raced on the first users by number alone, the first offer would win."""
    users = MenuUsers(np.linspace(0, 1, 8_000)[:, None], np.full(8_000, 40.0))
    found = design_menu(EarlyAndLate(), users, MenuSpace(grid_of(2), 1), None)
    assert found.offer_ids == ("o1",)
    assert all(f.menu != (0,) or f.behind.mean > 0 for f in found.finalists)


def test_where_rules_allow_no_offer_there_is_no_single_one_to_compare_with() -> None:
    rules = Constraints(max_depth_rate=0.01)
    space = MenuSpace(grid_of(4), 2, constraints=rules)
    assert space.n_allowed == 0
    found = search_menu(samples_of(4), space, budget_per_user=0.2)
    assert found.menu == ()
    assert found.judged.single_offer is None
    assert found.judged.single_value == found.judged.single_share == 0
    assert found.judged.gain_vs_single == found.judged.gain_vs_none


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"budget_per_user": 0.0}, "budget_per_user must be > 0"),
        ({"budget_per_user": "x"}, "budget_per_user must be > 0"),
        ({"fixed_cost": -5.0}, "fixed_cost"),
        ({"fixed_cost": float("nan")}, "fixed_cost"),
        ({"today": [7]}, "today must name variants of 0 to 2; got 7"),
        ({"today": [-3]}, "today"),
    ],
)
def test_bad_settings_of_a_search_are_refused(change: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        search_menu(samples_of(3), MenuSpace(grid_of(3), 2), **{"budget_per_user": 1.0, **change})


def test_bad_budgets_and_channels_of_a_design_are_refused() -> None:
    users = MenuUsers(np.zeros((40, 1)), np.ones(40), reach={"emial": np.ones(40, bool)})
    for budget in (0, -1.0, float("nan"), "x"):
        with pytest.raises(ConfigError, match="budgets must be > 0"):
            design_menu(EarlyAndLate(), users, MenuSpace(grid_of(2), 1), budget)  # type: ignore[arg-type]
    space = MenuSpace(grid_of(2), 1, channels=(Channel("email"),))
    with pytest.raises(DataError, match=r"users\.reach\.emial: must be of a channel"):
        design_menu(EarlyAndLate(), users, space, 9.0)
