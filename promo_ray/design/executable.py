"""Offers of a menu in words, and as shops execute them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pyarrow as pa

from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.design.columns import Channel
from promo_ray.design.constraints import Constraints
from promo_ray.design.genome import EVERYONE, MenuSpace
from promo_ray.design.grid import free_id
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


class OfferSet(NamedTuple):
    """What the artefact `offer_set` holds of a menu, row by row the same offers.

    Attributes:
        terms: schema `OFFER_TERMS`; ids as in `offers`, contact costs with the channel's, the
            menu's words as labels.
        offers: as shops execute them.
    """

    terms: pa.Table
    offers: tuple[Offer, ...]


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


def offer_set_of(
    offers: Sequence[DesignedOffer], constraints: Constraints, currency: str
) -> OfferSet:
    """Offers with all that the menu says of them; see `menu.MenuResult.offer_set`."""
    rows = [
        {**o.terms, "offer_id": name, "contact_cost": o.contact_cost, "label": o.words}
        for o, name in zip(offers, _ids_of(offers), strict=True)
    ]
    return OfferSet(
        pa.Table.from_pylist(rows, schema=OFFER_TERMS),
        tuple(
            _executable(o, row, constraints, currency) for o, row in zip(offers, rows, strict=True)
        ),
    )


def _ids_of(offers: Sequence[DesignedOffer]) -> list[str]:
    """Ids of the offers of a menu; of several variants of one the first keeps its id."""
    own = [o.terms["offer_id"] for o in offers]
    taken = set(own)
    is_first = [name not in own[:i] for i, name in enumerate(own)]
    return [
        name if first else free_id(name, taken) for name, first in zip(own, is_first, strict=True)
    ]


def _executable(
    offer: DesignedOffer, terms: Mapping[str, Any], constraints: Constraints, currency: str
) -> Offer:
    plain = from_terms(terms, currency) if offer.whole is None else offer.whole
    names = {offer.terms["offer_id"], offer.terms["mechanic"]}
    groups = (g for g in constraints.exclusive_groups if names & set(g))
    # shops group offers of one layer that save money; a menu holds one of a group in any case
    is_grouped = plain.layer != "shipping" and not isinstance(plain.mechanic, Gift)
    group = next((f"one of {', '.join(g)}" for g in groups if is_grouped), None)
    floor = None if plain.layer == "shipping" else constraints.min_margin_rate
    return replace(
        plain,
        id=terms["offer_id"],
        contact_cost=scaled(terms["contact_cost"], minor_digits(currency), "contact_cost"),
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
