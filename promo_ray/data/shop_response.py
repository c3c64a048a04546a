r"""How users of the simulated shop respond to any offer: exact expectations and realised outcomes.

User i places `N ~ Poisson(rate_i * exp(lift_ij))` orders in the window under offer j, each of a
lognormal value B. An order redeems the offer with a chance `pi_ij` of its own, the first such
order gets the discount, so that `P(redeemed) = 1 - exp(-rate * pi)` and

    E[margin] = rate * g * E[B] + P(redeemed) * (E[added margin] - E[discount])

with the means in brackets taken over one redeeming order. They are closed forms (`shop_offers`), so
nothing is approximated.

    lift_ij = strength_i * (1 - exp(-max(z_ij - floor, 0) / scale_i)) + nudge_i - aversion_i

where z is the perceived depth: the saving expected on an order relative to the mean order. Only
orders within the user's own reach of a threshold are raised to it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.artifacts.kind import TableSpec
from promo_ray.data.shop_config import ShopConfig
from promo_ray.data.shop_events import poisson_counts
from promo_ray.data.shop_market import market_of
from promo_ray.data.shop_offers import MECHANICS, Case, Redemption, WindowOrders, baskets_of
from promo_ray.data.shop_traits import Traits
from promo_ray.errors import DataError
from promo_ray.seeding import normals, uniforms

Floats = NDArray[np.float64]

_BROWSE_RATE = 0.5  # visits without an order per order


class TrueEffects(NamedTuple):
    """Exact expectations for `n` users and `m` offers, currency units per user and window.

    Attributes:
        value: `(n, m)` float64 incremental margin, net of the contact cost.
        cost: `(n, m)` float64 discount given plus contact cost.
        baseline: `(n,)` float64 margin without an offer.
    """

    value: Floats
    cost: Floats
    baseline: Floats


class Outcomes(NamedTuple):
    """Realised outcomes of `n` users under control (column 0) and `m` offers, same random numbers.

    Attributes:
        margin: `(n, m + 1)` float64 revenue less cost of goods, contact cost not taken off.
        revenue: `(n, m + 1)` float64 after discounts, currency units.
        discount: `(n, m + 1)` float64 given by the offer, currency units.
        is_conversion: `(n, m + 1)` bool at least one order.
        is_visit: `(n, m + 1)` bool at least one visit.
    """

    margin: Floats
    revenue: Floats
    discount: Floats
    is_conversion: NDArray[np.bool_]
    is_visit: NDArray[np.bool_]


class Response(NamedTuple):
    """Response of `n` users to one offer: `(n,)` order rate of the window, and redemption."""

    rate: Floats
    redemption: Redemption
    contact_cost: float


def responses_of(config: ShopConfig, traits: Traits, offers: pa.Table) -> list[Response]:
    """Response of users to each offer of a table of offer terms.

    Raises:
        DataError: a mechanic, parameter, scope or item that the shop does not know.
    """
    baskets, market = baskets_of(config, traits), market_of(config)
    responses = []
    for i, offer in enumerate(TableSpec(schema=OFFER_TERMS).conform(offers, "offers").to_pylist()):
        case = Case(config, market, baskets, offer, f"offers row {i}")
        mechanic = MECHANICS.get(offer["mechanic"])
        if mechanic is None:
            raise DataError(
                f"mechanic must be one of {', '.join(MECHANICS)}; got {offer['mechanic']!r}",
                where=case.row,
            )
        contact_cost = case.number("contact_cost", 0.0)
        redemption = mechanic(case)
        saving = redemption.chance * redemption.discount / baskets.mean
        seen = np.maximum(saving - config.perception_floor, 0.0)
        pull = traits.strength * -np.expm1(-seen / traits.depth_scale)
        rate = traits.window_rate * np.exp(pull + traits.nudge - traits.aversion)
        responses.append(Response(rate, redemption, contact_cost))
    return responses


def true_effects_of(config: ShopConfig, traits: Traits, offers: pa.Table) -> TrueEffects:
    """Exact expected effects of offers; see the module's formula."""
    baskets = baskets_of(config, traits)
    per_order = baskets.margin_rate * baskets.mean
    baseline = traits.window_rate * per_order
    responses = responses_of(config, traits, offers)
    value = np.zeros((len(baseline), len(responses)))
    cost = np.zeros_like(value)
    for j, (rate, redemption, contact_cost) in enumerate(responses):
        is_redeemed = -np.expm1(-rate * traits.use_rate * redemption.chance)
        discount = is_redeemed * redemption.discount
        added = is_redeemed * redemption.margin
        value[:, j] = (rate - traits.window_rate) * per_order + added - discount - contact_cost
        cost[:, j] = discount + contact_cost
    return TrueEffects(value, cost, baseline)


def outcomes_of(
    config: ShopConfig, traits: Traits, offers: pa.Table, draw: str = "shop.window"
) -> Outcomes:
    """Realised outcomes under control and every offer, all from the same random numbers.

    Args:
        config: settings of the shop.
        traits: `n` users.
        offers: table of offer terms, `m` rows.
        draw: name of the random numbers; another name gives another realisation.
    """
    baskets = baskets_of(config, traits)
    responses = responses_of(config, traits, offers)
    keys, n = traits.keys, len(traits.keys)
    rates = np.stack([traits.window_rate, *(r.rate for r in responses)], axis=1)
    u = uniforms(config.seed, f"{draw}.count", keys, 2)
    # Rates above 600 orders per window lie outside of what inversion can do.
    counts = poisson_counts(u[:, :1], np.minimum(rates, 600.0))
    size = max(int(counts.max(initial=0)), 1)
    noise = normals(config.seed, f"{draw}.value", keys, size)
    orders = WindowOrders(
        value=np.exp(baskets.mu[:, None] + baskets.sd[:, None] * noise),
        is_used=uniforms(config.seed, f"{draw}.use", keys, size) < traits.use_rate[:, None],
        pull=uniforms(config.seed, f"{draw}.pull", keys, size),
    )
    running = np.concatenate([np.zeros((n, 1)), np.cumsum(orders.value, axis=1)], axis=1)
    revenue = np.take_along_axis(running, counts, axis=1)
    margin = revenue * baskets.margin_rate[:, None]
    discount = np.zeros_like(revenue)
    rows = np.arange(n)
    for j, response in enumerate(responses, start=1):
        flags, off, more, more_margin = response.redemption.realize(orders)
        flags = flags & orders.is_used & (np.arange(size) < counts[:, j : j + 1])
        first = flags.argmax(axis=1)
        is_redeemed = flags[rows, first]
        discount[:, j] = np.where(is_redeemed, off[rows, first], 0.0)
        revenue[:, j] += np.where(is_redeemed, more[rows, first], 0.0) - discount[:, j]
        margin[:, j] += np.where(is_redeemed, more_margin[rows, first], 0.0) - discount[:, j]
    is_visit = (counts > 0) | (u[:, 1:] < -np.expm1(-_BROWSE_RATE * rates))
    return Outcomes(margin, revenue, discount, counts > 0, is_visit)
