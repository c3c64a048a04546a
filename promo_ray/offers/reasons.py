"""Why an offer did not apply: the closed list of reason codes."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Reason codes of rejected offers, in the order of the checks."""

    words: str

    def __new__(cls, value: str, words: str) -> Reason:
        """Code with its plain words."""
        code = str.__new__(cls, value)
        code._value_ = value
        code.words = words
        return code

    NOT_STARTED = "not_started", "the window has not begun"
    ENDED = "ended", "the window is over"
    WRONG_WEEKDAY = "wrong_weekday", "not on this day of the local week"
    WRONG_HOUR = "wrong_hour", "not at this local hour"
    WRONG_CHANNEL = "wrong_channel", "not on this channel"
    WRONG_COUNTRY = "wrong_country", "not in this country"
    NOT_MEMBER = "not_member", "for members only"
    NOT_IN_SEGMENT = "not_in_segment", "the user is in none of the segments"
    EXCLUDED_SEGMENT = "excluded_segment", "the user is in a segment that is shut out"
    USER_UNKNOWN = "user_unknown", "it needs a fact about the user that is not known"
    WRONG_ORDER_COUNT = "wrong_order_count", "the user has too few or too many earlier orders"
    NOT_ON_LIST = "not_on_list", "the user is not on the list"
    HOLDOUT = "holdout", "the user belongs to the control group"
    CODE_MISSING = "code_missing", "the code was not entered, or is not valid"
    BUDGET_SPENT = "budget_spent", "nothing, or too little for the gift, is left of the budget"
    USES_SPENT = "uses_spent", "no use is left"
    USER_USES_SPENT = "user_uses_spent", "the user has no use left"
    USER_MONEY_SPENT = "user_money_spent", "the user got as much as the offer gives to one user"
    GROUP_TAKEN = "group_taken", "an earlier offer of its group applied"
    LAYER_CLOSED = "layer_closed", "an exclusive offer and another of its layer exclude each other"
    NOT_COMBINABLE = "not_combinable", "it does not combine with an offer that applied"
    BELOW_MIN_UNITS = "below_min_units", "the cart has too few of the units it asks for"
    BELOW_MIN_SPEND = "below_min_spend", "the cart is below the smallest spend"
    GIFT_OUT_OF_STOCK = "gift_out_of_stock", "the gift is not in stock"
    NO_SHIPPING = "no_shipping", "the cart has no shipping"
    NOT_IN_SCOPE = "not_in_scope", "no unit of the cart is in scope"
    CLOSED = "closed", "other offers closed all units in scope"
    COST_UNKNOWN = "cost_unknown", "the cost of the units is not known, so no margin can be kept"
    WRONG_METHOD = "wrong_method", "not for this method of shipping"
    BELOW_THRESHOLD = "below_threshold", "no tier is reached"
    BUNDLE_INCOMPLETE = "bundle_incomplete", "the cart holds no whole bundle"
    TOO_FEW_UNITS = "too_few_units", "not enough units to buy and to get"
    NO_PRICE_CHANGE = "no_price_change", "a message changes no price"
    NOTHING_LEFT = "nothing_left", "nothing can be taken off: price, floor or margin is reached"
    GROUP_BEATEN = "group_beaten", "another offer of its group was chosen by what it saves"
