"""Replay of logged carts under offers: what they would have cost had nobody changed a cart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from promo_ray.errors import DataError
from promo_ray.offers.batch import price_carts
from promo_ray.offers.cart import Context
from promo_ray.offers.cart_batch import CartBatch
from promo_ray.offers.encode import CODE_OF
from promo_ray.offers.mechanics.tiered import Tiered
from promo_ray.offers.offer import Offer
from promo_ray.offers.priced_batch import PricedBatch
from promo_ray.offers.reasons import Reason
from promo_ray.offers.scope import Scope

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
GAPS = (0.0, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0)  # shares of a threshold that a cart lacks
_JUST_BELOW = 0.1


@dataclass(frozen=True)
class Threshold:
    """How far logged carts are from a threshold, at list prices.

    Attributes:
        offer_id: offer.
        kind: `spend` in minor units, or `quantity` in units.
        least: the threshold.
        n_reached: carts at or above it.
        counts: carts that lack a share of it in `(GAPS[k], GAPS[k + 1]]`; carts with nothing in
            scope are left out.
        n_just_below: carts that lack at most a tenth of it.
    """

    offer_id: str
    kind: str
    least: int
    n_reached: int
    counts: tuple[int, ...]
    n_just_below: int


@dataclass(frozen=True)
class OfferReplay:
    """Replay of one offer; money in minor units.

    Attributes:
        offer_id: offer.
        cost: discounts and gifts.
        n_carts: carts that it applied to.
        cart_rate: share of all carts.
        saving_quantiles: of the saving of carts that it applied to, at `QUANTILES`; ordered
            values, never between two. Empty if there are none.
        full_price_units: units it made cheaper that the log sold at the list price: what is given
            away if nobody buys more.
        reasons: number of carts by the reason why it did not apply.
        exhausted_at: instant of the cart that took the last of its budget or uses, or of the
            first that found too little; None = never.
    """

    offer_id: str
    cost: int
    n_carts: int
    cart_rate: float
    saving_quantiles: tuple[int, ...]
    full_price_units: int
    reasons: dict[Reason, int]
    exhausted_at: datetime | None


@dataclass(frozen=True, eq=False)
class OfferSimulation:
    """Outcome of `simulate_offers`; money in minor units.

    Attributes:
        n_carts: carts replayed.
        cost: discounts and gifts of all offers.
        cart_rate: share of carts that some offer applied to.
        saving_quantiles: of the whole saving of those carts, at `QUANTILES`.
        offers: one by one.
        thresholds: of every tier and every smallest spend or number of units.
        days: `(n_days,)` datetime64[D] in UTC, from the first cart to the last.
        burn: `(n_days, n_offers)` int64 cost by day.
        burn_low: `(n_days, n_offers)` lower end of the interval of `burn`: what another day of the
            same kind would cost, carts coming independently (compound Poisson, normal
            approximation, variance the sum of squared costs), cut at 0.
        burn_high: upper end.
        level: level of all intervals.
        day_mean: `(n_offers, 3)` mean cost of a day with its interval, normal over days; the ends
            are NaN where there is one day only.
    """

    n_carts: int
    cost: int
    cart_rate: float
    saving_quantiles: tuple[int, ...]
    offers: tuple[OfferReplay, ...]
    thresholds: tuple[Threshold, ...]
    days: NDArray[np.datetime64]
    burn: NDArray[np.int64]
    burn_low: NDArray[np.float64]
    burn_high: NDArray[np.float64]
    level: float
    day_mean: NDArray[np.float64]


def simulate_offers(
    offers: Sequence[Offer],
    carts: CartBatch,
    context: Context | None = None,
    *,
    level: float = 0.95,
) -> OfferSimulation:
    """Replay logged carts under offers, in the order of time, caps drawn down.

    Nobody reacts: costs are those of carts as they were. What customers would add to reach a
    threshold is not in them; `thresholds` says how many are near one.

    Args:
        offers: see `price_carts`.
        carts: with times, and with users if an offer asks for them.
        context: what holds for all carts; time and user are those of the carts. None = nothing is
            known besides.
        level: level of intervals, in (0, 1).

    Raises:
        DataError: carts without times, no carts, a level outside (0, 1), or see `price_carts`.
    """
    if carts.at is None or len(carts) == 0:
        raise DataError("must hold at least one cart, each with its time", where="carts.at")
    if not 0 < level < 1:
        raise DataError(f"must be in (0, 1); got {level!r}", where="level")
    carts = carts.take(np.argsort(carts.at, kind="stable"))
    done = price_carts(carts, offers, context, draw_caps=True, by_unit=True)
    touched = done.is_applied.any(axis=1)
    savings = done.saving.sum(axis=1)
    days, burn, squares = _by_day(carts, done)
    z = NormalDist().inv_cdf((1 + level) / 2)
    half = z * np.sqrt(squares)
    return OfferSimulation(
        n_carts=len(carts),
        cost=int(done.cost.sum()),
        cart_rate=float(touched.mean()),
        saving_quantiles=_quantiles(savings[touched]),
        offers=tuple(_replay(done, j) for j in range(len(offers))),
        thresholds=tuple(t for offer in offers for t in _thresholds(carts, offer)),
        days=days,
        burn=burn,
        burn_low=np.maximum(burn - half, 0.0),
        burn_high=burn + half,
        level=level,
        day_mean=_day_mean(burn, z),
    )


def _quantiles(values: NDArray[np.int64]) -> tuple[int, ...]:
    if len(values) == 0:
        return ()
    return tuple(np.quantile(values, QUANTILES, method="inverted_cdf").tolist())


def _replay(done: PricedBatch, j: int) -> OfferReplay:
    is_in = done.is_applied[:, j]
    units = done.units
    return OfferReplay(
        offer_id=done.offers[j].id,
        cost=int(done.cost[:, j].sum()),
        n_carts=int(is_in.sum()),
        cart_rate=float(is_in.mean()),
        saving_quantiles=_quantiles(done.saving[is_in, j]),
        full_price_units=0 if units is None else int(units[:, j].sum()),
        reasons=done.reasons(j),
        exhausted_at=_exhausted_at(done, j),
    )


def _exhausted_at(done: PricedBatch, j: int) -> datetime | None:
    at, caps = done.carts.at, done.offers[j].caps
    if at is None or (caps.budget is None and caps.uses is None):
        return None
    spent = [-CODE_OF[r] for r in (Reason.BUDGET_SPENT, Reason.USES_SPENT)]
    is_out = np.isin(done.outcome[:, j], spent)
    if caps.period == "total":  # of days and weeks only the first refusal is told
        for cap, drawn in ((caps.budget, done.cost[:, j]), (caps.uses, done.is_applied[:, j])):
            if cap is not None:
                is_out |= np.cumsum(drawn, dtype=np.int64) >= cap
    first = int(is_out.argmax())
    if not is_out[first]:
        return None
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(at[first].astype(np.int64)))


def _by_day(
    carts: CartBatch, done: PricedBatch
) -> tuple[NDArray[np.datetime64], NDArray[np.int64], NDArray[np.float64]]:
    """Days, cost of each, and sum of the squared costs of its carts."""
    at: NDArray[np.datetime64] = carts.at  # type: ignore[assignment]
    day = at.astype("datetime64[D]")
    days = np.arange(day[0], day[-1] + 1)
    edges = np.searchsorted(day, np.append(days, days[-1] + 1))
    burn, squares = (
        np.diff(np.concatenate([zero, np.cumsum(values, axis=0)])[edges], axis=0)
        for zero, values in (
            (np.zeros((1, len(done.offers)), np.int64), done.cost),
            (np.zeros((1, len(done.offers))), done.cost.astype(np.float64) ** 2),
        )
    )
    return days, burn, squares


def _day_mean(burn: NDArray[np.int64], z: float) -> NDArray[np.float64]:
    n, mean = len(burn), burn.mean(axis=0)
    spread = burn.std(axis=0, ddof=1) if n > 1 else np.full(mean.shape, np.nan)
    half = z * spread / np.sqrt(n)
    return np.stack([mean, mean - half, mean + half], axis=1)


def _thresholds(carts: CartBatch, offer: Offer) -> list[Threshold]:
    asked: list[tuple[Scope, str, int]] = []
    if isinstance(offer.mechanic, Tiered):
        asked += [(offer.scope, offer.mechanic.basis, tier.min) for tier in offer.mechanic.tiers]
    needed = offer.trigger.required_scope or Scope()
    if offer.trigger.min_spend is not None:
        asked.append((needed, "spend", offer.trigger.min_spend))
    if offer.trigger.min_units is not None:
        asked.append((needed, "quantity", offer.trigger.min_units))
    return [_threshold(carts, offer.id, *one) for one in asked]


def _threshold(carts: CartBatch, offer_id: str, scope: Scope, kind: str, least: int) -> Threshold:
    each = carts.quantity * carts.list_price if kind == "spend" else carts.quantity
    inside = carts.lines_in(replace(scope, max_units=None))
    running = np.concatenate([[0], np.cumsum(np.where(inside, each, 0))])
    reached = np.diff(running[carts.start])
    below = reached[(reached > 0) & (reached < least)]
    lacking = (least - below) / least
    bins = np.digitize(lacking, GAPS[1:-1], right=True)
    return Threshold(
        offer_id=offer_id,
        kind=kind,
        least=least,
        n_reached=int((reached >= least).sum()),
        counts=tuple(np.bincount(bins, minlength=len(GAPS) - 1).tolist()),
        n_just_below=int((lacking <= _JUST_BELOW).sum()),
    )
