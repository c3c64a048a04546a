"""Hyperparameters of the demand model; what the search of `pricing.tuning` varies."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from promo_ray.config import config_class

WeekEffect = Literal["none", "week", "category_week"]


@config_class
class PricingParams:
    """How elasticities are fitted and sales levels followed.

    Attributes:
        week_effect: what moves demand in a week and must not be read as an effect of price:
            `none`; the shop's `week`, measured on items of other categories; `category_week`,
            measured on the other items of the category, for seasons of its own. The last one
            counts sales that a promotion takes from its category twice: use it only where items
            of a category do not replace each other.
        week_prior_units: units of no evidence added to a week effect, > 0; pulls effects that rest
            on few sales to none.
        memory_half_life_weeks: age at which a week counts half in elasticities, > 0.
        level_half_life_weeks: age at which a week counts half in an item's sales level, > 0.
        pooling_strength: factor on sampling variances in partial pooling, >= 0; 1 is the
            empirical Bayes answer, 0 leaves every item alone.
    """

    week_effect: WeekEffect = "week"
    week_prior_units: Annotated[float, Field(gt=0)] = 20.0
    memory_half_life_weeks: Annotated[float, Field(gt=0)] = 104.0
    level_half_life_weeks: Annotated[float, Field(gt=0)] = 8.0
    pooling_strength: Annotated[float, Field(ge=0)] = 1.0
