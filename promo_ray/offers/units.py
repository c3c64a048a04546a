"""Units of a cart in canonical order, kept as runs of equal ones, and how an offer changes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from promo_ray.offers.cart import CartLine
from promo_ray.offers.mechanics.base import Reward, Units
from promo_ray.offers.money import FULL_BP, allocate
from promo_ray.offers.offer import Offer
from promo_ray.offers.reasons import Reason

# what offers left on a unit
CLOSED = 1  # by an exclusive offer, to all
STOPPED = 2  # to offers of the same layer
TOUCHED = 4  # some offer used it


Key = tuple[str, str, str, tuple[str, ...], int, int, bool]


class Run(NamedTuple):
    """Equal units that went through the same; money in minor units.

    Attributes:
        item: number of their item in the canonical order.
        quantity: units, >= 1.
        price: of one unit, after the offers so far.
        item_price: of one unit, after the item offers so far.
        taken: `(offer id, minor units)` off each unit.
        marks: CLOSED, STOPPED, TOUCHED.
    """

    item: int
    quantity: int
    price: int
    item_price: int
    taken: tuple[tuple[str, int], ...] = ()
    marks: int = 0


def key_of(line: CartLine) -> Key:
    """What units of lines must share to be equal; the canonical order sorts by it."""
    cost = -1 if line.unit_cost is None else line.unit_cost
    tags = tuple(sorted(line.tags))
    about = (line.item_id, line.category, line.brand, tags)
    return (*about, line.list_price, cost, line.is_on_sale)


def runs_of(lines: Sequence[CartLine]) -> tuple[list[CartLine], list[Run]]:
    """Items in canonical order, each by a line that holds it, and all units as runs."""
    count: dict[Key, int] = {}
    holder: dict[Key, CartLine] = {}
    for line in lines:
        key = key_of(line)
        count[key] = count.get(key, 0) + line.quantity
        holder.setdefault(key, line)
    keys = sorted(count)
    items = [holder[key] for key in keys]
    prices = [item.list_price for item in items]
    return items, [Run(i, count[k], prices[i], prices[i]) for i, k in enumerate(keys)]


class Open(NamedTuple):
    """Units that an offer may touch: `units[j]` are the first of `runs[where[j]]`."""

    where: list[int]
    units: list[Units]


def open_units(offer: Offer, items: Sequence[CartLine], runs: Sequence[Run]) -> Open | Reason:
    """Units in scope that are not closed, with what may be taken off them; or why none."""
    scope, caps = offer.scope, offer.caps
    covered = [scope.covers(item.marks, item.is_on_sale) for item in items]
    if True not in covered:
        return Reason.NOT_IN_SCOPE
    barred = CLOSED | STOPPED | (TOUCHED if _keeps_units(offer) else 0)
    where = [i for i, r in enumerate(runs) if covered[r.item] and not r.marks & barred]
    if not where:
        return Reason.CLOSED
    if caps.min_margin_bp is not None:
        where = [i for i in where if items[runs[i].item].unit_cost is not None]
        if not where:
            return Reason.COST_UNKNOWN
    if caps.floor_price is None and caps.min_margin_bp is None:
        rooms = [runs[i].price for i in where]
    else:
        rooms = [max(0, runs[i].price - _floor(offer, items[runs[i].item])) for i in where]
    units = [
        Units(items[runs[i].item], runs[i].quantity, runs[i].price, runs[i].item_price, room)
        for i, room in zip(where, rooms, strict=True)
    ]
    if scope.max_units is not None:
        return _cheapest(Open(where, units), scope.max_units, offer.stacking.base)
    return Open(where, units)


def _keeps_units(offer: Offer) -> bool:
    """Whether an offer shares its units with no other; in other layers it keeps the layer."""
    return offer.stacking.exclusive and offer.layer == "item"


def _floor(offer: Offer, item: CartLine) -> int:
    """Lowest price that an offer may take a unit to, minor units."""
    floor = offer.caps.floor_price or 0
    if offer.caps.min_margin_bp is not None and item.unit_cost is not None:
        part = FULL_BP - offer.caps.min_margin_bp  # cost as a share of the lowest price
        floor = max(floor, -(-item.unit_cost * FULL_BP // part))
    return floor


def _cheapest(inside: Open, n: int, base: str) -> Open:
    """The `n` cheapest units."""
    kept: dict[int, Units] = {}
    for j in sorted(range(len(inside.units)), key=lambda j: inside.units[j].basis(base)):
        unit = inside.units[j]
        if n:
            kept[j] = unit._replace(quantity=min(unit.quantity, n))
            n -= kept[j].quantity
    order = sorted(kept)
    return Open([inside.where[j] for j in order], [kept[j] for j in order])


def reduced(
    offer: Offer, runs: Sequence[Run], where: Sequence[int], reward: Reward, limit: int | None
) -> tuple[int, list[Run]]:
    """Saving in minor units and the runs after it; a saving of 0 leaves them as they are."""
    limits = [cap for cap in (reward.limit, limit) if cap is not None]
    saving, shares = allocate(
        reward.off, reward.den, reward.reduced, min(limits) if limits else None
    )
    if saving == 0:
        return 0, list(runs)
    marks = TOUCHED | (STOPPED if offer.stacking.stop else 0)
    if _keeps_units(offer):
        marks |= CLOSED
    used = reward.used or (0,) * len(where)
    in_items = offer.layer == "item"
    after: list[Run] = []
    done = 0
    for i, (share, n_more), n_off, n_used in zip(where, shares, reward.reduced, used, strict=True):
        after += runs[done:i]
        done = i + 1
        item, quantity, price, item_price, taken, own = runs[i]
        own |= marks
        for off, n in ((share + 1, n_more), (share, n_off - n_more)):
            if n:
                less = price - off
                history = (*taken, (offer.id, off)) if off else taken
                after.append(Run(item, n, less, less if in_items else item_price, history, own))
        if n_used:
            after.append(Run(item, n_used, price, item_price, taken, own))
        if quantity > n_off + n_used:
            after.append(runs[i]._replace(quantity=quantity - n_off - n_used))
    after += runs[done:]
    return saving, after
