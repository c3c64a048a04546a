r"""One day of the market for a chunk of users: visit, category, item, quantity, payment.

With `x` the felt log price, `r` the reference and `[y]+ = max(y, 0)`, household i on day t has

    visit      P = 1 - exp(-rate_i exp(calendar_t - recency + offer - aversion + friends))
    utility    u_k = appeal_k + brand_i - beta_i (x_k + rho (x_k - r_ic + lambda [x_k - r_ic]+))
    value      V_c = log sum_k exp(u_k), less its value at list prices
    category   logit P = alpha_ic + theta V_c + halo V_partner - kappa (stock_ic / usual_ic - 1)
    item       multinomial logit over u within the category, by one Gumbel draw per item
    units      1 + geometric with mean m_0 exp(quantity_pull beta_i gain_k)

(nested logit: Ben-Akiva and Lerman 1985; reference price with loss aversion: Hardie, Johnson and
Fader 1993; stock at home: Bucklin and Gupta 1992; flexible consumption: Ailawadi and Neslin 1998.)
Every draw belongs to (seed, user, day), so all offers meet the same luck.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from promo_ray.data.market.checkout import MAX_UNITS, N_LINE, N_TRIP, Basket, Lines, check_out
from promo_ray.data.market.config import MarketConfig
from promo_ray.data.market.households import Households
from promo_ray.data.market.supply import felt_log_price
from promo_ray.data.market.world import State, World

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Ints = NDArray[np.int64]

_WEEKDAY = np.log(7.0 * np.array([0.1465, 0.1285, 0.1201, 0.1238, 0.1325, 0.1658, 0.1828]))
_PAYDAYS = (1, 15)  # days of the month
_RECENCY_DAYS = 3.0
_HALF_LIFE_DAYS = 30.0  # of the harm of a contact
_FULL_SAVING = 0.1  # saving, as a share of the usual basket, that gives 63 % of the lift
_MOST_STOCK = 4.0  # usual stocks beyond which more stock does not matter
_CATEGORY_KEY = np.uint64(0xD1B54A32D192ED03)  # odd: user and category give a key of their own


class Given(NamedTuple):
    """How the offers of a replay meet `n` users.

    Attributes:
        arm: `(n,)` int64 offer of each user, 0 = control.
        lift: `(n,)` float32 log lift of the visit rate while the user means to use the offer.
        is_user: `(n,)` bool the contact makes the user mean to use it.
        friends: `(n,)` float32 share of friends who were contacted.
    """

    arm: Ints
    lift: Singles
    is_user: NDArray[np.bool_]
    friends: Singles


def first_state(config: MarketConfig, homes: Households) -> State:
    """State before the history: the usual stock at home, references at list prices."""
    stock = homes.eats * np.float32(config.cover_days)
    n = len(homes.keys)
    last = np.full(n, -config.history_days - 3, np.int64)
    return State(last, stock, np.zeros_like(stock), np.zeros(n, dtype=bool))


def given_of(world: World, homes: Households, arm: Ints, friends: Singles) -> Given:
    """How offers meet users; `arm` and `friends` are `(n,)`."""
    config, size = world.config, world.config.items_per_category
    weight = (1.0 / (1.0 + np.exp(-homes.alpha))) * world.supply.list_cents.reshape(-1, size).mean(
        axis=1
    )
    weight /= weight.sum(axis=1, keepdims=True)
    felt = -felt_log_price(config, world.supply, world.menu.saving).astype(np.float64)
    by_category = felt.reshape(world.menu.n_arms, -1, size).mean(axis=2)
    saving = (weight * by_category[arm]).sum(axis=1)
    lift = homes.lift * (1.0 - np.exp(-saving / _FULL_SAVING))
    is_user = world.draws("use", 0, homes.keys)[:, 0] < homes.use
    return Given(arm, lift.astype(np.float32), is_user & (arm > 0), friends)


def calendar(config: MarketConfig, day: int) -> float:
    """Log of the visit rate on a day, over its mean: weekday, season, payday."""
    at = date.fromisoformat(config.start) + timedelta(days=day)
    wave = np.cos(2.0 * np.pi * (at.timetuple().tm_yday - 355) / 365.0)
    is_payday = any(0 <= at.day - p < 3 for p in _PAYDAYS)
    return float(
        config.weekday_strength * _WEEKDAY[at.weekday()]
        + config.season_strength * wave
        + config.payday_strength * is_payday
    )


def step(
    world: World,
    homes: Households,
    given: Given,
    state: State,
    day: int,
    shelf: NDArray[np.bool_] | None = None,
) -> Lines:
    """Purchases of one day; changes `state`.

    Args:
        world: what is the same for all users.
        homes: traits of the users.
        given: their offers.
        state: stocks, references and redemptions; changed in place.
        day: day of the campaign; negative before it.
        shelf: `(n_items,)` items not sold out; None = all.
    """
    active = _active(world, homes, given, state, day)
    user = _visitors(world, homes, given, state, day, active)
    arm = np.where(active.is_on[user], given.arm[user], 0)
    _use_up(world.config, homes, state, user, day)
    x = _felt_prices(world, arm, day)
    utility, value = _utilities(world, homes, state, user, x, shelf)
    keys = homes.keys[user]
    luck = world.draws("trip", day, keys, N_TRIP + world.config.n_categories)
    chance = _chances(world.config, homes, state, user, value, luck[:, 0])
    order, category = np.nonzero(luck[:, N_TRIP:] < chance)
    line_keys = keys[order] + (category.astype(np.uint64) + np.uint64(1)) * _CATEGORY_KEY
    draws = world.draws("line", day, line_keys, N_LINE + world.config.items_per_category)
    gumbel = -np.log(-np.log(draws[:, N_LINE:]))
    place = np.argmax(utility[order, category] + gumbel.astype(np.float32), axis=1)
    gain = -x[order if len(x) > 1 else 0, category, place] * homes.beta[user[order]]
    extra = world.config.extra_units * np.exp(world.config.quantity_pull * gain)
    units = 1 + np.floor(np.log(draws[:, 0]) / np.log(extra / (1.0 + extra))).astype(np.int64)
    clips = homes.use[user] * np.float32(world.config.maker_coupon_rate / world.config.redeem_rate)
    basket = Basket(user, arm, clips, order, category, place, np.minimum(units, MAX_UNITS))
    return check_out(world, state, basket, luck[:, :N_TRIP], draws[:, :N_LINE], day)


class _Active(NamedTuple):
    """Contacts so far, days since the last, whether it reaches, whether the offer is on."""

    n_contacts: Ints
    since: Ints
    is_reached: NDArray[np.bool_]
    is_on: NDArray[np.bool_]


def _active(world: World, homes: Households, given: Given, state: State, day: int) -> _Active:
    days = np.asarray(world.contact_days)
    ages = day - 7 * np.arange(world.config.n_waves)
    n = np.array([(days <= age).sum() for age in ages])
    last = np.array([age - days[k - 1] if k else -1 for age, k in zip(ages, n, strict=True)])
    since = last[homes.wave]
    is_reached = (since >= 0) & (since < world.config.window_days) & given.is_user
    is_on = is_reached & ~state.is_redeemed
    return _Active(n[homes.wave] * (given.arm > 0), since, is_reached, is_on)


def _visitors(
    world: World, homes: Households, given: Given, state: State, day: int, active: _Active
) -> Ints:
    """Rows of the users who come."""
    config = world.config
    # In float64 on every path, so that a user's chance never depends on who else is in the chunk.
    recency = np.exp(-(day - state.last_visit - 1) / _RECENCY_DAYS)
    log_rate = calendar(config, day) - config.recency_strength * recency
    if day >= 0 and active.n_contacts.any():
        left = np.maximum(config.window_days - 1 - active.since, 0) / 2.0
        rush = 1.0 + config.expiry_strength * np.exp(-left)
        log_rate = log_rate + np.where(active.is_on, given.lift * rush, 0.0)
        log_rate = log_rate + np.where(active.is_reached, config.reminder_strength, 0.0)
        loss = homes.dog + config.fatigue_strength * (active.n_contacts - 1)
        loss = loss * np.exp2(-active.since / _HALF_LIFE_DAYS)
        log_rate = log_rate - np.where(active.n_contacts > 0, loss, 0.0)
    if config.referral_strength > 0.0:
        is_live = (active.since >= 0) & (active.since < config.window_days)
        log_rate = log_rate + config.referral_strength * np.where(is_live, given.friends, 0.0)
    chance = -np.expm1(-homes.rate * np.exp(log_rate))
    u = world.draws("visit", day, homes.keys)[:, 0]
    return np.flatnonzero(u < chance)


def _use_up(config: MarketConfig, homes: Households, state: State, user: Ints, day: int) -> None:
    """Run the stocks of visitors down to today.

    Consumption is `eats ((1 - f) + f stock / usual)` with f the flexible part, until nothing is
    left; closed form of the linear differential equation.
    """
    days = (day - state.last_visit[user]).astype(np.float32)[:, None]
    stock, eats = state.stock[user], homes.eats[user]
    f = np.float32(config.flexible_consumption / (1.0 + config.flexible_consumption))
    if f > 0.0:
        base = eats * np.float32(config.cover_days) * (1 - f) / f
        left = (stock + base) * np.exp(-days * f / np.float32(config.cover_days)) - base
    else:
        left = stock - eats * days
    state.stock[user] = np.maximum(left, 0)
    state.last_visit[user] = day


def _felt_prices(world: World, arm: Ints, day: int) -> Singles:
    """`(n_visits, n_categories, items_per_category)` felt log prices; 1 visit if all are alike."""
    shop = world.depth[day + world.config.history_days]
    used = np.unique(arm) if len(arm) else np.zeros(1, np.int64)
    depth = 1.0 - (1.0 - shop) * (1.0 - world.menu.felt[used])
    table = felt_log_price(world.config, world.supply, depth)
    table = table.reshape(len(used), world.config.n_categories, -1)
    return table if len(used) == 1 else table[np.searchsorted(used, arm)]


def _utilities(
    world: World, homes: Households, state: State, user: Ints, x: Singles, shelf: Any
) -> tuple[Singles, Singles]:
    """Utility of each item, and the inclusive value of each category over that at list prices."""
    config = world.config
    appeal = world.supply.appeal.astype(np.float32)
    if shelf is not None:
        appeal = np.where(shelf, appeal, np.float32(-30.0))
    pull = x
    if config.reference_strength > 0.0:
        y = x - state.reference[user][:, :, None]
        loss = np.maximum(y, 0)
        loss *= np.float32(config.loss_aversion)
        y += loss
        y *= np.float32(config.reference_strength)
        y += x
        pull = y
    u = pull * -homes.beta[user][:, None, None]
    u += appeal.reshape(config.n_categories, -1)
    u += homes.brand[user][:, None, :]
    value = np.exp(u[:, :, 0])
    for m in range(1, config.items_per_category):
        value += np.exp(u[:, :, m])
    return u, np.log(value) - homes.value[user]


def _chances(
    config: MarketConfig, homes: Households, state: State, user: Ints, value: Singles, trip: Floats
) -> Singles:
    """`(n_visits, n_categories)` chance to buy in each category."""
    logit = homes.alpha[user] + np.float32(config.incidence_pull) * value
    logit += (np.float32(config.trip_spread) * ndtri(trip).astype(np.float32))[:, None]
    if config.halo_strength > 0.0:
        partner = partner_of(config.n_categories)
        pull = np.where(partner >= 0, config.halo_strength, 0.0).astype(np.float32)
        logit += value[:, partner] * pull
    if config.inventory_strength > 0.0:
        usual = homes.eats[user] * np.float32(config.cover_days)
        full = np.minimum(state.stock[user] / usual, np.float32(_MOST_STOCK)) - np.float32(1.0)
        logit -= np.float32(config.inventory_strength) * full
    return np.asarray(1.0 / (1.0 + np.exp(-logit)))


def partner_of(n_categories: int) -> Ints:
    """`(n_categories,)` complement of each category: neighbors in pairs; -1 for an odd last."""
    partner = np.arange(n_categories) ^ 1
    return np.where(partner < n_categories, partner, -1)
