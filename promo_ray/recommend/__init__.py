"""What to show: popularity by window and item neighbours from co-purchases."""

from promo_ray.recommend.hit_rate import HitRate, hit_rate, split_last_order
from promo_ray.recommend.item_neighbours import ItemNeighbours, Neighbours
from promo_ray.recommend.popularity import Popular, Popularity
from promo_ray.recommend.top_items import UserHistories, top_items, user_histories

__all__ = [
    "HitRate",
    "ItemNeighbours",
    "Neighbours",
    "Popular",
    "Popularity",
    "UserHistories",
    "hit_rate",
    "split_last_order",
    "top_items",
    "user_histories",
]
