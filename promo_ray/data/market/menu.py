"""Offers of the market as arrays: what each takes off, from which items, under what condition."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.artifacts.kind import TableSpec
from promo_ray.data.market.config import MarketConfig
from promo_ray.data.market.supply import Supply
from promo_ray.errors import DataError

Floats = NDArray[np.float64]
Cents = NDArray[np.int64]

MECHANICS = ("percent_off", "amount_off", "spend_threshold", "product_bundle", "message")
_TAKEN = 0.5  # a bundle's saving counts by half: the other item must be wanted too


class Menu(NamedTuple):
    """Offers as arrays; row 0 is control.

    Attributes:
        offer_ids: ids in the order of rows 1, 2, ...
        scope: `(n_arms, n_items)` bool items that count.
        line_off: `(n_arms, n_items)` float64 share taken off a redeeming order's lines.
        order_off: `(n_arms,)` int64 cents taken off a redeeming order.
        min_cents: `(n_arms,)` int64 smallest value of the lines in scope to redeem.
        min_lines: `(n_arms,)` int64 fewest lines in scope to redeem.
        felt: `(n_arms, n_items)` float64 reduction as it enters the choice of items.
        saving: `(n_arms, n_items)` float64 reduction as it brings users to the shop.
        contact_cents: `(n_arms,)` float64 cost of one contact, cents (may be a part of one).
    """

    offer_ids: tuple[str, ...]
    scope: NDArray[np.bool_]
    line_off: Floats
    order_off: Cents
    min_cents: Cents
    min_lines: NDArray[np.int64]
    felt: Floats
    saving: Floats
    contact_cents: Floats

    @property
    def n_arms(self) -> int:
        """Offers and control."""
        return len(self.scope)


def _number(offer: dict[str, Any], name: str, high: float) -> float:
    value = offer[name]
    if value is None or not 0.0 <= value <= high:
        raise DataError(
            f"{name} of a {offer['mechanic']} offer must be in [0, {high:g}]; got {value!r}",
            where=f"offer {offer['offer_id']}",
        )
    return float(value)


def _scope(supply: Supply, size: int, offer: dict[str, Any]) -> NDArray[np.bool_]:
    """`(n_items,)` items of the offer: those named, else its category, else all."""
    where = f"offer {offer['offer_id']}"
    if offer["item_ids"]:
        inside = np.isin(supply.item_ids, offer["item_ids"])
        if inside.sum() != len(set(offer["item_ids"])):
            raise DataError("item_ids must be items of the catalog; some are not", where=where)
        return np.asarray(inside)
    scope = offer["scope"]
    if scope is None:
        return np.ones(len(supply.item_ids), dtype=bool)
    of_path = [path == scope or path.startswith(f"{scope} > ") for path in supply.categories]
    if not any(of_path):
        raise DataError(f"scope must be a category of the catalog; got {scope!r}", where=where)
    return np.repeat(of_path, size)


def menu_of(config: MarketConfig, supply: Supply, offers: pa.Table) -> Menu:
    """Arrays of a table of offer terms.

    Raises:
        DataError: unknown mechanic, scope or item, or a parameter out of range.
    """
    rows = TableSpec(schema=OFFER_TERMS).conform(offers, "offers").to_pylist()
    n_arms, size = len(rows) + 1, config.items_per_category
    shape = (n_arms, config.n_items)
    scope = np.zeros(shape, dtype=bool)
    line_off, felt, saving = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    order_off, min_cents = np.zeros(n_arms, np.int64), np.ones(n_arms, np.int64)
    min_lines = np.ones(n_arms, np.int64)
    value = supply.demand.repeat(size) / size * supply.list_cents
    for j, offer in enumerate(rows, start=1):
        mechanic = offer["mechanic"]
        if mechanic not in MECHANICS:
            raise DataError(
                f"mechanic must be one of {', '.join(MECHANICS)}; got {mechanic!r}",
                where=f"offer {offer['offer_id']}",
            )
        if mechanic == "message":
            continue
        scope[j] = inside = _scope(supply, size, offer)
        usual = supply.usual_cents * float(value[inside].sum() / value.sum())
        if mechanic in ("percent_off", "product_bundle"):
            depth = _number(offer, "depth_rate", 1.0)
            line_off[j] = depth * inside
            is_bundle = mechanic == "product_bundle"
            min_lines[j] = 2 if is_bundle else 1
            felt[j] = saving[j] = depth * inside * (_TAKEN if is_bundle else 1.0)
            continue
        order_off[j] = round(100.0 * _number(offer, "amount", 1e6))
        if mechanic == "amount_off":
            felt[j] = saving[j] = min(order_off[j] / usual, 0.5) * inside
        else:
            min_cents[j] = max(round(100.0 * _number(offer, "threshold", 1e6)), 1)
            order_off[j] = min(order_off[j], min_cents[j])
            saving[j] = order_off[j] / min_cents[j] * min(1.0, usual / min_cents[j]) * inside
    contact = [0.0, *(100.0 * offer["contact_cost"] for offer in rows)]
    ids = tuple(offer["offer_id"] for offer in rows)
    return Menu(
        ids, scope, line_off, order_off, min_cents, min_lines, felt, saving, np.array(contact)
    )
