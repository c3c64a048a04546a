"""A grid of offers made from nothing but the shop: good-looking steps of every mechanic."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from pydantic import ConfigDict

from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.design.grid import OfferGrid, free_id, minor_unit, nice_step, place_of, size_of
from promo_ray.errors import ConfigError, DataError
from promo_ray.offers import from_terms

MECHANICS = ("percent_off", "amount_off", "spend_threshold", "product_bundle")


@dataclass(frozen=True, kw_only=True)
class GridSteps:
    """Steps of a wide grid.

    Attributes:
        mechanics: mechanics to design, of `MECHANICS`.
        depth_rates: shares off of percent_off and of bundles.
        amount_rates: amounts off as shares of the median basket, or of the threshold; each is
            rounded to a good-looking amount.
        threshold_quantiles: thresholds as quantiles of the baskets, rounded alike.
        contact_cost: currency units to send an offer to one user.

    Raises:
        ConfigError: a field out of range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    mechanics: tuple[str, ...] = MECHANICS
    depth_rates: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
    amount_rates: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2, 0.3)
    threshold_quantiles: tuple[float, ...] = (0.3, 0.5, 0.65, 0.8, 0.9, 0.95)
    contact_cost: float = 0.0

    def __post_init__(self) -> None:
        for name in self.mechanics:
            if name not in MECHANICS:
                raise ConfigError(f"mechanics must be of {', '.join(MECHANICS)}; got {name!r}")
        for field in ("depth_rates", "amount_rates", "threshold_quantiles"):
            rates = getattr(self, field)
            if not isinstance(rates, tuple | list) or not all(map(_is_rate, rates)):
                raise ConfigError(f"{field} must be a tuple of numbers in (0, 1); got {rates!r}")
        if not self.mechanics or not self.depth_rates or not self.amount_rates:
            raise ConfigError("mechanics, depth_rates and amount_rates must not be empty")
        cost = self.contact_cost
        if not (isinstance(cost, int | float) and 0 <= cost < np.inf):
            raise ConfigError(f"contact_cost must be finite and >= 0; got {cost!r}")


def _is_rate(value: object) -> bool:
    return isinstance(value, float | np.floating) and bool(0 < value < 1)


def wide_grid(
    baskets: ArrayLike,
    *,
    steps: GridSteps | None = None,
    scopes: Sequence[str] = (),
    bundles: Sequence[Sequence[str]] = (),
    tried: pa.Table | None = None,
    currency: str = "USD",
) -> OfferGrid:
    """Candidates of all mechanics on good-looking steps.

    Args:
        baskets: `(n,)` order values of the shop, currency units; NaN are left out.
        steps: see `GridSteps`.
        scopes: category paths that percentages and amounts may apply to, beside the whole basket.
        bundles: item sets, see `bundles.propose_bundles`; none = no bundle.
        tried: offers of the campaign log, schema `OFFER_TERMS`; tells what is supported. None =
            nothing was tried.
        currency: ISO 4217 code, for labels.

    Raises:
        ConfigError: a setting out of range.
        DataError: no basket above 0, or no offer at all.
    """
    steps = steps or GridSteps()
    if len(set(scopes)) < len(scopes):
        raise ConfigError(f"scopes must be unique; got {list(scopes)}")
    values = np.asarray(baskets, dtype=np.float64)
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        raise DataError("must hold at least one order value above 0", where="baskets")
    rows, unit, taken = [], minor_unit(currency), set[str]()
    for mechanic in steps.mechanics:
        for parameters in _parameters(mechanic, steps, values, scopes, bundles, unit):
            row = {name: None for name in OFFER_TERMS.names} | {"mechanic": mechanic} | parameters
            row |= {"contact_cost": steps.contact_cost, "offer_id": free_id(row, taken)}
            row |= {"label": ""}
            row["label"] = from_terms(row, currency).describe()
            rows.append(row)
    if not rows:
        raise DataError("must allow at least one offer; bundles need item sets", where="steps")
    known = [] if tried is None else tried.select(OFFER_TERMS.names).to_pylist()
    return OfferGrid(
        pa.Table.from_pylist(rows, schema=OFFER_TERMS),
        np.array([any(_is_same(row, old) for old in known) for row in rows]),
        np.array([_is_between(row, known) for row in rows]),
    )


def good_looking(value: float, unit: float = 0.01) -> float:
    """The nearest amount of one or two digits, the second a 0 or 5 from 20 on in each decade.

    Args:
        value: currency units.
        unit: the smallest amount there is; all are whole numbers of it.
    """
    step = max(nice_step(value / 10), unit)
    return round(max(step, round(value / step) * step), 6)


def _parameters(
    mechanic: str,
    steps: GridSteps,
    baskets: NDArray[np.float64],
    scopes: Sequence[str],
    bundles: Sequence[Sequence[str]],
    unit: float,
) -> Iterator[dict[str, Any]]:
    median = float(np.median(baskets))
    if mechanic == "product_bundle":
        for items, depth in itertools.product(bundles, steps.depth_rates):
            yield {"item_ids": list(items), "depth_rate": depth}
    elif mechanic == "spend_threshold":
        quantiles = np.quantile(baskets, steps.threshold_quantiles)
        levels = {good_looking(float(q), unit) for q in quantiles}
        for threshold in sorted(levels):
            amounts = sorted({good_looking(r * threshold, unit) for r in steps.amount_rates})
            for amount in amounts:
                if amount < threshold:
                    yield {"threshold": threshold, "amount": amount}
    else:
        amounts = sorted({good_looking(rate * median, unit) for rate in steps.amount_rates})
        for scope in (None, *scopes):
            if mechanic == "percent_off":
                yield from ({"scope": scope, "depth_rate": d} for d in steps.depth_rates)
            else:
                yield from ({"scope": scope, "amount": a} for a in amounts)


def _ratios(row: Mapping[str, Any]) -> tuple[float, float, float]:
    """Size, threshold, and what the size is of the threshold."""
    size, threshold = size_of(row), row["threshold"] or 0.0
    return size, threshold, size / threshold if threshold else 0.0


def _is_same(row: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    return place_of(row) == place_of(old) and np.allclose(_ratios(row), _ratios(old), rtol=1e-9)


def _is_between(row: Mapping[str, Any], known: Sequence[Mapping[str, Any]]) -> bool:
    """Within the range of the tried offers of its mechanic and place."""
    alike = [_ratios(old) for old in known if place_of(old) == place_of(row)]
    if not alike:
        return False
    low, high, mine = np.min(alike, axis=0), np.max(alike, axis=0), np.array(_ratios(row))
    return bool(((mine >= low - 1e-9) & (mine <= high + 1e-9)).all())
