"""Lifecycle plans that come with the package; `plans.plans_of` changes any of their settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field

from promo_ray.config import config_class
from promo_ray.errors import ConfigError
from promo_ray.offers.offer import MECHANICS
from promo_ray.registry import methods

Rate = Annotated[float, Field(ge=0, le=1)]
OpenRate = Annotated[float, Field(gt=0, lt=1)]


@config_class
class Rule:
    """Users by one column of their profiles; all conditions given must hold, NaN meets none.

    Attributes:
        column: name of the column.
        at_least: smallest value.
        below: values are smaller than this.
        above_column: name of a column whose value is exceeded.
        is_in: texts of which the value is one.
    """

    column: str
    at_least: float | None = None
    below: float | None = None
    above_column: str | None = None
    is_in: tuple[str, ...] = ()


@config_class
class LifecyclePlan:
    """One plan.

    Attributes:
        audience: rules that all must hold; none = everyone.
        goal: what is to move, in plain words.
        metric: column of the outcome it is measured by.
        goal_days: days in which it is measured, >= 1.
        mechanics: mechanics allowed, of those of the table of offer terms.
        max_depth_rate: largest discount as a share of the order.
        min_margin_rate: margin that must be left, as a share of what is paid; None = no floor.
        max_offers: offers in the menu at most.
        guardrails: what else must be kept, in plain words.
        holdout_rate: share of the audience that gets nothing, so that the effect can be measured.
        alpha: two-sided level of the test.
        power: chance to find the minimum detectable effect.
    """

    audience: tuple[Rule, ...] = ()
    goal: str
    metric: str
    goal_days: Annotated[int, Field(ge=1)]
    mechanics: Annotated[tuple[str, ...], Field(min_length=1)]
    max_depth_rate: Rate = 0.3
    min_margin_rate: Rate | None = None
    max_offers: Annotated[int, Field(ge=1, le=32)] = 2
    guardrails: tuple[str, ...] = ()
    holdout_rate: OpenRate = 0.1
    alpha: OpenRate = 0.05
    power: OpenRate = 0.8

    def __post_init__(self) -> None:
        kinds: Iterable[Any] = methods(MECHANICS).values()
        known = sorted(kind.terms_name for kind in kinds if kind.terms_name)
        for name in self.mechanics:
            if name not in known:
                raise ConfigError(f"mechanics must be of {', '.join(known)}; got {name!r}")


PLANS: Mapping[str, LifecyclePlan] = {
    "welcome": LifecyclePlan(
        audience=(Rule(column="frequency", below=2), Rule(column="tenure_days", below=60)),
        goal="second order within 30 days",
        metric="is_conversion",
        goal_days=30,
        mechanics=("amount_off", "spend_threshold"),
        guardrails=("once per person", "checked for fraud before it is sent"),
    ),
    "low_frequency": LifecyclePlan(
        audience=(Rule(column="segment", is_in=("low_frequency",)),),
        goal="orders within 90 days",
        metric="orders",
        goal_days=90,
        mechanics=("spend_threshold",),
        guardrails=("margin floor", "a window of two weeks at most"),
    ),
    "high_frequency": LifecyclePlan(
        audience=(Rule(column="segment", is_in=("high_frequency",)),),
        goal="order value and breadth of categories",
        metric="margin",
        goal_days=28,
        mechanics=("spend_threshold", "product_bundle"),
        max_depth_rate=0.15,
        guardrails=("nobody whose predicted uplift is negative",),
    ),
    "win_back": LifecyclePlan(
        audience=(Rule(column="recency_days", above_column="gap_p90_days"),),
        goal="an order within 28 days, and margin over 90",
        metric="margin",
        goal_days=28,
        mechanics=("percent_off", "amount_off"),
        max_depth_rate=0.4,
        guardrails=("stops after the third try", "sleeping dogs left out"),
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
