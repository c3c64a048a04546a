"""Carts out of the table of events: what was bought together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from promo_ray.errors import DataError
from promo_ray.offers.cart_batch import CartBatch, CartItem
from promo_ray.offers.money import minor_digits


def carts_of_events(
    events: pa.Table, catalog: pa.Table | None = None, currency: str = "USD"
) -> CartBatch:
    """Carts of the purchases in a table of events, in the order of time.

    Purchases of one user with one `order_id` make a cart; without one, those of one instant. The
    list price of a line is what was paid plus the line's discount, per unit, rounded half up to
    minor units; `is_on_sale` says that there was a discount. There is no shipping.

    Args:
        events: columns of the events artifact; rows that are no purchase, or of no units, are
            left out.
        catalog: columns of the catalog artifact, for category, brand and cost; items that it does
            not hold have none.
        currency: ISO 4217 code of the prices.

    Raises:
        DataError: no table of events, or a price below zero.
    """
    needed = ("user_id", "item_id", "event_type", "at", "quantity", "unit_price")
    for name in needed:
        if name not in events.column_names:
            raise DataError(f"column {name!r} must be present", where="events")
    is_sold = pc.and_(pc.equal(events["event_type"], "purchase"), pc.greater(events["quantity"], 0))
    sold = events.filter(is_sold)
    users, user = _codes(sold["user_id"])
    ids, item = _codes(sold["item_id"])
    at = sold["at"].to_numpy().astype("datetime64[us]")
    order = _order_codes(sold)
    first_at, cart_key = _carts(user, order, at)
    by_cart = np.lexsort((np.arange(len(at)), cart_key))
    start = np.searchsorted(cart_key[by_cart], np.arange(len(first_at) + 1))
    quantity = sold["quantity"].to_numpy().astype(np.int64)
    discount = _numbers(sold, "discount")
    list_price = sold["unit_price"].to_numpy() + discount / quantity
    if len(list_price) and not list_price.min() >= 0:
        raise DataError("list price must be >= 0; one is below, or not a number", where="events")
    items, place, cost = _items(ids, catalog, currency)
    item = place[item]
    return CartBatch(
        currency=currency,
        items=items,
        start=start,
        item=item[by_cart],
        list_price=_minor(list_price, currency)[by_cart],
        quantity=quantity[by_cart],
        unit_cost=cost[item][by_cart],
        is_on_sale=(discount > 0)[by_cart],
        shipping_price=np.full(len(first_at), -1, np.int64),
        shipping_method=np.zeros(len(first_at), np.int32),
        at=first_at,
        user=user[by_cart][start[:-1]],
        users=users,
    )


def _codes(column: pa.ChunkedArray) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Distinct texts in rising order, and the number of each row's."""
    found = pa.chunked_array(column.chunks, column.type).combine_chunks().dictionary_encode()
    if isinstance(found, pa.ChunkedArray):
        found = found.unify_dictionaries().combine_chunks()
    names = found.dictionary.to_pylist()
    order = sorted(range(len(names)), key=lambda i: names[i])
    place = np.empty(len(names), np.int32)
    place[order] = np.arange(len(names), dtype=np.int32)
    numbers = found.indices.to_numpy(zero_copy_only=False)
    return tuple(names[i] for i in order), place[numbers] if len(numbers) else place[:0]


def _order_codes(sold: pa.Table) -> NDArray[np.int32]:
    """Number of the order of each row; -1 = none."""
    if "order_id" not in sold.column_names:
        return np.full(sold.num_rows, -1, np.int32)
    column = sold["order_id"].cast(pa.string())
    numbers = _codes(pc.fill_null(column, ""))[1]
    return np.where(pc.is_null(column).to_numpy(), np.int32(-1), numbers)


def _carts(
    user: NDArray[np.int32], order: NDArray[np.int32], at: NDArray[np.datetime64]
) -> tuple[NDArray[np.datetime64], NDArray[np.intp]]:
    """Instant of each cart, rising, and the cart of each row."""
    own = np.where(order >= 0, 0, at.astype(np.int64))  # without an order the instant tells
    keys = np.stack([user.astype(np.int64), order.astype(np.int64), own])
    _, cart = np.unique(keys, axis=1, return_inverse=True)
    cart = cart.reshape(-1)
    n = int(cart.max()) + 1 if len(cart) else 0
    first = np.full(n, np.iinfo(np.int64).max, np.int64)
    np.minimum.at(first, cart, at.astype(np.int64))
    turn = np.argsort(first, kind="stable")
    place = np.empty(n, np.intp)
    place[turn] = np.arange(n)
    return first[turn].astype("datetime64[us]"), place[cart]


def _numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    if name not in table.column_names:
        return np.zeros(table.num_rows)
    found: NDArray[np.float64] = table[name].cast(pa.float64()).to_numpy()
    return np.nan_to_num(found)


def _minor(money: NDArray[np.float64], currency: str) -> NDArray[np.int64]:
    """Currency units to minor units, half up on six decimals (1.005 is 1.005)."""
    scaled = np.round(money * 10 ** minor_digits(currency), 6)
    minor: NDArray[np.int64] = np.floor(scaled + 0.5).astype(np.int64)
    return minor


def _items(
    ids: tuple[str, ...], catalog: pa.Table | None, currency: str
) -> tuple[tuple[CartItem, ...], NDArray[np.int32], NDArray[np.int64]]:
    """Items in rising order (that of their ids), place of each id, cost of each item."""
    known: dict[str, dict[str, Any]] = {}
    if catalog is not None:
        names = [
            n for n in ("item_id", "category", "brand", "unit_cost") if n in catalog.column_names
        ]
        rows = catalog.select(names).filter(
            pc.is_in(catalog["item_id"], pa.array(ids, pa.string()))
        )
        known = {row["item_id"]: row for row in rows.to_pylist()}
    own = [known.get(item_id, {}) for item_id in ids]
    items = tuple(
        CartItem(item_id, row.get("category") or "", row.get("brand") or "")
        for item_id, row in zip(ids, own, strict=True)
    )
    costs = np.array([np.nan if row.get("unit_cost") is None else row["unit_cost"] for row in own])
    minor = _minor(np.nan_to_num(costs), currency)
    cost = np.where(np.isnan(costs), -1, minor).astype(np.int64)
    return items, np.arange(len(ids), dtype=np.int32), cost
