"""The shop simulator: users, catalog, history, a randomized past campaign, and the truth.

Every draw belongs to a user's own key, so any subset of users in any order gets the same rows,
however users are sharded. `Shop` knows the exact expected effect of any offer on any user in one
closed form; `MarketSimulator` replays users day by day (stocks at home, reference prices, brand
switching) and knows the effects on common draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from promo_ray.artifacts.campaign_log import SCHEMA as LOG_SCHEMA
from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.config import config_class
from promo_ray.data.market import MarketConfig, MarketSimulator, Population
from promo_ray.data.shop_config import ShopConfig
from promo_ray.data.shop_events import events_table
from promo_ray.data.shop_market import catalog_table, market_of
from promo_ray.data.shop_response import Outcomes, TrueEffects, outcomes_of, true_effects_of
from promo_ray.data.shop_traits import Traits, traits_of, users_table
from promo_ray.seeding import uniforms

__all__ = [
    "MarketConfig",
    "MarketSimulator",
    "Outcomes",
    "Population",
    "Shop",
    "TrueEffects",
]

_SECONDS_PER_DAY = 86_400.0
# Past offers, the first ones covering every mechanic: mechanic, depth, amount and threshold as
# shares of the median basket, contact cost in currency units, weight in the campaign's draw.
_PAST: tuple[tuple[str, float | None, float | None, float | None, float, float], ...] = (
    ("percent_off", 0.20, None, None, 0.10, 1.2),
    ("spend_threshold", None, 0.18, 1.33, 0.20, 1.0),
    ("amount_off", None, 0.11, None, 0.20, 1.2),
    ("product_bundle", 0.20, None, None, 0.30, 0.8),
    ("percent_off", 0.10, None, None, 0.10, 1.2),
    ("amount_off", None, 0.22, None, 0.20, 0.8),
    ("spend_threshold", None, 0.33, 2.22, 0.20, 0.8),
    ("percent_off", 0.30, None, None, 0.10, 0.8),
    ("product_bundle", 0.35, None, None, 0.30, 0.7),
)
_MEMBER_TILT = 1.4  # members got threshold offers and bundles this much more often


@config_class
class Shop(ShopConfig):
    """A simulated shop; see `ShopConfig` for its settings.

    >>> shop = Shop(n_users=50, n_items=20, n_categories=4)
    >>> shop.events(shop.user_ids()).column_names[:3]
    ['user_id', 'item_id', 'event_type']
    """

    def user_ids(self) -> list[str]:
        """Ids of all users, sorted."""
        width = max(7, len(str(self.n_users - 1)))
        return [f"u{i:0{width}d}" for i in range(self.n_users)]

    def catalog(self) -> pa.Table:
        """Table `catalog`: items with list price and unit cost."""
        return catalog_table(self)

    def users(self, user_ids: Sequence[str]) -> pa.Table:
        """Table `users`, one row per id, in their order."""
        return users_table(self, user_ids)

    def events(self, user_ids: Sequence[str]) -> pa.Table:
        """Table `events`: the history before the campaign, sorted by user and time."""
        return events_table(self, user_ids)

    def past_offers(self) -> pa.Table:
        """Offer terms of the past campaign, a grid over the mechanics."""
        rows = [self._past_offer(i) for i in range(self.n_past_offers)]
        return pa.Table.from_pylist(rows, schema=OFFER_TERMS)

    def _past_offer(self, i: int) -> dict[str, Any]:
        mechanic, depth, amount_share, threshold_share, contact_cost, _ = _PAST[i]
        amount = None if amount_share is None else _round_money(amount_share * self.basket_median)
        threshold = (
            None if threshold_share is None else _round_money(threshold_share * self.basket_median)
        )
        words = {
            "percent_off": f"{(depth or 0) * 100:.0f} % off one order",
            "amount_off": f"{amount} {self.currency} off one order",
            "spend_threshold": f"{amount} {self.currency} off an order of {threshold} or more",
            "product_bundle": f"{(depth or 0) * 100:.0f} % off two products together",
        }
        return {
            "offer_id": f"past-{i + 1}",
            "mechanic": mechanic,
            "depth_rate": depth,
            "amount": amount,
            "threshold": threshold,
            "scope": None,
            "item_ids": self._bundle() if mechanic == "product_bundle" else None,
            "contact_cost": contact_cost,
            "label": words[mechanic],
        }

    def _bundle(self) -> list[str]:
        """The two best sellers of the category that sells most of its demand in two items."""
        market = market_of(self)
        demand = np.where(market.is_active, market.popularity, 0.0)
        best = np.lexsort((-demand, market.category))
        starts = np.searchsorted(market.category[best], np.arange(self.n_categories))
        pairs = np.stack([best[starts], best[starts + 1]], axis=1)
        top = pairs[np.argmax(demand[pairs].sum(axis=1))]
        return [market.item_ids[k] for k in top]

    def _propensities(self, traits: Traits) -> NDArray[np.float64]:
        """`(n, n_past_offers + 1)` exact probability of each arm, control first."""
        weights = np.array([p[5] for p in _PAST[: self.n_past_offers]])
        is_tilted = np.array([p[0] in ("spend_threshold", "product_bundle") for p in _PAST])
        factor = np.where(is_tilted[: self.n_past_offers], _MEMBER_TILT, 1.0)
        chosen = np.where(traits.is_member[:, None], weights * factor, weights)
        offers = (1.0 - self.control_share) * chosen / chosen.sum(axis=1, keepdims=True)
        return np.concatenate([np.full((len(offers), 1), self.control_share), offers], axis=1)

    def propensities(self, user_ids: Sequence[str]) -> NDArray[np.float64]:
        """Probability of each arm of the past campaign.

        Returns:
            `(n, n_past_offers + 1)` float64, control first; rows sum to one.
        """
        return self._propensities(traits_of(self, user_ids))

    def campaign_log(self, user_ids: Sequence[str]) -> pa.Table:
        """Table `campaign_log` of the past campaign, one row per id, in their order."""
        traits, offers = traits_of(self, user_ids), self.past_offers()
        chances = self._propensities(traits)
        u = uniforms(self.seed, "shop.arm", traits.keys)
        arm = (np.cumsum(chances[:, :-1], axis=1) < u).sum(axis=1)
        outcomes = outcomes_of(self, traits, offers)
        rows = np.arange(len(arm))
        start = np.datetime64(self.start, "us") + np.timedelta64(self.n_days, "D")
        offer_ids = [None, *offers["offer_id"].to_pylist()]
        return pa.table(
            {
                "user_id": pa.array(user_ids, pa.string()),
                "offer_id": pa.array([offer_ids[a] for a in arm], pa.string()),
                "exposed_at": pa.array(np.full(len(arm), start)).cast(
                    LOG_SCHEMA.field("exposed_at").type
                ),
                "propensity": chances[rows, arm],
                "channel": pa.array(["email"] * len(arm), pa.string()),
                "is_visit": outcomes.is_visit[rows, arm],
                "is_conversion": outcomes.is_conversion[rows, arm],
                "revenue": outcomes.revenue[rows, arm],
                "margin": outcomes.margin[rows, arm],
                "cost": outcomes.discount[rows, arm],
                "window_s": np.full(len(arm), self.window_days * _SECONDS_PER_DAY),
            },
            schema=LOG_SCHEMA,
        )

    def design(self) -> dict[str, Any]:
        """Document `design` of the campaign log."""
        return {
            "is_randomized": True,
            "outcome": "margin",
            "unit": f"{self.currency} per user in {self.window_days} days",
            "currency": self.currency,
            "control_propensity": self.control_share,
            "note": "simulated; the chances of the offers depend on attr_is_member",
        }

    def true_effects(self, user_ids: Sequence[str], offers: pa.Table) -> TrueEffects:
        """Exact expected effect of any offers, tried or not, rows in the order of `user_ids`.

        Raises:
            DataError: an offer names a mechanic, scope or item that the shop does not have.
        """
        return true_effects_of(self, traits_of(self, user_ids), offers)

    def potential_outcomes(self, user_ids: Sequence[str], offers: pa.Table) -> Outcomes:
        """Realised outcomes under control and any offers, rows in the order of `user_ids`.

        `campaign_log` holds, for each user, exactly the column of the arm that was drawn.

        Raises:
            DataError: an offer names a mechanic, scope or item that the shop does not have.
        """
        return outcomes_of(self, traits_of(self, user_ids), offers)

    def true_elasticity(self) -> NDArray[np.float64]:
        """Own-price elasticity of demand of each item of the catalog.

        Returns:
            `(n_items,)` float64, negative.
        """
        return market_of(self).elasticity.copy()


def _round_money(amount: float) -> float:
    """Whole currency units, at least one."""
    return max(float(round(amount)), 1.0)
