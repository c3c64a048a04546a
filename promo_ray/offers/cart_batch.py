"""Many carts as columns: what `price_carts` reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.errors import DataError
from promo_ray.offers.cart import Cart, CartLine, Shipping, marks_of
from promo_ray.offers.money import MAX_MONEY, minor_digits
from promo_ray.offers.scope import Scope, ScopeBits
from promo_ray.offers.units import key_of

_MAX_QUANTITY = 10**9
_FIRST_AT = np.datetime64("1972-01-01", "us")  # from here on offsets are whole quarters of an hour
_SAFE = {("i", "i"), ("i", "u"), ("b", "b"), ("M", "M")}  # kind of column, kind of values
_TYPES = {
    "start": "int64",
    "item": "int32",
    "list_price": "int64",
    "quantity": "int64",
    "unit_cost": "int64",
    "is_on_sale": "bool",
    "shipping_price": "int64",
    "shipping_method": "int32",
    "at": "datetime64[us]",
    "user": "int32",
}


def _column(values: Any, dtype: str, name: str) -> NDArray[Any]:
    """The values as the kernel reads them; refuses what is lost on the way."""
    found = np.asarray(values)
    own = np.ascontiguousarray(found, dtype=dtype)
    if own is found:
        return own
    if len(found) and (own.dtype.kind, found.dtype.kind) not in _SAFE:
        raise DataError(f"must hold {dtype}; got {found.dtype}", where=f"carts.{name}")
    if (own != found).any():
        raise DataError(f"must fit {dtype}", where=f"carts.{name}")
    return own


class CartItem(NamedTuple):
    """What lines of one item share besides prices; tags sorted."""

    item_id: str
    category: str = ""
    brand: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class CartBatch:
    """Carts of one currency; cart i has the lines `start[i]` to `start[i + 1] - 1`.

    Attributes:
        currency: ISO 4217 code of all prices.
        items: distinct, in rising order.
        start: `(n_carts + 1,)` int64, from 0 to n_lines.
        item: `(n_lines,)` int32, number in `items`.
        list_price: `(n_lines,)` int64 minor units for one unit.
        quantity: `(n_lines,)` int64 units, >= 1.
        unit_cost: `(n_lines,)` int64 minor units; -1 = not known.
        is_on_sale: `(n_lines,)` bool, whether the list price is already a reduced one.
        shipping_price: `(n_carts,)` int64 minor units; -1 = no shipping.
        shipping_method: `(n_carts,)` int32, number in `methods`.
        methods: methods of shipping, at least one.
        at: `(n_carts,)` datetime64[us] in UTC, from 1972 on; None = not known.
        user: `(n_carts,)` int32, number in `users`; None = not known.
        users: distinct user ids.

    Raises:
        DataError: a column has another length, or a value outside its range.
    """

    currency: str
    items: tuple[CartItem, ...]
    start: NDArray[np.int64]
    item: NDArray[np.int32]
    list_price: NDArray[np.int64]
    quantity: NDArray[np.int64]
    unit_cost: NDArray[np.int64]
    is_on_sale: NDArray[np.bool_]
    shipping_price: NDArray[np.int64]
    shipping_method: NDArray[np.int32]
    methods: tuple[str, ...] = ("",)
    at: NDArray[np.datetime64] | None = None
    user: NDArray[np.int32] | None = None
    users: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        minor_digits(self.currency)
        for name, kind in _TYPES.items():
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _column(getattr(self, name), kind, name))
        start, n_lines = self.start, len(self.item)
        ends_well = len(start) > 0 and start[0] == 0 and start[-1] == n_lines
        if not ends_well or (np.diff(start) < 0).any():
            raise DataError("must rise from 0 to the number of lines", where="carts.start")
        for name in ("list_price", "quantity", "unit_cost", "is_on_sale"):
            self._check_length(name, n_lines)
        for name in ("shipping_price", "shipping_method", "at", "user"):
            if getattr(self, name) is not None:
                self._check_length(name, len(self))
        for name, low, high in (
            ("item", 0, len(self.items) - 1),
            ("list_price", 0, MAX_MONEY),
            ("quantity", 1, _MAX_QUANTITY),
            ("unit_cost", -1, MAX_MONEY),
            ("shipping_price", -1, MAX_MONEY),
            ("shipping_method", 0, len(self.methods) - 1),
            ("user", 0, len(self.users) - 1),
        ):
            self._check_range(name, low, high)
        if any(a >= b for a, b in zip(self.items, self.items[1:], strict=False)):
            raise DataError("must be distinct and in rising order", where="carts.items")
        if self.at is not None and len(self.at) and not (self.at >= _FIRST_AT).all():
            raise DataError("must be times from 1972 on", where="carts.at")

    def _check_length(self, name: str, n: int) -> None:
        found = getattr(self, name).shape
        if found != (n,):
            raise DataError(f"must have shape ({n},); got {found}", where=f"carts.{name}")

    def _check_range(self, name: str, low: int, high: int) -> None:
        column = getattr(self, name)
        if column is not None and len(column) and (column.min() < low or column.max() > high):
            raise DataError(
                f"must be in [{low}, {high}]; got {column.min()} to {column.max()}",
                where=f"carts.{name}",
            )

    def __len__(self) -> int:
        """Number of carts."""
        return len(self.start) - 1

    @classmethod
    def of(
        cls,
        carts: Sequence[Cart],
        *,
        currency: str = "USD",
        at: Sequence[np.datetime64] | NDArray[np.datetime64] | None = None,
        user_ids: Sequence[str] | None = None,
    ) -> CartBatch:
        """Columns of carts.

        Args:
            carts: carts of one currency.
            currency: code to take where there are no carts.
            at: instant of each cart in UTC.
            user_ids: user of each cart.

        Raises:
            DataError: two currencies.
        """
        currency = carts[0].currency if carts else currency
        if any(cart.currency != currency for cart in carts):
            raise DataError("carts must have one currency", where="carts.currency")
        lines = [line for cart in carts for line in cart.lines]
        about = [CartItem(*key_of(line)[:4]) for line in lines]
        items = tuple(sorted(set(about)))
        number = {item: i for i, item in enumerate(items)}
        sent = [cart.shipping or Shipping(price=0) for cart in carts]
        methods = tuple(sorted({"", *(s.method for s in sent)}))
        users, user = None, None
        if user_ids is not None:
            users, user = np.unique(np.array(user_ids, dtype=object), return_inverse=True)
        return cls(
            currency=currency,
            items=items,
            start=np.cumsum([0, *(len(cart.lines) for cart in carts)]),
            item=np.array([number[item] for item in about], np.int32),
            list_price=np.array([line.list_price for line in lines], np.int64),
            quantity=np.array([line.quantity for line in lines], np.int64),
            unit_cost=np.array([key_of(line)[5] for line in lines], np.int64),
            is_on_sale=np.array([line.is_on_sale for line in lines], np.bool_),
            shipping_price=np.array(
                [-1 if cart.shipping is None else cart.shipping.price for cart in carts], np.int64
            ),
            shipping_method=np.array([methods.index(s.method) for s in sent], np.int32),
            methods=methods,
            at=None if at is None else np.asarray(at, "datetime64[us]"),
            user=None if user is None else user.astype(np.int32),
            users=() if users is None else tuple(users),
        )

    def cart(self, i: int) -> Cart:
        """Cart i as an object."""
        lines = []
        for k in range(self.start[i], self.start[i + 1]):
            about, cost = self.items[self.item[k]], int(self.unit_cost[k])
            line = CartLine(
                item_id=about.item_id,
                category=about.category,
                brand=about.brand,
                tags=about.tags,
                list_price=int(self.list_price[k]),
                quantity=int(self.quantity[k]),
                unit_cost=None if cost < 0 else cost,
                is_on_sale=bool(self.is_on_sale[k]),
            )
            lines.append(line)
        price = int(self.shipping_price[i])
        method = self.methods[self.shipping_method[i]]
        shipping = None if price < 0 else Shipping(price=price, method=method)
        return Cart(currency=self.currency, lines=tuple(lines), shipping=shipping)

    def take(self, index: NDArray[np.intp]) -> CartBatch:
        """Carts by their numbers, in that order."""
        count = np.diff(self.start)[index]
        start = np.concatenate([[0], np.cumsum(count)])
        lines = np.repeat(self.start[:-1][index] - start[:-1], count) + np.arange(start[-1])
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("item", "list_price", "quantity", "unit_cost", "is_on_sale"):
            columns[name] = columns[name][lines]
        for name in ("shipping_price", "shipping_method", "at", "user"):
            if columns[name] is not None:
                columns[name] = columns[name][index]
        return CartBatch(**{**columns, "start": start})

    def item_masks(self, scopes: ScopeBits) -> NDArray[np.uint64]:
        """`(n_items, n_words)` bit s of an item for a scope that holds it, were it not on sale."""
        n_words = max(1, -(-scopes.n // 64))
        rows = bytearray()
        for item in self.items:
            rows += scopes.holding(marks_of(*item)).to_bytes(8 * n_words, "little")
        return np.frombuffer(rows, "<u8").astype(np.uint64).reshape(-1, n_words)

    def lines_in(self, scope: Scope) -> NDArray[np.bool_]:
        """`(n_lines,)` whether the units of a line are in scope."""
        inside = (self.item_masks(ScopeBits([scope]))[:, 0] > 0)[self.item]
        return inside & ~self.is_on_sale if scope.skip_on_sale else inside
