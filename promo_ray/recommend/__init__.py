"""What to show: popularity by window and item neighbors from co-purchases."""

from promo_ray.recommend.hit_rate import HitRate, hit_rate, split_last_order
from promo_ray.recommend.item_neighbors import ItemNeighbors, Neighbors
from promo_ray.recommend.popularity import Popular, Popularity
from promo_ray.recommend.top_items import UserHistories, top_items, user_histories

__all__ = [
    "HitRate",
    "ItemNeighbors",
    "Neighbors",
    "Popular",
    "Popularity",
    "UserHistories",
    "hit_rate",
    "split_last_order",
    "top_items",
    "user_histories",
]
