"""What each mechanic does to one order of the simulated shop: who redeems, saves and adds what.

Order values are lognormal, so that every mean is a closed form in partial moments:
`E[B^k; B > a] = exp(k mu + k^2 sd^2 / 2) Phi((mu + k sd^2 - ln a) / sd)` (Johnson, Kotz and
Balakrishnan 1994, chapter 14). Each mechanic gives the means and, for replays, the realisation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from promo_ray.data.shop_config import ShopConfig
from promo_ray.data.shop_market import N_BRANDS, Market, market_of
from promo_ray.data.shop_traits import Traits
from promo_ray.errors import DataError

Floats = NDArray[np.float64]

_REACH_OF_BASKET = 0.35  # an order grows to a threshold by at most this share of the usual order
_REACH_OF_AMOUNT = 2.5  # and by at most so many times the reward


@dataclass(frozen=True)
class Baskets:
    """Value of one order of each of `n` users.

    Attributes:
        mu: `(n,)` mean of the log value.
        sd: `(n,)` standard deviation of the log value.
        margin_rate: `(n,)` margin as a share of the value before any offer.
        shares: `(n, n_categories)` share of the value per category.
    """

    mu: Floats
    sd: Floats
    margin_rate: Floats
    shares: Floats

    @property
    def mean(self) -> Floats:
        """`(n,)` mean value of an order, currency units."""
        return np.asarray(np.exp(self.mu + self.sd**2 / 2))

    def chance_above(self, limit: Floats) -> Floats:
        """`(n,)` probability that an order is worth more than `limit`, currency units."""
        return np.asarray(ndtr((self.mu - _log(limit)) / self.sd))

    def mean_above(self, limit: Floats) -> Floats:
        """`(n,)` mean of the value times the indicator that it is more than `limit`."""
        return np.asarray(self.mean * ndtr((self.mu + self.sd**2 - _log(limit)) / self.sd))


def _log(x: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.log(x)


def baskets_of(config: ShopConfig, traits: Traits) -> Baskets:
    """Order values of users."""
    market = market_of(config)
    price = traits.cells @ market.cell_price
    margin = traits.cells @ (market.cell_price - market.cell_cost)
    spend = (traits.cells * market.cell_price).reshape(len(price), config.n_categories, N_BRANDS)
    shares = spend.sum(axis=2) / price[:, None]
    return Baskets(traits.basket_mu, traits.basket_sd, margin / price, shares)


class WindowOrders(NamedTuple):
    """Realised orders of the window, common to all offers; columns in the order they are placed.

    Attributes:
        value: `(n, k)` float64 order value without an offer, currency units.
        is_used: `(n, k)` bool the user thinks of the offer.
        pull: `(n, k)` float64 uniform that decides whether a near order is raised, or a bundle
            is taken.
    """

    value: Floats
    is_used: NDArray[np.bool_]
    pull: Floats


@dataclass(frozen=True)
class Redemption:
    """Redemption of one offer by one order of each of `n` users.

    Attributes:
        chance: `(n,)` probability that an order which uses offers redeems this one.
        discount: `(n,)` mean discount of a redeeming order, currency units.
        revenue: `(n,)` mean revenue that redeeming adds before the discount, currency units.
        margin: `(n,)` mean margin that redeeming adds before the discount, currency units.
        realize: maps orders to `(is_redeeming, discount, revenue, margin)`, each `(n, k)`.
    """

    chance: Floats
    discount: Floats
    revenue: Floats
    margin: Floats
    realize: Callable[[WindowOrders], tuple[NDArray[np.bool_], Floats, Floats, Floats]]


@dataclass(frozen=True)
class Case:
    """Everything that a mechanic needs to know about the users and one offer."""

    config: ShopConfig
    market: Market
    baskets: Baskets
    offer: dict[str, Any]
    row: str

    def number(self, name: str, low: float, high: float = np.inf) -> float:
        """Parameter of the offer within its bounds."""
        value = self.offer[name]
        if value is None or not low <= value <= high:
            raise DataError(
                f"{name} of a {self.offer['mechanic']} offer must be in [{low:g}, {high:g}]; "
                f"got {value!r}",
                where=self.row,
            )
        return float(value)

    def scope_share(self) -> Floats:
        """`(n,)` share of the order value that the offer's scope covers."""
        scope = self.offer["scope"]
        if scope is None:
            return np.ones(len(self.baskets.mu))
        paths = self.market.categories
        inside = np.array([p == scope or p.startswith(f"{scope} > ") for p in paths])
        if not inside.any():
            raise DataError(
                f"scope must be a category of the catalog; got {scope!r}", where=self.row
            )
        return np.asarray(np.maximum(self.baskets.shares[:, inside].sum(axis=1), 1e-12))

    def items(self) -> NDArray[np.int64]:
        """Rows of the bundle's items in the market."""
        place = {item: k for k, item in enumerate(self.market.item_ids)}
        wanted = self.offer["item_ids"] or []
        unknown = [i for i in wanted if i not in place]
        if unknown or len(wanted) < 2:
            raise DataError(
                f"item_ids must be two or more items of the catalog; got {wanted!r}"[:200],
                where=self.row,
            )
        return np.array([place[i] for i in wanted])


def _percent_off(case: Case) -> Redemption:
    rate = case.number("depth_rate", 0.0, 1.0) * case.scope_share()
    none = np.zeros(len(rate))

    def realize(orders: WindowOrders) -> tuple[NDArray[np.bool_], Floats, Floats, Floats]:
        zero = np.zeros_like(orders.value)
        return np.ones(zero.shape, dtype=bool), rate[:, None] * orders.value, zero, zero

    return Redemption(np.ones(len(rate)), rate * case.baskets.mean, none, none, realize)


def _amount_off(case: Case) -> Redemption:
    amount, share = case.number("amount", 0.0), case.scope_share()
    limit = amount / share
    baskets = case.baskets
    small = share * (baskets.mean - baskets.mean_above(limit))
    none = np.zeros(len(share))

    def realize(orders: WindowOrders) -> tuple[NDArray[np.bool_], Floats, Floats, Floats]:
        zero = np.zeros_like(orders.value)
        off = np.minimum(amount, share[:, None] * orders.value)
        return np.ones(zero.shape, dtype=bool), off, zero, zero

    discount = small + amount * baskets.chance_above(limit)
    return Redemption(np.ones(len(share)), discount, none, none, realize)


def _spend_threshold(case: Case) -> Redemption:
    share, baskets, pull_rate = case.scope_share(), case.baskets, case.config.pull_rate
    amount, threshold = case.number("amount", 0.0), case.number("threshold", 0.0)
    amount = min(amount, threshold)
    limit = threshold / share
    usual = share * np.exp(baskets.mu)
    reach = np.minimum(_REACH_OF_BASKET * usual, _REACH_OF_AMOUNT * amount)
    low = np.maximum(threshold - reach, 0.0) / share
    over = baskets.chance_above(limit)
    near = baskets.chance_above(low) - over
    near_value = share * (baskets.mean_above(low) - baskets.mean_above(limit))
    chance = over + pull_rate * near
    raised = pull_rate * (threshold * near - near_value) / np.maximum(chance, 1e-300)

    def realize(orders: WindowOrders) -> tuple[NDArray[np.bool_], Floats, Floats, Floats]:
        is_near = (orders.value > low[:, None]) & (orders.value <= limit[:, None])
        is_raised = is_near & (orders.pull < pull_rate)
        added = np.where(is_raised, threshold - share[:, None] * orders.value, 0.0)
        is_redeeming = is_raised | (orders.value > limit[:, None])
        off = np.full_like(added, amount)
        return is_redeeming, off, added, added * baskets.margin_rate[:, None]

    discount = np.full(len(chance), amount)
    return Redemption(chance, discount, raised, raised * baskets.margin_rate, realize)


def _product_bundle(case: Case) -> Redemption:
    depth, items = case.number("depth_rate", 0.0, 1.0), case.items()
    market = case.market
    price, cost = market.list_price[items].sum(), market.unit_cost[items].sum()
    # Liking of the bundle's categories, 1 for a user who buys everywhere alike.
    liking = case.baskets.shares[:, market.category[items]].mean(axis=1) * case.config.n_categories
    seen = 1.0 - np.exp(-max(depth - case.config.perception_floor, 0.0) / 0.15)
    chance = liking / (liking + 1.5) * (0.15 + 0.85 * seen)
    fresh = 1.0 - 0.8 * liking / (liking + 1.5)  # share of the bundle not bought anyway
    ones = np.ones(len(chance))

    def realize(orders: WindowOrders) -> tuple[NDArray[np.bool_], Floats, Floats, Floats]:
        every = np.ones_like(orders.value)
        is_taken = orders.pull < chance[:, None]
        added = fresh[:, None] * every
        return is_taken, depth * price * every, added * price, added * (price - cost)

    return Redemption(chance, depth * price * ones, fresh * price, fresh * (price - cost), realize)


def _message(case: Case) -> Redemption:
    none = np.zeros(len(case.baskets.mu))

    def realize(orders: WindowOrders) -> tuple[NDArray[np.bool_], Floats, Floats, Floats]:
        zero = np.zeros_like(orders.value)
        return np.zeros(zero.shape, dtype=bool), zero, zero, zero

    return Redemption(none, none, none, none, realize)


MECHANICS: dict[str, Callable[[Case], Redemption]] = {
    "percent_off": _percent_off,
    "amount_off": _amount_off,
    "spend_threshold": _spend_threshold,
    "product_bundle": _product_bundle,
    "message": _message,
}
