"""Lifecycle plans that come with the package; `plans.plans_of` changes any of their settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from promo_ray.config import config_class
from promo_ray.design.audience import Rule, columns_of_rules
from promo_ray.design.stand_ins import GiftOffer, ShippingOffer, TieredOffer
from promo_ray.errors import ConfigError

# what a response model predicts, and what stands in for a mechanic that it does not know
PREDICTED = ("percent_off", "amount_off", "spend_threshold", "product_bundle", "message")
STOOD_IN = {"free_shipping": "shipping", "gift": "gifts", "tiered": "tiers"}
ABOUT_ITEMS = ("affinity", "has_bought")  # columns of profiles that speak of a plan's `items`

Rate = Annotated[float, Field(ge=0, le=1)]
OpenRate = Annotated[float, Field(gt=0, lt=1)]
HoldoutRate = Annotated[float, Field(gt=0, le=0.9999)]  # kept in basis points, somebody treated


@config_class
class LifecyclePlan:
    """One plan.

    Attributes:
        audience: rules that all must hold; none = everyone.
        items: products the plan is about: of a launch, of a clearance. Rules may name the columns
            `affinity` (share of a user's spend in the categories of these) and `has_bought` (units
            of these bought).
        goal: what is to move, in plain words.
        metric: outcome of the campaign log it is measured by.
        goal_days: days in which it is measured, >= 1.
        mechanics: mechanics allowed: `PREDICTED`, and `STOOD_IN`, each with its offers below.
        shipping, gifts, tiers: offers of free_shipping, gift and tiered, see `stand_ins`.
        max_depth_rate: largest discount as a share of the order.
        min_margin_rate: margin that must be left, as a share of what is paid; None = no floor.
        max_offers: offers in the menu at most.
        max_uses: orders of one user on which an offer of the plan holds; None = no limit.
        budget: most that the plan may be expected to cost, currency units. None = `budget_rate`.
        budget_rate: of what the best single offer to all with the plan would cost, in (0, 1].
            None = as much per user as the campaign has.
        guardrails: what people must see to, in plain words; nothing enforces it.
        holdout_rate: share of the audience that gets nothing, so that the effect can be measured.
        alpha: two-sided level of the test.
        power: chance to find the minimum detectable effect.
    """

    audience: tuple[Rule, ...] = ()
    items: tuple[str, ...] = ()
    goal: str
    metric: Literal["is_visit", "is_conversion", "revenue", "margin"]
    goal_days: Annotated[int, Field(ge=1)]
    mechanics: Annotated[tuple[str, ...], Field(min_length=1)]
    shipping: tuple[ShippingOffer, ...] = ()
    gifts: tuple[GiftOffer, ...] = ()
    tiers: tuple[TieredOffer, ...] = ()
    max_depth_rate: Rate = 0.3
    min_margin_rate: Rate | None = None
    max_offers: Annotated[int, Field(ge=1, le=32)] = 2
    max_uses: Annotated[int, Field(ge=1)] | None = None
    budget: Annotated[float, Field(gt=0)] | None = None
    budget_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    guardrails: tuple[str, ...] = ()
    holdout_rate: HoldoutRate = 0.1
    alpha: OpenRate = 0.05
    power: OpenRate = 0.8

    def __post_init__(self) -> None:
        for name in self.mechanics:
            if name not in PREDICTED and name not in STOOD_IN:
                raise ConfigError(
                    f"mechanics must be of {', '.join((*PREDICTED, *STOOD_IN))}, whose effect can "
                    f"be predicted; got {name!r}"
                )
        for name, setting in STOOD_IN.items():
            if (name in self.mechanics) != bool(getattr(self, setting)):
                raise ConfigError(
                    f"{setting} must list its offers if mechanics hold {name!r}, and only then"
                )

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of profiles that the audience is told by."""
        return columns_of_rules(self.audience)


PLANS: Mapping[str, LifecyclePlan] = {
    "welcome": LifecyclePlan(
        audience=(Rule(column="frequency", below=2), Rule(column="tenure_days", below=60)),
        goal="second order within 30 days",
        metric="is_conversion",
        goal_days=30,
        mechanics=("amount_off", "spend_threshold"),
        max_uses=1,
        guardrails=("one account per person", "checked for fraud before it is sent"),
    ),
    "low_frequency": LifecyclePlan(
        audience=(Rule(column="segment", is_in=("low_frequency",)),),
        goal="orders within 90 days",
        metric="is_conversion",
        goal_days=90,
        mechanics=("spend_threshold",),
        guardrails=("a window of two weeks at most",),
    ),
    "high_frequency": LifecyclePlan(
        audience=(Rule(column="segment", is_in=("high_frequency",)),),
        goal="order value and breadth of categories",
        metric="margin",
        goal_days=28,
        mechanics=("spend_threshold", "product_bundle"),
        max_depth_rate=0.15,
    ),
    "win_back": LifecyclePlan(
        audience=(Rule(column="recency_days", above_column="gap_p90_days"),),
        goal="an order within 28 days, and margin over 90",
        metric="margin",
        goal_days=28,
        mechanics=("percent_off", "amount_off"),
        max_depth_rate=0.4,
        max_uses=1,
        guardrails=("stops after the third try",),
    ),
    "member": LifecyclePlan(
        audience=(Rule(column="attr_is_member", at_least=1),),
        goal="retention and upgrade of members",
        metric="margin",
        goal_days=90,
        mechanics=("percent_off", "product_bundle"),
        max_depth_rate=0.2,
        guardrails=("the same terms for all members of a tier",),
    ),
    "new_product": LifecyclePlan(
        audience=(Rule(column="affinity", at_least=0.5), Rule(column="has_bought", below=1)),
        goal="first order of the product, and a second one",
        metric="is_conversion",
        goal_days=28,
        mechanics=("product_bundle", "amount_off"),
        guardrails=("cap on sales taken from other products",),
    ),
    "holiday": LifecyclePlan(
        goal="margin in the season, the weeks after it included",
        metric="margin",
        goal_days=42,
        mechanics=("percent_off", "spend_threshold", "product_bundle"),
        max_offers=4,
        guardrails=("stock reserved", "no price above the lowest of the last 30 days"),
    ),
    "bundle_clearance": LifecyclePlan(
        audience=(Rule(column="affinity", at_least=0.3),),
        goal="stock sold above its salvage value",
        metric="margin",
        goal_days=28,
        mechanics=("product_bundle",),
        max_depth_rate=0.5,
        max_offers=3,
        guardrails=("no price is raised again", "salvage value as the floor"),
    ),
}
