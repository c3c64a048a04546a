"""The default market has the moments of Complete Journey, measured by the same estimators."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from promo_ray.bench.simulator_moments import (
    journey_moments,
    line_moments,
    market_moments,
    median_elasticity,
    redemption_market,
)
from promo_ray.data.market.config import MarketConfig
from promo_ray.data.market.simulator import MarketSimulator

DATA = Path(os.environ.get("PROMO_RAY_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.mark.slow
def test_moments_lie_within_a_tenth_of_the_real_ones() -> None:
    directory = DATA / "complete_journey"
    if not directory.is_dir():
        pytest.skip(f"{directory} is not there")
    real = journey_moments(directory)
    found = market_moments(5000) | redemption_market(10_000)
    assert {k: v for k, v in real.items() if abs(found[k] / v - 1.0) > 0.1} == {}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_the_bump_is_thirds_under_other_seeds(seed: int) -> None:
    market = MarketSimulator(config=MarketConfig(n_users=8000, seed=seed))
    found = market.promotion_bump(market.user_ids(), n_replicates=4)
    assert found.shares == pytest.approx([1 / 3] * 3, abs=0.1)


def test_moments_of_lines_written_by_hand() -> None:
    lines = pl.DataFrame(
        {
            "user": [1, 1, 1, 2],
            "day": [4, 4, 7, 4],  # 5 January 1970 was a Monday
            "units": [1, 2, 1, 4],
            "has_coupon": [False, True, False, False],
        }
    )
    found = line_moments(lines)
    assert found["days_between_visits"] == 3.0
    assert found["lines_per_basket"] == pytest.approx(4 / 3)
    assert found["units_per_line"] == 2.0
    assert found["coupon_line_share"] == 0.25
    assert found["share_of_monday"] == 0.75
    assert found["share_of_thursday"] == 0.25


def test_the_elasticity_is_found_though_unsold_weeks_have_no_price() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for item in range(60):
        for week in range(40):
            price = rng.choice([1.0, 0.8, 0.6])
            n = int(rng.poisson(0.8 * price**-2.0))
            rows += [{"category": item // 30, "item": item, "day": 7 * week, "price": price}] * n
    assert median_elasticity(pl.DataFrame(rows)) == pytest.approx(-2.0, abs=0.25)
