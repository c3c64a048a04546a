"""Moments of a grocer's lines, by one estimator for Complete Journey and the simulated market.

Complete Journey is a 5.1 % sample of lines, so the market's lines are thinned alike. The price
elasticity is that of the chance of a line: zero-truncated Poisson counts of lines by item and week
with item effects, since a price is known only where something was sold; median over categories.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from promo_ray.data.dataset import offer_terms
from promo_ray.data.market.config import MarketConfig
from promo_ray.data.market.events import purchases_of
from promo_ray.data.market.simulator import MarketSimulator
from promo_ray.data.market.supply import supply_of
from promo_ray.seeding import stream

Floats = NDArray[np.float64]

_SAMPLED = 0.051
_DAYS = 289  # of Complete Journey's weeks 1-42
_WINDOW_DAYS = 40  # a campaign of Complete Journey runs 32 to 62 days
# What stands for a type's coupons: number of items, rank of the first by demand of its category.
_TYPES = {"Type A": (16, 0), "Type B": (1, 21), "Type C": (1, 37)}
_MIN_LINES = 100  # of a category, for a slope
_MIN_ITEM = 5  # lines and weeks of an item


def _truncated_poisson_slope(item: NDArray[np.int64], n: Floats, x: Floats) -> float:
    """Slope of log counts in `x` with item effects, counts known where >= 1; profile likelihood."""
    total = np.bincount(item, n)

    def loss(slope: float) -> float:
        level = np.log(total / np.bincount(item, np.exp(slope * x)))
        for _ in range(60):
            rate = np.exp(np.clip(level[item] + slope * x, -12.0, 8.0))
            mean = rate / -np.expm1(-rate)
            gap = total - np.bincount(item, mean)
            move = np.clip(
                gap / np.maximum(np.bincount(item, mean * (1 + rate - mean)), 1e-9), -1, 1
            )
            level = np.clip(level + move, -10.0, 8.0)
            if np.abs(move).max() < 1e-6:
                break
        rate = np.exp(np.clip(level[item] + slope * x, -12.0, 8.0))
        return -float((n * np.log(rate) - rate - np.log(-np.expm1(-rate))).sum())

    best = minimize_scalar(loss, bounds=(-8.0, 3.0), method="bounded", options={"xatol": 0.005})
    return float(best.x)


def median_elasticity(lines: pl.DataFrame) -> float:
    """Median slope over categories.

    Args:
        lines: columns category, item, day (days since the epoch), price (paid per unit).
    """
    lines = lines.with_columns(week=(pl.col("day") + 3) // 7)  # from Monday
    cells = lines.group_by("category", "item", "week").agg(n=pl.len(), p=pl.col("price").mean())
    items = (
        cells.group_by("item")
        .agg(lines=pl.col("n").sum(), weeks=pl.len(), sd=pl.col("p").log().std())
        .filter((pl.col("lines") >= _MIN_ITEM) & (pl.col("weeks") >= 5) & (pl.col("sd") > 0.02))
    )
    x = pl.col("p").log() - pl.col("p").log().mean().over("item")
    cells = cells.join(items, on="item").with_columns(x=x).sort("category", "item", "week")
    slopes = []
    for _, part in cells.group_by("category", maintain_order=True):
        if part["n"].sum() >= _MIN_LINES and float(part["x"].std() or 0.0) >= 0.05:  # type: ignore[arg-type]
            item = part["item"].rank("dense").to_numpy().astype(np.int64) - 1
            count = part["n"].to_numpy().astype(np.float64)
            slopes.append(_truncated_poisson_slope(item, count, part["x"].to_numpy()))
    return float(np.median(slopes))


def line_moments(lines: pl.DataFrame) -> dict[str, float]:
    """Moments of sampled lines.

    Args:
        lines: columns user, day (days since the epoch), units, has_coupon.
    """
    visits = lines.select("user", "day").unique().sort("user", "day")
    gaps = visits.select(pl.col("day").diff().over("user").alias("gap")).drop_nulls()["gap"]
    weekday = (lines["day"].to_numpy() + 3) % 7  # 0 = Monday; the epoch was a Thursday
    by_day = np.bincount(weekday, minlength=7) / lines.height
    names = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    return {
        "days_between_visits": float(gaps.mean()),  # type: ignore[arg-type]
        "lines_per_basket": lines.height / visits.height,
        "units_per_line": float(lines["units"].clip(upper_bound=20).mean()),  # type: ignore[arg-type]
        "lines_per_household": lines.height / lines["user"].n_unique(),
        "coupon_line_share": float(lines["has_coupon"].mean()),  # type: ignore[arg-type]
        **{f"share_of_{name}": float(s) for name, s in zip(names, by_day, strict=True)},
    }


def journey_moments(directory: Path) -> dict[str, float]:
    """Moments of Complete Journey, and its redemption rates by type of campaign."""
    read = {
        name: pl.read_parquet(directory / f"{name}.parquet")
        for name in (
            "transactions_sample", "products", "campaigns", "campaign_descriptions",
            "coupon_redemptions",
        )
    }  # fmt: skip
    products = read["products"].with_columns(pl.selectors.categorical().cast(pl.String))
    kinds = products.select("product_id", "department", "product_type", "product_category")
    is_fuel = pl.col("product_type").fill_null("").str.contains("GASOLINE")
    lines = (
        read["transactions_sample"]
        .join(kinds, on="product_id", how="left")
        .filter(~pl.col("department").is_in(["FUEL", "COUPON"]) & ~is_fuel)
        .filter((pl.col("quantity") > 0) & (pl.col("sales_value") > 0))
        .select(
            user="household_id",
            day=pl.col("transaction_timestamp").dt.epoch("d"),
            category="product_category",
            item="product_id",
            units="quantity",
            price=(pl.col("sales_value") + pl.col("coupon_match_disc")) / pl.col("quantity"),
            has_coupon=pl.col("coupon_disc") > 0,
        )
    )
    mailed = read["campaigns"].join(read["campaign_descriptions"], on="campaign_id")
    used = read["coupon_redemptions"].select("household_id", "campaign_id").unique()
    rates = (
        mailed.with_columns(pl.col("campaign_type").cast(pl.String))
        .join(used.with_columns(used=1.0), on=["household_id", "campaign_id"], how="left")
        .group_by("campaign_type")
        .agg(pl.col("used").fill_null(0.0).mean())
    )
    found = line_moments(lines) | {"median_elasticity": median_elasticity(lines)}
    return found | {f"redemption_{t}": float(r) for t, r in rates.iter_rows()}


def market_moments(n_users: int) -> dict[str, float]:
    """Moments of the default market's lines, thinned like Complete Journey's."""
    config = MarketConfig(  # 2 January 2017, the first day, is a Monday as with promotion weeks
        n_users=n_users, history_days=200, horizon_days=_DAYS - 200, start="2017-07-21"
    )
    market = MarketSimulator(config=config)
    rows = purchases_of(market.world(), market.user_ids(), np.zeros(n_users, np.int64), None)
    epoch = int(np.datetime64(config.start, "D").astype(np.int64))
    is_seen = stream(0, "bench.simulator.thin").random(len(rows["user"])) < _SAMPLED
    lines = pl.DataFrame({k: rows[k] for k in ("user", "day", "item", "units", "paid", "maker")})
    seen = lines.filter(pl.Series(is_seen)).select(
        "user",
        "item",
        "units",
        day=pl.col("day") + epoch,
        category=pl.col("item") // config.items_per_category,
        # Complete Journey's price is before a maker's coupon
        price=(pl.col("paid") + pl.col("maker")) / pl.col("units"),
        has_coupon=pl.col("maker") > 0,
    )
    return line_moments(seen) | {"median_elasticity": median_elasticity(seen)}


def redemption_market(n_users: int) -> dict[str, float]:
    """Share of contacted users who redeem, by the offer that stands for a type of campaign."""
    config = MarketConfig(n_users=n_users, window_days=_WINDOW_DAYS)
    market, supply = MarketSimulator(config=config), supply_of(config)
    size = config.items_per_category
    by_demand = np.argsort(-supply.demand, kind="stable")
    rates = {}
    for kind, (n_items, first) in _TYPES.items():
        step = max(config.n_categories // n_items, 1)
        items = [supply.item_ids[c * size] for c in by_demand[first::step][:n_items]]
        offers = offer_terms(
            [
                {
                    "offer_id": kind, "mechanic": "percent_off", "depth_rate": 0.25,
                    "item_ids": items, "contact_cost": 0.5, "label": kind,
                }
            ]
        )  # fmt: skip
        result = market.replay(
            market.user_ids(), offers, np.ones(n_users, np.int64), windows=(_WINDOW_DAYS,)
        )
        rates[f"redemption_{kind}"] = float((result.actual.discount[:, 0] > 0).mean())
    return rates
