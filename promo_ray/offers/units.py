"""Units of a cart in canonical order, kept as runs of equal ones, and how an offer changes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from promo_ray.offers.cart import CartLine
from promo_ray.offers.mechanics.base import Reward, Taken, Units
from promo_ray.offers.money import FULL_BP
from promo_ray.offers.offer import Offer
from promo_ray.offers.reasons import Reason

# what offers left on a unit
CLOSED = 1  # by an exclusive offer, to all
STOPPED = 2  # to offers of the same layer
TOUCHED = 4  # some offer used it


Key = tuple[str, str, str, tuple[str, ...], int, int, bool]


def key_of(line: CartLine) -> Key:
    """What units of lines must share to be equal; the canonical order sorts by it."""
    cost = -1 if line.unit_cost is None else line.unit_cost
    tags = tuple(sorted(line.tags))
    about = (line.item_id, line.category, line.brand, tags)
    return (*about, line.list_price, cost, line.is_on_sale)


def units_of(lines: Sequence[CartLine]) -> list[Units]:
    """All units of a cart in canonical order: sorted by item, equal ones as one run."""
    count: dict[Key, int] = {}
    holder: dict[Key, CartLine] = {}
    for line in lines:
        key = key_of(line)
        count[key] = count.get(key, 0) + line.quantity
        holder.setdefault(key, line)
    return [one_run(holder[key], count[key], i) for i, key in enumerate(sorted(count))]


def one_run(line: CartLine, quantity: int, item: int = 0) -> Units:
    """Units that no offer has touched."""
    price = line.list_price
    return Units(line, quantity, price, price, price, item)


class Open(NamedTuple):
    """Units that an offer may touch: `units[j]` are the first of run number `where[j]`."""

    where: list[int]
    units: list[Units]


def open_units(offer: Offer, runs: Sequence[Units]) -> Open | Reason:
    """Units in scope that are not closed, with what may be taken off them; or why none."""
    scope, caps = offer.scope, offer.caps
    where: Sequence[int] = range(len(runs))
    if not scope.is_all:
        where = [i for i, run in enumerate(runs) if scope.holds(run.line)]
    if not where:
        return Reason.NOT_IN_SCOPE
    barred = CLOSED | STOPPED | (TOUCHED if _keeps_units(offer) else 0)
    where = [i for i in where if not runs[i].marks & barred]
    if not where:
        return Reason.CLOSED
    units = [runs[i] for i in where]
    if caps.min_margin_bp is not None:
        where = [i for i in where if runs[i].line.unit_cost is not None]
        if not where:
            return Reason.COST_UNKNOWN
        units = [runs[i] for i in where]
    if caps.floor_price is not None or caps.min_margin_bp is not None:
        units = [u._replace(room=max(0, u.price - _floor(offer, u.line))) for u in units]
    if scope.max_units is not None:
        return _cheapest(Open(where, units), scope.max_units, offer.stacking.base)
    return Open(where, units)


def _keeps_units(offer: Offer) -> bool:
    """Whether an offer shares its units with no other; in other layers it keeps the layer."""
    return offer.stacking.exclusive and offer.layer == "item"


def _floor(offer: Offer, line: CartLine) -> int:
    """Lowest price that an offer may take a unit to, minor units."""
    floor = offer.caps.floor_price or 0
    if offer.caps.min_margin_bp is not None and line.unit_cost is not None:
        part = FULL_BP - offer.caps.min_margin_bp  # cost as a share of the lowest price
        floor = max(floor, -(-line.unit_cost * FULL_BP // part))
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
    offer: Offer,
    runs: Sequence[Units],
    where: Sequence[int],
    reward: Reward,
    shares: Sequence[tuple[int, int]],
) -> list[Units]:
    """Runs after an offer that saved something.

    Args:
        offer: the offer.
        runs: all runs.
        where: numbers of the runs that the reward speaks of.
        reward: what the offer touches of them.
        shares: what it takes off them, see `allocate`.
    """
    marks = TOUCHED | (STOPPED if offer.stacking.stop else 0)
    if _keeps_units(offer):
        marks |= CLOSED
    used = reward.used or (0,) * len(where)
    name, in_items = offer.id, offer.layer == "item"
    new = tuple.__new__  # half the time of Units(...), and most of the pricer's time is here
    after: list[Units] = []
    done = 0
    for i, (share, n_more), n_off, n_used in zip(where, shares, reward.reduced, used, strict=True):
        after += runs[done:i]
        done = i + 1
        line, quantity, price, item_price, _, item, taken, own = runs[i]
        own |= marks
        if n_more:
            less = price - share - 1
            kept = less if in_items else item_price
            history: Taken | None = (taken, name, share + 1)
            after.append(new(Units, (line, n_more, less, kept, less, item, history, own)))
        n = n_off - n_more
        if n:
            less = price - share
            kept = less if in_items else item_price
            history = (taken, name, share) if share else taken
            after.append(new(Units, (line, n, less, kept, less, item, history, own)))
        if n_used:
            after.append(Units(line, n_used, price, item_price, price, item, taken, own))
        rest = quantity - n_off - n_used
        if rest:
            after.append(runs[i] if rest == quantity else runs[i]._replace(quantity=rest))
    after += runs[done:]
    return after
