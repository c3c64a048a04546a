from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.design import offer_grid
from promo_ray.design.grid import nice_step
from promo_ray.errors import ConfigError, DataError


def terms(*rows: dict[str, Any]) -> pa.Table:
    base = {**dict.fromkeys(OFFER_TERMS.names), "contact_cost": 0.1, "label": ""}
    filled = [{**base, "offer_id": f"o{i}", **row} for i, row in enumerate(rows)]
    return pa.Table.from_pylist(filled, schema=OFFER_TERMS)


TRIED = terms(
    {"mechanic": "percent_off", "depth_rate": 0.12},
    {"mechanic": "percent_off", "depth_rate": 0.3},
    {"mechanic": "percent_off", "depth_rate": 0.5, "scope": "food > tea"},
    {"mechanic": "spend_threshold", "amount": 5.0, "threshold": 50.0},
    {"mechanic": "spend_threshold", "amount": 15.0, "threshold": 75.0},
    {"mechanic": "amount_off", "amount": 2.0},
    {"mechanic": "amount_off", "amount": 8.0},
    {"mechanic": "message"},
)


def test_tried_keeps_the_offers_of_the_log_alone() -> None:
    grid = offer_grid(TRIED)
    assert grid.terms.equals(TRIED)
    assert grid.is_tried.all()
    assert len(grid) == 8


def test_between_adds_good_looking_steps_inside_what_was_tried() -> None:
    grid = offer_grid(TRIED, "between")
    assert grid.terms.slice(0, 8).equals(TRIED)
    assert grid.is_tried.tolist() == [True] * 8 + [False] * (len(grid) - 8)
    new = grid.terms.slice(8).to_pylist()
    depths = [r["depth_rate"] for r in new if r["mechanic"] == "percent_off"]
    assert sorted(depths) == [0.15, 0.2, 0.25]  # one depth alone in a scope spans nothing
    amounts = [r["amount"] for r in new if r["mechanic"] == "amount_off"]
    assert sorted(amounts) == [4.0, 6.0]
    pairs = {(r["amount"], r["threshold"]) for r in new if r["mechanic"] == "spend_threshold"}
    assert (10.0, 75.0) not in pairs or 0.1 <= 10 / 75 <= 0.2
    for amount, threshold in pairs:
        assert 5 <= amount <= 15
        assert 50 <= threshold <= 75
        assert 0.1 - 1e-9 <= amount / threshold <= 0.2 + 1e-9
    assert (7.0, 50.0) in pairs or (6.0, 50.0) in pairs
    assert not [r for r in new if r["mechanic"] == "message"]
    assert len(set(grid.offer_ids)) == len(grid)
    assert all(r["label"] and r["contact_cost"] == 0.1 for r in new)


def test_every_candidate_is_an_executable_offer() -> None:
    offers = offer_grid(TRIED, "between").offers("USD")
    assert offers[0].describe() == "12% off everything"
    assert len(offers) == len({o.id for o in offers})


@pytest.mark.parametrize(
    ("width", "step"), [(0, 1), (0.9, 1), (1, 1), (1.1, 2), (3, 5), (40, 50), (0.03, 0.05)]
)
def test_steps_are_one_two_or_five(width: float, step: float) -> None:
    assert nice_step(width) == pytest.approx(step)


def test_bad_grids_are_refused() -> None:
    with pytest.raises(ConfigError, match="tried or between"):
        offer_grid(TRIED, "beyond")
    with pytest.raises(DataError, match="at least one"):
        offer_grid(TRIED.slice(0, 0))
    with pytest.raises(DataError, match="unique"):
        offer_grid(pa.concat_tables([TRIED, TRIED]))
    with pytest.raises(DataError, match="offer 'o0'"):
        offer_grid(terms({"mechanic": "percent_off"}))
