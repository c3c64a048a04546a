"""The price plan: the most profitable list price of every item within guardrails, or no change.

On the constant-elasticity curve weekly profit at price p is u (p / p0)^b (p - cost). The plan
looks at every price that the guardrails allow on the grid of endings, keeps those that gain even
at the unfavourable end of the elasticity's interval, and takes the one that gains most. Items are
priced one by one: sales that move between items are not seen, which makes cuts look better than
they are for a category; `max_move_rate` bounds what that can cost.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import ndtri

from promo_ray.artifacts.price_plan import PLAN
from promo_ray.config import config_class
from promo_ray.errors import ConfigError, DataError
from promo_ray.pricing.elasticity import ElasticityTable

Floats = NDArray[np.float64]
Rate = Annotated[float, Field(ge=0.0, lt=1.0)]


@config_class
class PriceGuardrails:
    """What a new list price must keep to.

    Attributes:
        max_move_rate: largest change, a share of the old price, in [0, 1).
        min_margin_rate: smallest (price - cost) / price, in [0, 1).
        endings: allowed fractions of a currency unit, each in [0, 1) in whole cents.
        min_gain: smallest expected gain for a change, currency units per week, >= 0.
        confidence: the gain must hold at both ends of the elasticity's two-sided interval of this
            level, in [0, 1).
        stays_in_observed_range: whether prices that were never seen are out of bounds.
        assumed_margin_rate: margin taken for items without unit cost, in [0, 1); None: unchanged.
    """

    max_move_rate: Rate = 0.1
    min_margin_rate: Rate = 0.1
    endings: tuple[Rate, ...] = (0.29, 0.49, 0.79, 0.99)
    min_gain: Annotated[float, Field(ge=0.0)] = 0.5
    confidence: Rate = 0.8
    stays_in_observed_range: bool = True
    assumed_margin_rate: Rate | None = None

    def __post_init__(self) -> None:
        if not self.endings:
            raise ConfigError("endings must have at least one entry; got none")
        for ending in self.endings:
            if abs(100.0 * ending - round(100.0 * ending)) > 1e-9:
                raise ConfigError(f"endings must be whole cents; got {ending!r}")


class _Item(NamedTuple):
    """One item: id and category, elasticity b with its error, prices, cost, units at the price."""

    item_id: str
    category: str
    b: float
    se: float
    n_weeks: int
    price: float
    cost: float | None
    is_active: bool
    weekly_units: float
    low_price: float
    high_price: float


class _Move(NamedTuple):
    price: float
    gain: float
    reason: str


def plan_prices(
    elasticities: ElasticityTable,
    catalog: pa.Table,
    weekly_units: Floats,
    guardrails: PriceGuardrails | None = None,
) -> pa.Table:
    """Propose list prices.

    Args:
        elasticities: of the items of the panel.
        catalog: table of kind `catalog`; every item gets a row.
        weekly_units: `(n,)` units per week at the old list price, in the order of `elasticities`.
        guardrails: limits; defaults if None.

    Returns:
        Table `plan` of kind `price_plan`, in the order of the catalog. `reason` says what bound
        the new price, or why it is the old one.

    Raises:
        DataError: weekly_units does not fit the elasticities.
    """
    rails = guardrails or PriceGuardrails()
    if weekly_units.shape != (len(elasticities.item_ids),) or not (weekly_units >= 0).all():
        raise DataError(
            f"must be {len(elasticities.item_ids)} numbers >= 0; got shape {weekly_units.shape}",
            where="weekly_units",
        )
    rows: dict[str, list[Any]] = {name: [] for name in PLAN.names}
    for item in _items(elasticities, catalog, weekly_units):
        move = _move(item, rails)
        values = {
            "item_id": item.item_id,
            "category": item.category,
            "elasticity": item.b,
            "elasticity_se": item.se,
            "n_weeks": item.n_weeks,
            "old_price": item.price,
            "new_price": move.price,
            "unit_cost": item.cost,
            "weekly_units": item.weekly_units,
            "profit_change": move.gain,
            "reason": move.reason,
        }
        for name, value in values.items():
            rows[name].append(value)
    return pa.table(rows, schema=PLAN)


def _items(table: ElasticityTable, catalog: pa.Table, weekly_units: Floats) -> list[_Item]:
    place = {item_id: i for i, item_id in enumerate(table.item_ids)}
    group = {name: g for g, name in enumerate(table.categories)}
    fallback = float(np.average(table.elasticity)) if len(table.item_ids) else -1.0
    found = []
    for row in catalog.select(
        ["item_id", "category", "list_price", "unit_cost", "is_active"]
    ).to_pylist():
        i = place.get(row["item_id"])
        known = (row["item_id"], row["category"])
        offered = (float(row["list_price"]), row["unit_cost"], bool(row["is_active"]))
        if i is None:
            g = group.get(row["category"])
            b = fallback if g is None else float(table.category_elasticity[g])
            se = float("inf") if g is None else float(table.category_se[g])
            found.append(_Item(*known, b, se, 0, *offered, 0.0, np.nan, np.nan))
            continue
        seen = (float(table.low_price[i]), float(table.high_price[i]))
        estimate = (float(table.elasticity[i]), float(table.se[i]))
        weeks, units = int(table.n_weeks[i]), float(weekly_units[i])
        found.append(_Item(*known, *estimate, weeks, *offered, units, *seen))
    return found


def gain_at(
    item_price: float, cost: float, units: float, elasticity: float, price: Floats
) -> Floats:
    """Weekly profit at `price` less that at `item_price`, currency units.

    Args:
        item_price: present price, > 0.
        cost: unit cost.
        units: weekly units at the present price.
        elasticity: constant elasticity.
        price: `(...)` prices asked.
    """
    ratio = price / item_price
    return units * (ratio**elasticity * (price - cost) - (item_price - cost))


def _move(item: _Item, rails: PriceGuardrails) -> _Move:
    """New price of one item with the gain it promises and the reason."""

    def stay(why: str) -> _Move:
        return _Move(item.price, 0.0, f"unchanged: {why}")

    if not item.is_active:
        return stay("not on sale")
    if item.n_weeks == 0 or item.weekly_units <= 0:
        return stay("no sales")
    cost, note = item.cost, ""
    if cost is None:
        if rails.assumed_margin_rate is None:
            return stay("unit cost unknown")
        cost, note = item.price * (1.0 - rails.assumed_margin_rate), ", unit cost assumed"
    price, bound_by = _allowed(item, cost, rails)
    if not len(price):
        return stay("no price within the guardrails")
    gain = gain_at(item.price, cost, item.weekly_units, item.b, price)
    width = float(ndtri(0.5 + 0.5 * rails.confidence)) * item.se
    ends = [
        gain_at(item.price, cost, item.weekly_units, item.b + sign * width, price)
        for sign in (-1.0, 1.0)
    ]
    is_below_floor = item.price - cost < rails.min_margin_rate * item.price - 1e-9
    if is_below_floor:
        at = int(gain.argmax())
        return _Move(float(price[at]), float(gain[at]), "margin floor" + note)
    if gain.max() < rails.min_gain:
        return stay("gain below the minimum")
    safe = np.flatnonzero((np.minimum(*ends) >= 0.0) & (gain >= rails.min_gain))
    if not len(safe):
        return stay("estimate too weak")
    at = int(safe[gain[safe].argmax()])
    is_edge = at in (0, len(price) - 1)
    reason = bound_by[0 if at == 0 else 1] if is_edge else "best on the demand curve"
    return _Move(float(price[at]), float(gain[at]), reason + note)


def _allowed(item: _Item, cost: float, rails: PriceGuardrails) -> tuple[Floats, tuple[str, str]]:
    """Prices within the guardrails, ascending, and what bounds them below and above."""
    floors = {
        "largest move": item.price * (1.0 - rails.max_move_rate),
        "margin floor": cost / (1.0 - rails.min_margin_rate),
    }
    ceilings = {"largest move": item.price * (1.0 + rails.max_move_rate)}
    if rails.stays_in_observed_range:
        floors["observed prices"] = item.low_price
        ceilings["observed prices"] = item.high_price
    low_by = max(floors, key=lambda k: floors[k])
    high_by = min(ceilings, key=lambda k: ceilings[k])
    # the tolerance lets a bound that is itself a price on the grid in
    low = int(np.ceil(100.0 * floors[low_by] - 1e-6))
    high = int(np.floor(100.0 * ceilings[high_by] + 1e-6))
    units = np.arange(low // 100, high // 100 + 1, dtype=np.int64)
    cents = (100 * units[:, None] + np.array([round(100 * e) for e in rails.endings])).ravel()
    cents = np.unique(cents[(cents >= max(low, 1)) & (cents <= high)])
    cents = cents[cents != round(100.0 * item.price)]
    return cents / 100.0, (low_by, high_by)
