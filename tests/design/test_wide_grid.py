from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.design import (
    GridSteps,
    Predicted,
    Sample,
    Variants,
    Window,
    offer_grid,
    propose_bundles,
    wide_grid,
)
from promo_ray.design.columns import Channel
from promo_ray.design.wide_grid import good_looking
from promo_ray.errors import ConfigError, DataError
from promo_ray.response.surface import SurfaceEffects

BASKETS = np.random.default_rng(0).lognormal(3.8, 0.5, 1_000)


def terms(*rows: dict[str, Any]) -> pa.Table:
    base = {**dict.fromkeys(OFFER_TERMS.names), "contact_cost": 0.1, "label": ""}
    filled = [{**base, "offer_id": f"o{i}", **row} for i, row in enumerate(rows)]
    return pa.Table.from_pylist(filled, schema=OFFER_TERMS)


def test_a_grid_holds_every_mechanic_on_good_looking_steps() -> None:
    grid = wide_grid(BASKETS, scopes=("tea",), bundles=[("a", "b")])
    rows = grid.terms.to_pylist()
    assert {r["mechanic"] for r in rows} == {
        "percent_off", "amount_off", "spend_threshold", "product_bundle"
    }  # fmt: skip
    assert len(set(grid.offer_ids)) == len(grid) == len(grid.offers("USD"))
    assert all(r["label"] for r in rows)
    for row in rows:
        if row["threshold"]:
            assert BASKETS.min() < row["threshold"] < BASKETS.max()
            assert row["amount"] < row["threshold"]
            assert row["threshold"] == good_looking(row["threshold"])


@pytest.mark.parametrize(
    ("value", "want"), [(0.4, 0.4), (3.37, 3.5), (7.7, 8), (12.1, 12), (43.6, 45), (137, 140)]
)
def test_amounts_look_good(value: float, want: float) -> None:
    assert good_looking(value) == pytest.approx(want)


def test_support_is_what_was_tried_and_the_range_between() -> None:
    tried = terms(
        {"mechanic": "percent_off", "depth_rate": 0.1},
        {"mechanic": "percent_off", "depth_rate": 0.3},
    )
    grid = wide_grid(BASKETS, steps=GridSteps(mechanics=("percent_off",)), scopes=("tea",),
                     tried=tried)  # fmt: skip
    rows = grid.terms.to_pylist()
    between = [r["depth_rate"] for r, ok in zip(rows, grid.is_between, strict=True) if ok]
    assert between == [0.1, 0.15, 0.2, 0.25, 0.3]
    assert grid.is_tried.sum() == 2
    assert not (grid.is_tried & ~grid.is_between).any()


def test_bad_grids_are_refused() -> None:
    with pytest.raises(DataError, match="baskets"):
        wide_grid([np.nan, -1.0])
    with pytest.raises(DataError, match="item sets"):
        wide_grid(BASKETS, steps=GridSteps(mechanics=("product_bundle",)))
    with pytest.raises((ConfigError, ValueError), match="mechanics must be of"):
        GridSteps(mechanics=("lottery",))


def test_bundles_are_what_is_bought_together_more_than_by_chance() -> None:
    rng = np.random.default_rng(1)
    orders, items = [], []
    for order in range(400):
        basket = set(rng.choice(30, 3, replace=False).tolist())
        if order % 4 == 0:
            basket |= {40, 41, 42}
        orders += [order] * len(basket)
        items += [f"i{i}" for i in sorted(basket)]
    found = propose_bundles(orders, items, n_bundles=4)
    planted = {("i40", "i41"), ("i40", "i42"), ("i41", "i42"), ("i40", "i41", "i42")}
    assert {b.items for b in found} == planted
    pair = next(b for b in found if b.items == ("i40", "i41"))
    assert (pair.n_orders, pair.lift) == (100, pytest.approx(4.0))
    assert pair.leverage == pytest.approx(0.25 - 0.25**2)
    assert propose_bundles(orders, items, sizes=(3,), n_bundles=9)[0].items == (
        "i40", "i41", "i42"
    )  # fmt: skip
    assert propose_bundles([], []) == []


def test_bad_bundle_settings_are_refused() -> None:
    with pytest.raises(DataError, match="orders, items"):
        propose_bundles([1, 2], ["a"])
    with pytest.raises(ConfigError, match="sizes"):
        propose_bundles([1], ["a"], sizes=(1,))


def test_variants_are_offers_for_a_segment_in_a_window_by_a_channel() -> None:
    base = Sample(np.array([[2.0], [4.0]], np.float32), np.array([[1.5], [1.5]], np.float32))
    columns = Variants(
        base,
        contact=np.array([0.5]),
        members=np.array([[True, False], [True, True]]),
        reach=np.array([[True, True], [False, True]]),
        windows=(Window(), Window("half", 0.5)),
        channels=(Channel("mail"), Channel("letter", 1.0)),
    )
    assert columns.n_offers == 8
    value, cost = columns.take(np.arange(8))
    inf = np.inf
    # of user 0: everyone or members, whole or half, mail or letter
    assert value[:, 0].tolist() == [2, 1, 0.75, -0.25, -inf, -inf, -inf, -inf]
    assert value[:, 1].tolist() == [-inf, 3, -inf, 0.75, -inf, 3, -inf, 0.75]
    assert cost[:, 0].tolist() == [1.5, 2.5, 1.0, 2.0] * 2
    assert columns.users(slice(1, 2)).take(np.array([1]))[0].tolist() == [[3.0]]
    assert columns.digest() != columns.users(slice(1, 2)).digest()


@pytest.mark.parametrize(("currency", "unit"), [("JPY", 1.0), ("USD", 0.01)])
def test_amounts_are_whole_minor_units(currency: str, unit: float) -> None:
    baskets = np.array([30.0, 40.0, 50.0]) * unit
    tried = wide_grid(baskets, currency=currency)
    between = offer_grid(tried.terms, "between", currency)
    for grid in (tried, between):
        for row in grid.terms.to_pylist():
            if row["amount"] is not None:
                assert row["amount"] >= unit
                assert row["amount"] / unit == pytest.approx(round(row["amount"] / unit))


def test_a_scope_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="scopes must be unique"):
        wide_grid([10.0, 20.0], scopes=("a", "a"))


def test_surfaces_that_differ_in_a_late_offer_have_other_digests() -> None:
    class Last:
        def __init__(self, value: float) -> None:
            self.value = value

        def effects(self, x: Any, basket: Any, offers: pa.Table) -> SurfaceEffects:
            deep = offers["depth_rate"].to_numpy(zero_copy_only=False) > 0.45
            found = np.where(deep, self.value, 0.0) * (x[:, :1] > 90)
            return SurfaceEffects(found, np.zeros_like(found))

    grid = wide_grid([10.0, 20.0], steps=GridSteps(mechanics=("percent_off",)), scopes=("a", "b"))
    x = np.arange(100.0)[:, None]
    one, two = (Predicted((Last(v),), x, np.ones(100), grid.terms).digest() for v in (1.0, 2.0))
    assert one != two


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"depth_rates": (0.1, 1.5)}, r"^depth_rates must be a tuple .*1\.5\)$"),
        ({"amount_rates": (0.0,)}, "^amount_rates must be a tuple"),
        ({"threshold_quantiles": 0.5}, "^threshold_quantiles must be a tuple"),
        ({"contact_cost": -1.0}, "^contact_cost must be finite and >= 0; got -1.0$"),
        ({"contact_cost": "x"}, "^contact_cost must be finite"),
        ({"mechanics": ("bogof",)}, "^mechanics must be of"),
    ],
)
def test_bad_steps_are_named_in_one_line(fields: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as error:
        GridSteps(**fields)
    assert "\n" not in str(error.value)
