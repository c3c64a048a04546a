"""The market's campaign: past offers, exact chances of each arm, the log, and faults to inject."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import expit, logit, softmax

from promo_ray.artifacts.campaign_log import SCHEMA
from promo_ray.artifacts.users import USERS
from promo_ray.data.dataset import offer_terms
from promo_ray.data.market.config import MarketConfig
from promo_ray.data.market.households import Households, Population
from promo_ray.data.market.replay import Accounts
from promo_ray.data.market.supply import supply_of
from promo_ray.seeding import uniforms

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_DAY_S = 86_400.0


def past_offers_of(config: MarketConfig) -> pa.Table:
    """Offer terms of the campaign: one or two offers per mechanic, sized by the usual basket."""
    supply = supply_of(config)
    usual = supply.usual_cents / 100.0
    top = supply.categories[int(np.argmax(supply.demand))]
    first = int(np.argmax(supply.demand)) * config.items_per_category
    rows: list[dict[str, Any]] = [
        {"mechanic": "percent_off", "depth_rate": 0.10, "label": "10 % off one order"},
        {"mechanic": "percent_off", "depth_rate": 0.25, "label": "25 % off one order"},
        {"mechanic": "percent_off", "depth_rate": 0.30, "scope": top, "label": f"30 % off {top}"},
        {"mechanic": "amount_off", "amount": round(0.15 * usual, 2), "label": "money off"},
        {
            "mechanic": "spend_threshold",
            "amount": round(0.2 * usual, 2),
            "threshold": round(1.5 * usual, 2),
            "label": "money off a large basket",
        },
        {
            "mechanic": "product_bundle",
            "depth_rate": 0.25,
            "item_ids": list(supply.item_ids[first :: config.items_per_category][:2]),
            "label": "25 % off two items together",
        },
        {"mechanic": "message", "label": "a reminder"},
    ]
    if config.n_categories < 2 or len(rows[5]["item_ids"]) < 2:
        del rows[5]
    return offer_terms(
        {"offer_id": f"past-{i}", "contact_cost": 0.05, **row} for i, row in enumerate(rows, 1)
    )


def chances_of(config: MarketConfig, homes: Households, n_arms: int, *, is_claim: bool) -> Floats:
    """Probability of each arm.

    Args:
        config: settings.
        homes: traits of `n` users.
        n_arms: offers and control.
        is_claim: what the log claims, which knows nothing of the hidden trait; else what is true.

    Returns:
        `(n, n_arms)` float64, control first; rows sum to one.
    """
    loyalty, hidden = homes.factors[:, 4], homes.factors[:, 0]
    lean = np.linspace(-1.0, 1.0, n_arms - 1)
    score = config.tilt_strength * np.clip(loyalty, -2.0, 2.0)[:, None] * lean
    phase = np.arange(n_arms - 1) / (n_arms - 1) + homes.wave[:, None] / config.n_waves
    score = score + config.drift_strength * np.cos(2.0 * np.pi * phase)
    offered = np.full(len(hidden), logit(1.0 - config.control_share))
    if not is_claim:
        offered = offered + config.confounding * np.clip(hidden, -2.0, 2.0)
    share = expit(offered)[:, None]
    return np.concatenate([1.0 - share, share * softmax(score, axis=1)], axis=1)


def arms_of(config: MarketConfig, homes: Households, chances: Floats) -> Ints:
    """`(n,)` arm drawn for each user by its own key."""
    u = uniforms(config.seed, "market.arm", homes.keys)
    return np.asarray((np.cumsum(chances[:, :-1], axis=1) < u).sum(axis=1))


def log_of(
    config: MarketConfig,
    user_ids: Sequence[str],
    homes: Households,
    offers: pa.Table,
    arm: Ints,
    observed: Accounts,
) -> pa.Table:
    """Table `campaign_log`, faults injected.

    Args:
        config: settings.
        user_ids: users.
        homes: their traits.
        offers: offer terms.
        arm: `(n,)` arm of each user.
        observed: what the books show at the end of the window, one window.
    """
    rows = np.arange(len(arm))
    claim = chances_of(config, homes, offers.num_rows + 1, is_claim=True)[rows, arm]
    u = uniforms(config.seed, "market.faults", homes.keys, 2)
    start = np.datetime64(config.start, "us")
    exposed = start + (7 * homes.wave).astype("timedelta64[D]").astype("timedelta64[us]")
    names = [None, *offers["offer_id"].to_pylist()]
    log = pa.table(
        {
            "user_id": pa.array(user_ids, pa.string()),
            "offer_id": pa.array([names[a] for a in arm], pa.string()),
            "exposed_at": pa.array(exposed).cast(SCHEMA.field("exposed_at").type),
            "propensity": pa.array(claim, mask=u[:, 0] < config.missing_rate),
            "channel": pa.array(["email"] * len(arm), pa.string()),
            "is_visit": observed.visits[:, 0] > 0,
            "is_conversion": observed.orders[:, 0] > 0,
            "revenue": observed.revenue[:, 0] / 100.0,
            "margin": observed.margin[:, 0] / 100.0,
            "cost": observed.discount[:, 0] / 100.0,
            "window_s": np.full(len(arm), config.window_days * _DAY_S),
        },
        schema=SCHEMA,
    )
    is_lost = (arm > 0) & (u[:, 1] < config.loss_rate)
    return log.filter(pa.array(~is_lost))


def design_of(config: MarketConfig) -> dict[str, Any]:
    """Document `design` of the campaign log."""
    return {
        "is_randomized": config.confounding == 0.0,
        "outcome": "margin",
        "unit": f"{config.currency} per user in {config.window_days} days",
        "currency": config.currency,
        "control_propensity": config.control_share if config.confounding == 0.0 else None,
        "note": "simulated by day; the chances of the offers depend on attr_loyalty and wave",
    }


def users_of(
    config: MarketConfig,
    user_ids: Sequence[str],
    homes: Households,
    history: Ints,
    population: Population | None,
) -> pa.Table:
    """Table `users`: what the shop knows before the campaign.

    Args:
        config: settings.
        user_ids: users.
        homes: their traits.
        history: `(3, n)` orders, revenue in cents and units of the history.
        population: real users, whose columns come along.
    """
    orders, revenue, units = history.astype(np.float64)
    columns: dict[str, Any] = {
        "user_id": pa.array(user_ids, pa.string()),
        "is_consenting": pa.array(np.ones(len(orders), dtype=bool)),
        "attr_loyalty": homes.factors[:, 4],
        "attr_orders": orders,
        "attr_revenue": revenue / 100.0,
        "attr_units": units,
    }
    if population is not None:
        real = pl.DataFrame(population.table)[population.rows(config.seed, homes.keys)]
        for name in real.columns:
            if name not in columns:
                plain = name.startswith(("attr_", "protected_"))
                columns[name if plain else f"attr_{name}"] = real[name].to_arrow()
    return USERS.tables["users"].conform(pa.table(columns), "users")
