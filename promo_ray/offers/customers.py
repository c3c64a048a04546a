"""Who stands behind the carts of a batch: contexts, and what they forbid, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from promo_ray.errors import DataError
from promo_ray.offers.cart import Context
from promo_ray.offers.cart_batch import CartBatch
from promo_ray.offers.eligibility import entered, left_of, reason_of
from promo_ray.offers.encode import CODE_OF
from promo_ray.offers.mechanics.gift import Gift
from promo_ray.offers.offer import Offer
from promo_ray.offers.reasons import Reason
from promo_ray.offers.terms import Window

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ALWAYS = Window()
_QUARTER_US = 900 * 10**6  # local weekday and hour do not change within a quarter of an hour


class Customers:
    """Context of every cart of a batch.

    Attributes:
        contexts: distinct contexts.
        row: `(n_carts,)` int32, number in `contexts`; None = the first for all.
    """

    def __init__(self, batch: CartBatch, context: Context | Sequence[Context]) -> None:
        """See `price_carts`.

        Raises:
            DataError: not one context per cart.
        """
        self._batch = batch
        self._has_columns = False
        self.row: NDArray[np.int32] | None = None
        if isinstance(context, Context):
            self.contexts = [context]
            self._has_columns = batch.at is not None or batch.user is not None
            return
        if len(context) != len(batch):
            raise DataError(
                f"must be one, or one per cart: {len(batch)}; got {len(context)}", where="context"
            )
        number = {id(c): c for c in context}
        self.contexts = list(number.values())
        place = {key: i for i, key in enumerate(number)}
        self.row = np.array([place[id(c)] for c in context], np.int32)

    def context(self, i: int) -> Context:
        """Context of cart i, time and user as the batch says."""
        own = self.contexts[0 if self.row is None else self.row[i]]
        if not self._has_columns:
            return own
        at, user = self._batch.at, self._batch.user
        now = own.now if at is None else _time(int(at[i].astype(np.int64)))
        return replace(
            own, now=now, user_id=own.user_id if user is None else self._batch.users[user[i]]
        )

    def reasons(self, offers: Sequence[Offer]) -> NDArray[np.uint8]:
        """Codes of why carts cannot have offers, whatever is in them; 0 = they can.

        Returns:
            `(n_carts, n_offers)`, or `(1, n_offers)` if it is the same for all.
        """
        if self._has_columns:
            columns = [self._column(offer) for offer in offers]
            return np.stack(columns, axis=1) if columns else np.zeros((1, 0), np.uint8)
        table = np.zeros((max(1, len(self.contexts)), len(offers)), np.uint8)
        for i, context in enumerate(self.contexts):
            table[i] = _codes(offers, context)
        return table if self.row is None else np.ascontiguousarray(table[self.row])

    def _column(self, offer: Offer) -> NDArray[np.uint8]:
        """Codes of one offer where time or user differ from cart to cart."""
        batch, context = self._batch, self.contexts[0]
        if batch.at is None:
            windows = np.full(len(batch), _code(offer.window.reason(context.now)), np.uint8)
        else:
            windows = _window_codes(offer.window, batch.at)
        always = replace(offer, window=_ALWAYS)
        if batch.user is None:
            code = _codes([always], context)[0]
            return np.where(windows == 0, code, windows).astype(np.uint8)
        if offer.audience.holdout_bp:
            own = [_codes([always], replace(context, user_id=user))[0] for user in batch.users]
        else:  # all that are known fare alike
            known = _codes([always], replace(context, user_id="known"))[0]
            unknown = _codes([always], replace(context, user_id=""))[0]
            own = [known if user else unknown for user in batch.users]
        codes = np.array(own, np.uint8)[batch.user]
        return np.where(windows == 0, codes, windows).astype(np.uint8)

    def money_left(self, offers: Sequence[Offer]) -> NDArray[np.int64]:
        """`(n_contexts, n_offers, 2)` minor units left for the user and of the budget; -1 = any."""
        out = np.full((max(1, len(self.contexts)), len(offers), 2), -1, np.int64)
        for i, context in enumerate(self.contexts):
            for j, offer in enumerate(offers):
                if not offer.has_caps:
                    continue
                left = left_of(offer, context.left)
                for k, money in enumerate((left.user_money, left.budget)):
                    out[i, j, k] = -1 if money is None else money
        return out

    def gifts(self, gifts: Sequence[Offer]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """What is given and what is in stock.

        Returns:
            `(n_contexts, n_gifts)` number of the sku each offer gives; `(n_contexts, n_skus)`
            units in stock, -1 = not looked at.

        Raises:
            DataError: a chosen sku that the offer does not have.
        """
        kinds = [(o.id, o.mechanic) for o in gifts if isinstance(o.mechanic, Gift)]
        skus = sorted({sku for _, kind in kinds for sku in (kind.sku, *kind.choice_of)})
        given = np.zeros((max(1, len(self.contexts)), len(kinds)), np.int32)
        stock = np.full((len(given), len(skus)), -1, np.int64)
        for i, context in enumerate(self.contexts):
            for k, (offer_id, kind) in enumerate(kinds):
                given[i, k] = skus.index(kind.chosen(offer_id, context.gift_choice))
            if context.gift_stock is not None:
                stock[i] = [max(0, context.gift_stock.get(sku, 0)) for sku in skus]
        return given, stock


def _codes(offers: Sequence[Offer], context: Context) -> list[int]:
    codes = entered(context)
    return [_code(reason_of(offer, context, codes)) for offer in offers]


def _code(reason: Reason | None) -> int:
    return 0 if reason is None else CODE_OF[reason]


def _time(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)


def _quarters(at: NDArray[np.datetime64]) -> tuple[list[datetime], NDArray[np.intp]]:
    """Distinct quarters of an hour, and which of them each instant lies in."""
    distinct, where = np.unique(at.astype(np.int64) // _QUARTER_US, return_inverse=True)
    return [_time(int(quarter) * _QUARTER_US) for quarter in distinct], where


def _window_codes(window: Window, at: NDArray[np.datetime64]) -> NDArray[np.uint8]:
    """Codes of `Window.reason` at many instants."""
    daily = replace(window, start_at=None, end_at=None)
    quarters, where = _quarters(at)
    codes = np.array([_code(daily.reason(now)) for now in quarters], np.uint8)[where]
    for edge, is_out, reason in (
        (window.start_at, np.less, Reason.NOT_STARTED),
        (window.end_at, np.greater_equal, Reason.ENDED),
    ):
        if edge is not None:
            edge_us = (edge - _EPOCH) // timedelta(microseconds=1)
            codes[is_out(at.astype(np.int64), edge_us)] = CODE_OF[reason]
    return codes


def period_numbers(
    at: NDArray[np.datetime64], periods: Sequence[tuple[str, str]]
) -> NDArray[np.int64]:
    """Number of the local day, or of the local week from Monday, of instants.

    Args:
        at: `(n,)` instants in UTC.
        periods: (`day` or `week`, IANA time zone).

    Returns:
        `(n_periods, n)`.
    """
    quarters, where = _quarters(at)
    out = np.zeros((len(periods), len(at)), np.int64)
    for k, (period, zone) in enumerate(periods):
        local = ZoneInfo(zone)
        days = np.array([now.astimezone(local).toordinal() - 1 for now in quarters], np.int64)
        out[k] = (days if period == "day" else days // 7)[where]  # the first ordinal is a Monday
    return out
