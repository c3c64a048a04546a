"""Offers of a menu in words, and as shops execute them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from promo_ray.design.columns import Channel
from promo_ray.design.constraints import Constraints
from promo_ray.design.genome import EVERYONE, MenuSpace
from promo_ray.offers import Audience, Caps, Gift, Offer, Stacking, Window, from_terms
from promo_ray.offers.money import minor_digits, scaled

_ANY_CHANNEL = Channel().name


@dataclass(frozen=True)
class DesignedOffer:
    """An offer of the menu.

    Attributes:
        terms: row of `OFFER_TERMS`.
        segment, window, channel: whom it is for, when it holds, how it is sent.
        contact_cost: currency units per user, the channel's included.
        holds: dates, days and hours of the window.
        is_tried: users got it before.
        is_between: within the range of what was tried; False = the model guesses.
        words: the whole in plain words.
        whole: the offer where `terms` do not say it in full.
    """

    terms: Mapping[str, Any]
    segment: str
    window: str
    channel: str
    contact_cost: float
    holds: Window
    is_tried: bool
    is_between: bool
    words: str
    whole: Offer | None = None


def designed(space: MenuSpace, variant: int) -> DesignedOffer:
    """A variant of a space with its words."""
    row, segment, window, channel = space.parts(variant)
    terms = space.grid.terms.slice(row, 1).to_pylist()[0]
    words = terms["label"] or from_terms(terms).describe()
    details = [
        f"for {segment}" if segment != EVERYONE or len(space.segments) > 1 else "",
        window.name if len(space.windows) > 1 else "",
        f"by {channel.name}" if len(space.channels) > 1 else "",
    ]
    return DesignedOffer(
        terms, segment, window.name, channel.name, terms["contact_cost"] + channel.contact_cost,
        window.holds, bool(space.grid.is_tried[row]), bool(space.grid.is_between[row]),
        ", ".join([words, *(d for d in details if d)]),
        space.grid.executable.get(terms["offer_id"]),
    )  # fmt: skip


def executable_offers(
    offers: Sequence[DesignedOffer], constraints: Constraints, currency: str
) -> tuple[Offer, ...]:
    """Offers with all that the menu says of them; see `menu.MenuResult.executable`."""
    ids = Counter(o.terms["offer_id"] for o in offers)
    taken: set[str] = {name for name, n in ids.items() if n == 1}
    return tuple(
        _executable(o, _free_id(o.terms["offer_id"], ids, taken), constraints, currency)
        for o in offers
    )


def _free_id(offer_id: str, ids: Counter[str], taken: set[str]) -> str:
    if ids[offer_id] == 1:
        return offer_id
    k = 1
    while f"{offer_id}-{k}" in taken:
        k += 1
    taken.add(f"{offer_id}-{k}")
    return f"{offer_id}-{k}"


def _executable(
    offer: DesignedOffer, offer_id: str, constraints: Constraints, currency: str
) -> Offer:
    plain = offer.whole or from_terms(offer.terms, currency)
    names = {offer.terms["offer_id"], offer.terms["mechanic"]}
    groups = (g for g in constraints.exclusive_groups if names & set(g))
    # shops group offers of one layer that save money; a menu holds one of a group in any case
    is_grouped = plain.layer != "shipping" and not isinstance(plain.mechanic, Gift)
    group = next((f"one of {', '.join(g)}" for g in groups if is_grouped), None)
    floor = None if plain.layer == "shipping" else constraints.min_margin_rate
    return replace(
        plain,
        id=offer_id,
        contact_cost=scaled(offer.contact_cost, minor_digits(currency), "contact_cost"),
        audience=Audience(
            segments_any=() if offer.segment == EVERYONE else (offer.segment,),
            channels=() if offer.channel == _ANY_CHANNEL else (offer.channel,),
        ),
        window=offer.holds,
        # members of a group in other menus are barred by the shop in the same way
        stacking=Stacking(group=group, in_group="best" if group else "all"),
        # a whole number of basis points that is no laxer than the rule
        caps=Caps(min_margin_bp=None if floor is None else math.ceil(floor * 10_000 - 1e-6)),
    )
