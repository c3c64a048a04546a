"""The day-by-day market: households that stock up, remember prices and switch brands."""

from promo_ray.data.market.config import MarketConfig
from promo_ray.data.market.households import Population
from promo_ray.data.market.simulator import MarketSimulator

__all__ = ["MarketConfig", "MarketSimulator", "Population"]
