"""Settings of the day-by-day market: sizes, behavior of households, strength of every effect.

Every strength can be set to zero alone, so that a method can be tested on one effect. The defaults
are calibrated: moments to Complete Journey, promotion bump to thirds (see docs/simulator.md).
"""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import Field

from promo_ray.config import config_class
from promo_ray.errors import ConfigError

Rate = Annotated[float, Field(ge=0.0, le=1.0)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Strength = Annotated[float, Field(ge=0.0, le=10.0)]
Positive = Annotated[float, Field(gt=0.0, le=1000.0)]


@config_class
class MarketConfig:
    """Settings of a simulated market; items are numbered category by category.

    Attributes:
        n_users: households, >= 1.
        n_categories: categories, in [1, 1000].
        items_per_category: substitutes in each category, in [2, 100].
        history_days: days before the campaign, in [1, 3650]; they settle stocks and references.
        horizon_days: days simulated from the start of the campaign, in [1, 3650].
        window_days: life of an offer and short outcome window, in [1, horizon_days].
        seed: seed of every draw, >= 0.
        start: ISO date of the first day of the campaign.
        currency: ISO 4217 code of all money.
        visits_per_week: visits of the median household in a week.
        visit_spread: standard deviation of the log visit rate over households.
        basket_lines: categories bought on a visit by the median household at list prices.
        basket_spread: standard deviation of a household's logit of buying any category.
        trip_spread: the same over the visits of a household.
        category_spread: the same over categories of a household.
        brand_spread: standard deviation of a household's utility of a brand.
        extra_units: units of a line beyond the first at list price.
        weekday_strength: log visit rate by weekday, 1 = as in Complete Journey.
        season_strength: amplitude of the yearly wave of the log visit rate.
        payday_strength: log lift of the visit rate on the three days from each payday.
        recency_strength: log loss of the visit rate right after a visit.
        sensitivity: median price coefficient of the log price in the utility of an item.
        sensitivity_spread: standard deviation of its log over households.
        promotion_share: chance that an item is on promotion in a week.
        incidence_pull: how far a category's inclusive value raises the logit of buying there.
        quantity_pull: how far the felt price gain raises the log of the extra units.
        halo_strength: how far a category's inclusive value raises the partner category.
        reference_strength: weight of the felt price against the reference price.
        loss_aversion: additional weight of a price above the reference.
        reference_memory: weight of the old reference price at a purchase.
        saturation: how fast the felt depth saturates; 0 = felt in full.
        perception_floor: depth below which a reduction is not felt.
        ending_strength: share of the cents of a price that is not felt.
        inventory_strength: logit loss of buying per usual stock at home.
        flexible_consumption: how much faster a doubled stock is used up.
        cover_days: consumption in the usual stock at home, days.
        lift_strength: log lift of the visit rate at a full saving, for a fully deal-prone user.
        reminder_strength: log lift of the visit rate of users whom a contact reaches, while its
            window lasts, whatever the offer.
        expiry_strength: additional log lift of the visit rate on the last day of an offer.
        deal_spread: how different users are in deal-proneness.
        redeem_rate: median chance that a contact makes the user use the offer.
        maker_coupon_rate: median chance that a line carries a maker's coupon, which the maker pays;
            it changes what is paid and remembered, not the choice.
        dog_share: share of sleeping dogs, users whom contact drives away.
        dog_strength: log loss of their visit rate after contact; it halves in 30 days.
        fatigue_strength: log loss of all users' visit rate per contact beyond the first.
        pull_rate: chance that a basket near a threshold is raised to it.
        lag_days: scale of the Weibull lag from order to booking, days; 0 = at once.
        lag_shape: shape of that lag; 1 = geometric.
        return_rate: share of purchase lines that come back.
        return_days: mean days until they do.
        referral_strength: log lift of the visit rate if all friends are contacted.
        n_friends: friends of a user, in [1, 50].
        stock_tightness: usual demand over the shared stock of an item; 0 = without limit.
        discount_budget: what offers may give away to all users together, currency units per user;
            once a day ends beyond it no offer is redeemed anymore; 0 = without limit.
        covariate_weight: share of the variance of traits that a real population explains.
        control_share: probability of getting no offer.
        tilt_strength: how far the chances of offers depend on known activity.
        confounding: how far they depend on a hidden trait without the log knowing.
        drift_strength: how far they move from wave to wave of the campaign.
        n_waves: waves of the campaign, one week apart; a user is in one of them.
        missing_rate: share of the log's propensities lost.
        loss_rate: share of the offered users lost from the log (sample ratio mismatch).
    """

    n_users: Annotated[int, Field(ge=1)] = 10_000
    n_categories: Annotated[int, Field(ge=1, le=1000)] = 40
    items_per_category: Annotated[int, Field(ge=2, le=100)] = 5
    history_days: Annotated[int, Field(ge=1, le=3650)] = 56
    horizon_days: Annotated[int, Field(ge=1, le=3650)] = 90
    window_days: Annotated[int, Field(ge=1, le=3650)] = 28
    seed: Annotated[int, Field(ge=0)] = 0
    start: str = "2026-03-02"
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "USD"
    visits_per_week: Positive = 1.4
    visit_spread: Strength = 1.0
    basket_lines: Positive = 4.5
    basket_spread: Strength = 0.7
    trip_spread: Strength = 2.7
    category_spread: Strength = 0.7
    brand_spread: Strength = 0.7
    extra_units: Positive = 0.25
    weekday_strength: Strength = 1.0
    season_strength: Strength = 0.05
    payday_strength: Strength = 0.1
    recency_strength: Strength = 0.4
    sensitivity: Strength = 1.7
    sensitivity_spread: Strength = 0.4
    promotion_share: Share = 0.25
    incidence_pull: Rate = 1.0
    quantity_pull: Strength = 1.35
    halo_strength: Strength = 0.1
    reference_strength: Strength = 0.3
    loss_aversion: Strength = 1.0
    reference_memory: Rate = 0.8
    saturation: Strength = 1.0
    perception_floor: Rate = 0.05
    ending_strength: Rate = 0.1
    inventory_strength: Strength = 0.8
    flexible_consumption: Strength = 0.3
    cover_days: Positive = 14.0
    lift_strength: Strength = 1.5
    reminder_strength: Strength = 0.15
    expiry_strength: Strength = 0.3
    deal_spread: Strength = 1.0
    redeem_rate: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.135
    maker_coupon_rate: Share = 0.011
    dog_share: Share = 0.1
    dog_strength: Strength = 0.3
    fatigue_strength: Strength = 0.03
    pull_rate: Rate = 0.5
    lag_days: Annotated[float, Field(ge=0.0, le=365.0)] = 0.0
    lag_shape: Positive = 1.0
    return_rate: Rate = 0.02
    return_days: Positive = 10.0
    referral_strength: Strength = 0.0
    n_friends: Annotated[int, Field(ge=1, le=50)] = 5
    stock_tightness: Strength = 0.0
    discount_budget: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    covariate_weight: Rate = 0.5
    control_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    tilt_strength: Strength = 0.3
    confounding: Strength = 0.0
    drift_strength: Strength = 0.0
    n_waves: Annotated[int, Field(ge=1, le=52)] = 1
    missing_rate: Rate = 0.0
    loss_rate: Rate = 0.0

    def __post_init__(self) -> None:
        if self.window_days > self.horizon_days:
            raise ConfigError(
                f"window_days must be <= horizon_days = {self.horizon_days}; got {self.window_days}"
            )
        if 7 * (self.n_waves - 1) + self.window_days > self.horizon_days:
            raise ConfigError(
                "the last wave's window must end within horizon_days; "
                f"got {self.n_waves} waves, {self.window_days} and {self.horizon_days} days"
            )
        try:
            date.fromisoformat(self.start)
        except ValueError as error:
            raise ConfigError(f"start must be an ISO date; got {self.start!r}") from error

    @property
    def n_items(self) -> int:
        """Items of the catalog."""
        return self.n_categories * self.items_per_category
