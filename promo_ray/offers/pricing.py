"""Exact pricing of a cart under offers: integers only, one order, every cent accounted for.

The nine steps are written out in `docs/offers.md`. In short: units in canonical order; offers
that the customer cannot have are rejected; item offers, then order offers, then shipping offers,
in each layer by (priority, id), groups at the turn of their first member; an offer rounds once and
shares out by largest remainder; its caps bind at once, so that later offers see true prices;
gifts come last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from promo_ray.offers.bill import priced
from promo_ray.offers.cart import Cart, CartLine, Context, GiftLine, PricedCart
from promo_ray.offers.eligibility import entered, left_of, reason_of
from promo_ray.offers.mechanics.base import Reward, Units
from promo_ray.offers.mechanics.gift import Gift
from promo_ray.offers.money import allocate
from promo_ray.offers.offer import Offer, check_together
from promo_ray.offers.reasons import Reason
from promo_ray.offers.scope import Scope
from promo_ray.offers.terms import LAYERS
from promo_ray.offers.units import STOPPED, one_run, open_units, reduced, units_of

_ANY = Scope()


class _Outcome(NamedTuple):
    """What an offer would do: minor units off, and how they fall on runs, or a gift."""

    saving: int
    where: Sequence[int] = ()
    reward: Reward | None = None
    shares: Sequence[tuple[int, int]] = ()
    gift: GiftLine | None = None


@dataclass
class _State:
    """Where pricing stands."""

    context: Context
    goods: list[Units]
    shipping: list[Units]  # one unit or none
    applied: list[Offer] = field(default_factory=list)
    rejected: dict[str, Reason] = field(default_factory=dict)
    gifts: list[GiftLine] = field(default_factory=list)
    groups: set[str] = field(default_factory=set)  # groups of which one member applied
    layers: set[str] = field(default_factory=set)  # layers of which an offer applied
    open_layers: set[str] = field(default_factory=lambda: set(LAYERS))  # combine with all applied
    closed_layers: set[str] = field(default_factory=set)  # closed by an exclusive offer


def price_by_rules(cart: Cart, offers: Sequence[Offer], context: Context) -> PricedCart:
    """Price a cart with the standard library alone; what the compiled pricer is judged by.

    See `price_cart` for arguments and errors.
    """
    state = _start(cart, context)
    layers: dict[str, list[Offer]] = {layer: [] for layer in LAYERS}
    gifts: list[Offer] = []
    groups: dict[str, list[Offer]] = {}
    codes = entered(context)
    check_together(offers, cart.currency, "the cart")
    for offer in sorted(offers, key=lambda offer: offer.order):
        if isinstance(offer.mechanic, Gift):
            offer.mechanic.chosen(offer.id, context.gift_choice)  # refuse a wrong one at once
        reason = reason_of(offer, context, codes)
        if reason is not None:
            state.rejected[offer.id] = reason
            continue
        if offer.stacking.is_compared and offer.stacking.group is not None:
            groups.setdefault(offer.stacking.group, []).append(offer)
            if len(groups[offer.stacking.group]) > 1:
                continue  # judged at the turn of the first
        (gifts if isinstance(offer.mechanic, Gift) else layers[offer.layer]).append(offer)
    for layer in LAYERS:
        for offer in layers[layer]:
            is_compared = offer.stacking.is_compared
            _turn(state, groups[offer.stacking.group or ""] if is_compared else [offer])
        if any(run.marks & STOPPED for run in state.goods):
            state.goods = [run._replace(marks=run.marks & ~STOPPED) for run in state.goods]
    for offer in gifts:
        _turn(state, [offer])
    return priced(cart, state.applied, state.rejected, state.gifts, state.goods, state.shipping)


def _start(cart: Cart, context: Context) -> _State:
    shipping = []
    if cart.shipping is not None:
        unit = CartLine(item_id=cart.shipping.method, list_price=cart.shipping.price)
        shipping = [one_run(unit, 1)]
    return _State(context, units_of(cart.lines), shipping)


def _turn(state: _State, members: Sequence[Offer]) -> None:
    """Let an offer apply, or the member of a group that saves most, or least; ties by id."""
    sign = 1 if members[0].stacking.in_group == "smallest" else -1
    best: tuple[Offer, _Outcome] | None = None
    for offer in members:
        outcome = _attempt(state, offer)
        if isinstance(outcome, Reason):
            state.rejected[offer.id] = outcome
            continue
        if best is None or (sign * outcome.saving, offer.id) < (sign * best[1].saving, best[0].id):
            best, beaten = (offer, outcome), best
        else:
            beaten = (offer, outcome)
        if beaten is not None:
            state.rejected[beaten[0].id] = Reason.GROUP_BEATEN
    if best is not None:
        _accept(state, *best)


def _accept(state: _State, offer: Offer, outcome: _Outcome) -> None:
    state.applied.append(offer)
    if outcome.gift is not None:
        state.gifts.append(outcome.gift)
    elif outcome.reward is not None:
        in_shipping = offer.layer == "shipping"
        runs = state.shipping if in_shipping else state.goods
        runs = reduced(offer, runs, outcome.where, outcome.reward, outcome.shares)
        if in_shipping:
            state.shipping = runs
        else:
            state.goods = runs
    stacking = offer.stacking
    if stacking.group is not None and stacking.in_group == "first":
        state.groups.add(stacking.group)
    state.layers.add(offer.layer)
    state.open_layers.intersection_update(stacking.combines_with)
    if stacking.exclusive and offer.layer != "item":
        state.closed_layers.add(offer.layer)


def _attempt(state: _State, offer: Offer) -> _Outcome | Reason:
    """What an offer would do now, or why nothing."""
    layer, stacking = offer.layer, offer.stacking
    if stacking.group in state.groups:
        return Reason.GROUP_TAKEN
    if layer in state.closed_layers:
        return Reason.LAYER_CLOSED
    if stacking.exclusive and layer != "item" and layer in state.layers:
        return Reason.LAYER_CLOSED
    if layer not in state.open_layers or not state.layers.issubset(stacking.combines_with):
        return Reason.NOT_COMBINABLE
    reason = _unmet(state, offer)
    if reason is not None:
        return reason
    if isinstance(offer.mechanic, Gift):
        return _give(state, offer, offer.mechanic)
    runs = state.shipping if layer == "shipping" else state.goods
    if layer == "shipping" and not runs:
        return Reason.NO_SHIPPING
    inside = open_units(offer, runs)
    if isinstance(inside, Reason):
        return inside
    reward = offer.mechanic.reward(inside.units, stacking.base, offer.trigger.spend_basis)
    if isinstance(reward, Reason):
        return reward
    limit = reward.limit
    if offer.has_caps:
        limit = _least(limit, _money_left(state, offer))
    saving, shares = allocate(reward.off, reward.den, reward.reduced, limit)
    if saving == 0:
        return Reason.NOTHING_LEFT
    return _Outcome(saving, inside.where, reward, shares)


def _unmet(state: _State, offer: Offer) -> Reason | None:
    """Why what the offer asks of the cart is not met; closed units count here."""
    trigger = offer.trigger
    if trigger.min_spend is None and trigger.min_units is None and trigger.required_scope is None:
        return None
    scope = trigger.required_scope or _ANY
    inside = [run for run in state.goods if scope.holds(run.line)]
    least = trigger.min_units or int(trigger.min_spend is None)  # a spend asks for units by itself
    if sum(run.quantity for run in inside) < least:
        return Reason.BELOW_MIN_UNITS
    if trigger.min_spend is None:
        return None
    if trigger.spend_basis == "list":
        spend = sum(run.quantity * run.line.list_price for run in inside)
    else:
        spend = sum(run.quantity * run.item_price for run in inside)
    return Reason.BELOW_MIN_SPEND if spend < trigger.min_spend else None


def _money_left(state: _State, offer: Offer) -> int | None:
    left = left_of(offer, state.context.left)
    return _least(offer.caps.per_order_money, left.user_money, left.budget)


def _least(*limits: int | None) -> int | None:
    """Smallest limit; None stands for no limit."""
    return min((limit for limit in limits if limit is not None), default=None)


def _give(state: _State, offer: Offer, gift: Gift) -> _Outcome | Reason:
    sku = gift.chosen(offer.id, state.context.gift_choice)
    stock = state.context.gift_stock
    if stock is not None:
        given = sum(line.quantity for line in state.gifts if line.sku == sku)
        if stock.get(sku, 0) - given < gift.quantity:
            return Reason.GIFT_OUT_OF_STOCK
    cost = gift.quantity * gift.unit_cost
    left = left_of(offer, state.context.left)
    if left.user_money is not None and left.user_money < cost:
        return Reason.USER_MONEY_SPENT
    if left.budget is not None and left.budget < cost:
        return Reason.BUDGET_SPENT
    return _Outcome(0, gift=GiftLine(offer.id, sku, gift.quantity, cost))
