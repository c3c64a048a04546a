"""The market simulator, measured: speed, memory, the bump's parts, moments of Complete Journey."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from promo_ray.bench.simulator_moments import journey_moments, market_moments, redemption_market
from promo_ray.data.market.config import MarketConfig
from promo_ray.data.market.simulator import MarketSimulator

Record = dict[str, Any]


def _directory() -> Path:
    here = Path(__file__).parents[2]
    return Path(os.environ.get("PROMO_RAY_DATA", here.parent / "shared" / "data"))


def speed(quick: bool) -> Iterator[Record]:
    """Processor seconds and peak memory of one replay of a policy over history and campaign."""
    for n_users in (10_000, 30_000) if quick else (10_000, 100_000, 1_000_000):
        market = MarketSimulator(config=MarketConfig(n_users=n_users), n_shards=64)
        ids = market.user_ids()
        arm = np.arange(n_users) % (market.past_offers().num_rows + 1)
        started = time.process_time()
        result = market.replay(ids, market.past_offers(), arm)
        seconds = time.process_time() - started
        yield {
            "case": "speed", "n_users": n_users, "n_items": market.config.n_items,
            "days": market.config.horizon_days, "history_days": market.config.history_days,
            "units_sold": int(result.totals.units.sum()), "cpu_s": seconds,
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }  # fmt: skip


def bump(quick: bool) -> Iterator[Record]:
    """Parts of the promotion bump: default, without single effects, by depth."""
    n_users, n_replicates = (3_000, 2) if quick else (20_000, 4)
    cases: list[tuple[str, float, dict[str, Any]]] = [
        ("default", 0.25, {}),
        ("default", 0.15, {}),
        ("default", 0.4, {}),
        ("no_inventory", 0.25, {"inventory_strength": 0.0}),
        ("no_category_pull", 0.25, {"incidence_pull": 0.0}),
        ("no_reference", 0.25, {"reference_strength": 0.0}),
    ]
    for name, depth, change in cases:
        market = MarketSimulator(config=MarketConfig(n_users=n_users, **change))
        found = market.promotion_bump(market.user_ids(), depth=depth, n_replicates=n_replicates)
        item, period, growth = found.shares.tolist()
        yield {
            "case": "bump", "market": name, "depth": depth, "n_users": n_users,
            "n_replicates": n_replicates, "lift": found.bump / found.base, "cross_item": item,
            "cross_period": period, "growth": growth, "se": found.se.tolist(),
            "halo_units": found.halo,
        }  # fmt: skip


def net_gain(quick: bool) -> Iterator[Record]:
    """Gain of each past offer to everybody: window, horizon and what was pulled forward."""
    n_users, n_replicates = (2_000, 2) if quick else (10_000, 4)
    market = MarketSimulator(config=MarketConfig(n_users=n_users))
    offers = market.past_offers()
    for j, label in enumerate(offers["label"].to_pylist(), start=1):
        value = market.policy_value(
            market.user_ids(), offers, np.full(n_users, j), n_replicates=n_replicates
        )
        yield {
            "case": "net_gain", "offer": label, "n_users": n_users, "windows": value.windows,
            "value": value.value.tolist(), "gain": value.gain.tolist(), "se": value.se.tolist(),
            "pulled_forward": value.pulled_forward,
        }  # fmt: skip


def moments(quick: bool) -> Iterator[Record]:
    """Moments of the default market beside those of Complete Journey, same estimators."""
    directory = _directory() / "complete_journey"
    if not directory.is_dir():
        yield {"case": "moments", "skipped": f"{directory} is not there"}
        return
    real = journey_moments(directory)
    n_users = 2469 if quick else 10_000
    found = market_moments(n_users) | redemption_market(2_000 if quick else 20_000)
    for name, goal in real.items():
        yield {
            "case": "moments", "moment": name, "journey": goal, "market": found[name],
            "ratio": found[name] / goal, "is_within_10_percent": abs(found[name] / goal - 1) <= 0.1,
        }  # fmt: skip


def run(quick: bool = False) -> Iterator[Record]:
    """One record per case.

    Args:
        quick: smaller markets.
    """
    versions = {p: metadata.version(p) for p in ("numpy", "scipy")}
    for part in (bump, net_gain, moments, speed):
        for record in part(quick):
            yield {"bench": "simulator", **record, **versions, "machine": platform.machine()}
