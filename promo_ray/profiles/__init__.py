"""Methods that describe users, one per file: RFM, k-means, PCA, price sensitivity, lifecycle."""

from promo_ray.profiles.features import Features, FeatureSpec, feature_matrix
from promo_ray.profiles.kmeans import KMeans, Points, predict
from promo_ray.profiles.lifecycle import SEGMENTS, Lifecycle, segments
from promo_ray.profiles.moments import Moments, standardize
from promo_ray.profiles.pca import Pca
from promo_ray.profiles.price_sensitivity import PriceSensitivity, price_sensitivity
from promo_ray.profiles.rfm import Rfm, quintile, quintiles
from promo_ray.profiles.user_table import user_table

__all__ = [
    "SEGMENTS",
    "FeatureSpec",
    "Features",
    "KMeans",
    "Lifecycle",
    "Moments",
    "Pca",
    "Points",
    "PriceSensitivity",
    "Rfm",
    "feature_matrix",
    "predict",
    "price_sensitivity",
    "quintile",
    "quintiles",
    "segments",
    "standardize",
    "user_table",
]
