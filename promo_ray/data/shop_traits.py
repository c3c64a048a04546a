"""Latent traits of the users of the simulated shop, each drawn from the user's own key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr, ndtri, softmax

from promo_ray.data.shop_config import ShopConfig
from promo_ray.data.shop_market import N_BRANDS, market_of
from promo_ray.seeding import keys_of, normals, uniforms

Floats = NDArray[np.float64]

_LAPSE_MEMORY_DAYS = 120.0  # a user who stopped longer ago is ever harder to win back
_SATISFIED_ORDERS = 3.0  # orders per window at which an offer moves a user half as much
_AGE_BANDS = ("18-29", "30-44", "45-59", "60+")
_ACQUISITION = ("store", "search", "referral", "coupon_site")
# Sleeping dogs: weights of activity, loyalty, deal-proneness, age and chance in their score.
_DOG_WEIGHTS = np.array([0.5, 0.7, -0.7, 0.4, 0.2])


class Traits(NamedTuple):
    """Traits of `n` users, in their order; all hidden but the last four.

    Attributes:
        keys: `(n,)` uint64 keys of the users.
        rate: `(n,)` float64 orders per day while active.
        residual: `(n,)` float64 share of the rate that remains after the user stopped.
        join_day: `(n,)` float64 day of the first visit; negative before the history.
        stop_day: `(n,)` float64 day on which the user stopped; `n_days` if not.
        basket_mu: `(n,)` float64 mean of the log order value, log currency units.
        basket_sd: `(n,)` float64 standard deviation of the log order value.
        deal: `(n,)` float64 deal-proneness in (0, 1).
        is_dog: `(n,)` bool sleeping dogs.
        aversion: `(n,)` float64 log loss of the order rate after any contact, >= 0.
        nudge: `(n,)` float64 log gain of the order rate by a mere reminder, >= 0.
        strength: `(n,)` float64 log lift of the order rate by a deep offer, >= 0.
        depth_scale: `(n,)` float64 saving over which the lift saturates, share of the basket.
        use_rate: `(n,)` float64 chance that an eligible order uses the offer.
        cells: `(n, n_cells)` float64 share of lines per category and brand at list prices.
        window_rate: `(n,)` float64 orders expected in the outcome window without contact.
        is_member: `(n,)` bool.
        age: `(n,)` int64 index of the age band.
        acquisition: `(n,)` int64 index of the acquisition channel.
        protected: `(n,)` int64 index of the protected group, 0 or 1.
    """

    keys: NDArray[np.uint64]
    rate: Floats
    residual: Floats
    join_day: Floats
    stop_day: Floats
    basket_mu: Floats
    basket_sd: Floats
    deal: Floats
    is_dog: NDArray[np.bool_]
    aversion: Floats
    nudge: Floats
    strength: Floats
    depth_scale: Floats
    use_rate: Floats
    cells: Floats
    window_rate: Floats
    is_member: NDArray[np.bool_]
    age: NDArray[np.int64]
    acquisition: NDArray[np.int64]
    protected: NDArray[np.int64]


class _Core(NamedTuple):
    """Correlated standard normal factors behind the traits, each `(n,)`."""

    activity: Floats
    basket: Floats
    deal: Floats
    loyalty: Floats
    age: Floats


def _core(config: ShopConfig, keys: NDArray[np.uint64]) -> _Core:
    z = normals(config.seed, "shop.core", keys, 5).T
    basket = -0.2 * z[0] + np.sqrt(1 - 0.2**2) * z[1]
    deal = -0.2 * z[0] - 0.25 * z[1] + np.sqrt(1 - 0.2**2 - 0.25**2) * z[2]
    loyalty = 0.4 * z[0] - 0.25 * z[2] + np.sqrt(1 - 0.4**2 - 0.25**2) * z[3]
    return _Core(z[0], basket, deal, loyalty, z[4])


def _dog_score(config: ShopConfig, keys: NDArray[np.uint64], core: _Core) -> Floats:
    """Score in (0, 1), uniform over users; frequent loyal users stand high."""
    chance = normals(config.seed, "shop.dog", keys)[:, 0]
    parts = np.stack([core.activity, core.loyalty, core.deal, core.age, chance])
    # The covariances of the factors of `_core`: activity-loyalty, activity-deal, loyalty-deal.
    cov = np.eye(5)
    cov[0, 1] = cov[1, 0] = 0.4
    cov[0, 2] = cov[2, 0] = -0.2
    cov[1, 2] = cov[2, 1] = 0.4 * -0.2 - 0.25 * np.sqrt(1 - 0.2**2 - 0.25**2)
    sd = float(np.sqrt(_DOG_WEIGHTS @ cov @ _DOG_WEIGHTS))
    return np.asarray(ndtr(_DOG_WEIGHTS @ parts / sd), dtype=np.float64)


def _cells(config: ShopConfig, keys: NDArray[np.uint64], loyalty: Floats) -> Floats:
    """Share of lines per cell at list prices, `(n, n_cells)`; rows sum to one."""
    n_categories = config.n_categories
    taste = normals(config.seed, "shop.category", keys, n_categories)
    brand = normals(config.seed, "shop.brand", keys, N_BRANDS)
    focus = (0.9 + 0.25 * np.clip(loyalty, -2, 2))[:, None]  # loyal users buy in fewer places
    shares = softmax(focus * taste, axis=1)[:, :, None] * softmax(focus * brand, axis=1)[:, None, :]
    weights = shares.reshape(len(keys), n_categories * N_BRANDS) * market_of(config).cell_demand
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float64)


def traits_of(config: ShopConfig, user_ids: Sequence[str]) -> Traits:
    """Traits of users; row i depends on the settings and `user_ids[i]` alone."""
    keys = keys_of(user_ids)
    core = _core(config, keys)
    u = uniforms(config.seed, "shop.traits", keys, 8).T
    z = normals(config.seed, "shop.residual", keys, 4).T
    n_days = float(config.n_days)

    is_new = u[0] < config.new_share
    join_day = np.where(is_new, u[1] * n_days, -1000.0 * u[1] ** 2)
    stop_chance = np.minimum(config.lapse_share * 2.0 * expit(-0.6 * core.loyalty), 1.0)
    is_stopped = u[2] < stop_chance
    begin = np.maximum(join_day, 0.0)
    stop_day = np.where(is_stopped, begin + (n_days - begin) * u[3], n_days)
    residual = 0.05 + 0.25 * u[4]
    rate = config.orders_per_28_days / 28.0 * np.exp(0.5 * core.activity - 0.5**2 / 2)
    window_rate = rate * config.window_days * np.where(is_stopped, residual, 1.0)

    deal = expit(-0.8 + 2.5 * core.deal)
    lapsing = np.where(is_stopped, np.exp(-(n_days - stop_day) / _LAPSE_MEMORY_DAYS), 0.0)
    lift = config.lift_strength * deal**1.5 * (1.0 + config.lapse_boost * lapsing)
    appetite = 1.0 / (1.0 + window_rate * 28.0 / config.window_days / _SATISFIED_ORDERS)
    dog_limit = 1.0 - config.dog_share / (1.0 - 0.9 * config.lapse_share)
    is_dog = ~is_stopped & (_dog_score(config, keys, core) > dog_limit)
    member_chance = expit(logit(config.member_share) - 0.4 + 1.1 * core.loyalty)
    # Bargain hunters come by coupon sites more often than others.
    lean = np.stack([0 * deal, 0 * deal + 0.2, -0.3 * core.deal, 1.6 * core.deal - 0.8], axis=1)
    channel = softmax(lean, axis=1).cumsum(axis=1)
    return Traits(
        keys=keys,
        rate=rate,
        residual=residual,
        join_day=join_day,
        stop_day=stop_day,
        basket_mu=np.log(config.basket_median) + 0.35 * core.basket,
        basket_sd=0.3 + 0.15 * u[5],
        deal=deal,
        is_dog=is_dog,
        aversion=np.where(
            is_dog, config.dog_strength * np.exp(0.25 * z[0] - 0.03), config.background_aversion
        ),
        nudge=0.1 * lapsing * config.lapse_boost,
        strength=lift * appetite * np.exp(0.1 * z[1]),
        depth_scale=config.depth_scale * np.exp(0.15 * z[2]),
        use_rate=0.55 + 0.4 * deal,
        cells=_cells(config, keys, core.loyalty),
        window_rate=window_rate,
        is_member=u[6] < member_chance,
        age=np.searchsorted(ndtri([0.25, 0.55, 0.8]), core.age + 0.3 * z[3]).astype(np.int64),
        acquisition=(channel[:, :-1] < u[7][:, None]).sum(axis=1).astype(np.int64),
        protected=(uniforms(config.seed, "shop.protected", keys)[:, 0] < 0.5).astype(np.int64),
    )


def users_table(config: ShopConfig, user_ids: Sequence[str]) -> pa.Table:
    """Table `users` in the order of `user_ids`: what the shop may know before a campaign."""
    traits = traits_of(config, user_ids)
    return pa.table(
        {
            "user_id": pa.array(user_ids, pa.string()),
            "is_consenting": pa.array(np.ones(len(traits.keys), dtype=bool)),
            "attr_age_band": pa.array([_AGE_BANDS[i] for i in traits.age], pa.string()),
            "attr_acquisition": pa.array(
                [_ACQUISITION[i] for i in traits.acquisition], pa.string()
            ),
            "attr_is_member": traits.is_member.astype(np.float64),
            "attr_tenure_days": np.floor(config.n_days - traits.join_day),
            "protected_group": pa.array(["AB"[i] for i in traits.protected], pa.string()),
        },
        schema=_USERS,
    )


_USERS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("is_consenting", pa.bool_()),
        pa.field("attr_age_band", pa.string()),
        pa.field("attr_acquisition", pa.string()),
        pa.field("attr_is_member", pa.float64()),
        pa.field("attr_tenure_days", pa.float64()),
        pa.field("protected_group", pa.string()),
    ]
)
