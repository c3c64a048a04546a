"""Step 2 of pricing: what can be said of an offer before the cart is looked at."""

from __future__ import annotations

from collections.abc import Mapping

from promo_ray.offers.cart import CapsLeft, Context
from promo_ray.offers.offer import Offer
from promo_ray.offers.reasons import Reason
from promo_ray.offers.terms import Caps, Trigger

_ALL_LEFT = CapsLeft()


def entered(context: Context) -> frozenset[str]:
    """Codes that were entered, in the form they are compared in."""
    return frozenset(_plain_code(code) for code in context.codes)


def _plain_code(code: str) -> str:
    return code.strip().upper()


def reason_of(offer: Offer, context: Context, codes: frozenset[str]) -> Reason | None:
    """First reason why a customer cannot have an offer, whatever the cart; None if none.

    Args:
        offer: the offer.
        context: who, when, where, and what is left of caps.
        codes: `entered(context)`.
    """
    reason = offer.window.reason(context.now)
    if reason is None and not offer.is_for_all:
        reason = _of_audience(offer, context)
    if reason is None and offer.trigger.kind != "automatic":
        reason = _of_trigger(offer, context, codes)
    if reason is None and offer.has_caps:
        reason = _of_caps(offer.caps, context.user_id, left_of(offer, context.left))
    return reason


def _of_audience(offer: Offer, context: Context) -> Reason | None:
    audience = offer.audience
    if audience.channels and context.channel not in audience.channels:
        return Reason.WRONG_CHANNEL
    if audience.countries and context.country not in audience.countries:
        return Reason.WRONG_COUNTRY
    if audience.members_only and not context.is_member:
        return Reason.NOT_MEMBER
    if audience.segments_any and context.segments.isdisjoint(audience.segments_any):
        return Reason.NOT_IN_SEGMENT
    if not context.segments.isdisjoint(audience.segments_none):
        return Reason.EXCLUDED_SEGMENT
    low, high = audience.min_orders, 0 if audience.first_order else audience.max_orders
    if low is not None or high is not None:
        if context.n_orders is None:
            return Reason.USER_UNKNOWN
        if context.n_orders < (low or 0) or (high is not None and context.n_orders > high):
            return Reason.WRONG_ORDER_COUNT
    if audience.user_ids_ref is not None and audience.user_ids_ref not in context.lists:
        return Reason.NOT_ON_LIST
    if audience.holdout_bp:
        if not context.user_id:
            return Reason.USER_UNKNOWN
        if audience.holds_out(context.user_id, offer.id):
            return Reason.HOLDOUT
    return None


def _of_trigger(offer: Offer, context: Context, codes: frozenset[str]) -> Reason | None:
    trigger: Trigger = offer.trigger
    if trigger.kind == "member":
        return None if context.is_member else Reason.NOT_MEMBER
    if trigger.kind == "unique_code":
        return None if offer.id in context.unlocked else Reason.CODE_MISSING
    return None if _plain_code(trigger.code or "") in codes else Reason.CODE_MISSING


def left_of(offer: Offer, left: Mapping[str, CapsLeft]) -> CapsLeft:
    """What is left of the caps of an offer; fields without a cap are None."""
    told, caps = left.get(offer.id, _ALL_LEFT), offer.caps
    return CapsLeft(
        budget=_less(caps.budget, told.budget),
        uses=_less(caps.uses, told.uses),
        user_uses=_less(caps.uses_per_user, told.user_uses),
        user_money=_less(caps.per_user_money, told.user_money),
    )


def _less(cap: int | None, left: int | None) -> int | None:
    return cap if cap is None or left is None else min(cap, left)


def _of_caps(caps: Caps, user_id: str, left: CapsLeft) -> Reason | None:
    if not user_id and (caps.uses_per_user is not None or caps.per_user_money is not None):
        return Reason.USER_UNKNOWN
    for amount, reason in (
        (left.budget, Reason.BUDGET_SPENT),
        (left.uses, Reason.USES_SPENT),
        (left.user_uses, Reason.USER_USES_SPENT),
        (left.user_money, Reason.USER_MONEY_SPENT),
    ):
        if amount == 0:
            return reason
    return None
