"""Settings of the simulated shop: sizes, behavior of users, strength of every effect.

Strengths can be set to zero one at a time, so that a method can be tested on one effect alone.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import Field

from promo_ray.config import config_class
from promo_ray.errors import ConfigError

Rate = Annotated[float, Field(ge=0.0, le=1.0)]
Strength = Annotated[float, Field(ge=0.0, le=10.0)]


@config_class
class ShopConfig:
    """Settings of a simulated shop.

    Attributes:
        n_users: users of the shop, >= 1.
        n_items: items of the catalog, in [2, 100000].
        n_categories: category paths, in [1, n_items / 2].
        n_days: days of history before the campaign, in [14, 3650].
        window_days: days of the outcome window after the campaign's contact, in [1, 365].
        control_share: probability of getting no offer in the past campaign, in (0, 1).
        n_past_offers: offers of the past campaign, in [1, 9].
        seed: seed of every draw, >= 0.
        start: ISO date of the first day of the history.
        currency: ISO 4217 code of all money.
        orders_per_28_days: mean orders of an active user in 28 days, in (0, 60].
        basket_median: median order value over users, currency units, in [1, 10000].
        promotion_share: probability that an item is on promotion in a week, in [0, 0.8].
        promotion_tilt: how far deal-proneness moves the demand for promoted items, in [0, 1].
        return_rate: share of purchase lines that come back, in [0, 1].
        member_share: mean share of members of the loyalty programme, in (0, 1).
        new_share: share of users who joined during the history, in [0, 1].
        lapse_share: share of users who stopped ordering during the history, in [0, 1].
        dog_share: share of sleeping dogs, users whom contact hurts, in [0, 1).
        dog_strength: mean log loss of their order rate after contact, in [0, 10].
        background_aversion: log loss of everybody else's order rate after contact, in [0, 10].
        lift_strength: log lift of the order rate of a fully deal-prone user who hardly orders, at
            full depth, in [0, 10].
        lapse_boost: how many times stronger the lift is for lapsing users, less one, in [0, 10].
        perception_floor: saving, as a share of the basket, below which none is seen, in [0, 1].
        depth_scale: saving, as a share of the basket, over which the lift saturates, in (0, 1].
        pull_rate: probability that an order just below a threshold is raised to it, in [0, 1].
    """

    n_users: Annotated[int, Field(ge=1)] = 10_000
    n_items: Annotated[int, Field(ge=2, le=100_000)] = 200
    n_categories: Annotated[int, Field(ge=1)] = 10
    n_days: Annotated[int, Field(ge=14, le=3650)] = 182
    window_days: Annotated[int, Field(ge=1, le=365)] = 28
    control_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    n_past_offers: Annotated[int, Field(ge=1, le=9)] = 9
    seed: Annotated[int, Field(ge=0)] = 0
    start: str = "2026-01-05"
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "USD"
    orders_per_28_days: Annotated[float, Field(gt=0.0, le=60.0)] = 2.0
    basket_median: Annotated[float, Field(ge=1.0, le=10_000.0)] = 45.0
    promotion_share: Annotated[float, Field(ge=0.0, le=0.8)] = 0.22
    promotion_tilt: Rate = 0.9
    return_rate: Rate = 0.02
    member_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    new_share: Rate = 0.2
    lapse_share: Rate = 0.25
    dog_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.12
    dog_strength: Strength = 0.7
    background_aversion: Strength = 0.04
    lift_strength: Strength = 2.2
    lapse_boost: Strength = 0.5
    perception_floor: Rate = 0.02
    depth_scale: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    pull_rate: Rate = 0.6

    def __post_init__(self) -> None:
        if 2 * self.n_categories > self.n_items:
            raise ConfigError(
                f"n_categories must be <= n_items / 2 = {self.n_items // 2}; "
                f"got {self.n_categories}"
            )
        try:
            date.fromisoformat(self.start)
        except ValueError as error:
            raise ConfigError(f"start must be an ISO date; got {self.start!r}") from error

    @property
    def n_weeks(self) -> int:
        """Weeks of history, a broken last week counted."""
        return -(-self.n_days // 7)
