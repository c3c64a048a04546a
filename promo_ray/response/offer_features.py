"""What an offer means to a user, from its terms and the user's own basket: no past trial needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import ndtr

from promo_ray.errors import DataError

Floats = NDArray[np.float64]

MECHANICS = ("percent_off", "amount_off", "spend_threshold", "product_bundle")
_LOG_SPREAD = 0.45  # of a user's order values around the median, as in grocery and general retail
_STRETCH = 0.75  # an order of this share of the threshold may be raised to it
_SATURATION = 0.1  # saving, as a share of the basket, at which two thirds of the pull is reached
_BUNDLE_SATURATION = 0.2  # the same for the depth of a bundle, whose size beside the basket varies
_TYPICAL_PULL = 0.75  # pull at the depth of a usual offer; slopes are taken around it
_UNKNOWN_SCOPE_SHARE = 0.25  # share of a basket that a scope covers when nothing is known of it
_MAX_LOG_WINDOW = 2.0  # windows count up to e^2 times the usual one, and down to its e^2-th part


class TermScale(NamedTuple):
    """What the terms of offers are measured by: what was tried, and what is known of users.

    Attributes:
        typical_basket: stands in for unknown baskets, currency units, > 0; what a bundle is taken
            to cost, since its prices are not among the terms.
        channels: channels that were tried, sorted; empty unless at least two were.
        window_days: usual length of an offer, days; 0 unless at least two lengths were tried.
        scopes: column of the features that holds the share of a user's own spend, in [0, 1], that
            falls into a scope; empty unless such scopes were tried.
    """

    typical_basket: float
    channels: tuple[str, ...] = ()
    window_days: float = 0.0
    scopes: Mapping[str, int] = {}

    @classmethod
    def of(
        cls, basket: Floats, offers: pa.Table, scopes: Mapping[str, int] | None = None
    ) -> TermScale:
        """Scale of the users and the offers of a log.

        Args:
            basket: `(n,)` float64 median order value, currency units; NaN = unknown.
            offers: table `OFFER_TERMS`; it may also have `channel` (text) and `window_days`.
            scopes: column of the features by scope; None if no such shares are known.
        """
        known = basket[np.nan_to_num(basket) > 0]
        rows = offers.to_pylist()
        channels = sorted({str(r["channel"]) for r in rows if r.get("channel") is not None})
        days = [float(r["window_days"]) for r in rows if r.get("window_days")]
        tried = {r["scope"] for r in rows}
        return cls(
            float(np.median(known)) if len(known) else 1.0,
            tuple(channels) if len(channels) > 1 else (),
            float(np.median(days)) if len(set(days)) > 1 else 0.0,
            {k: v for k, v in (scopes or {}).items() if k in tried},
        )

    @property
    def n_extra(self) -> int:
        """Features that `OFFER_TERMS` alone does not give."""
        return len(self.channels) + (self.window_days > 0) + bool(self.scopes)

    @property
    def n_basis(self) -> int:
        """Columns of `PairFeatures.basis`; the first channel is the one to differ from."""
        return N_BASIS + self.n_extra - bool(self.channels)

    @property
    def is_monotone(self) -> tuple[int, ...]:
        """Columns of `PairFeatures.of_rows` that grow with the depth of an offer."""
        return IS_MONOTONE + (0,) * self.n_extra


class PairFeatures(NamedTuple):
    """Features of `n` users times `m` offers.

    Attributes:
        mechanic: `(m, 4)` float64 one-hot of `MECHANICS`; all 0 for a message.
        depth: `(m,)` float64 nominal depth in [0, 1] of percent_off and product_bundle, else 0.
        saving: `(n, m)` float64 expected saving of an order over the order's value; 0 for bundles.
        reach: `(n, m)` float64 chance that an order reaches the threshold; 1 without one.
        nominal: `(n, m)` float64 discount of an order that redeems, currency units.
        channel: `(m, n_channels)` float64 one-hot of the channels tried; equal shares if unknown.
        window: `(m, 0 or 1)` float64 log of the length over the usual one, cut at 2.
        affinity: `(n, m, 0 or 1)` float64 share of the own spend in a scope; 0 without a scope.
    """

    mechanic: Floats
    depth: Floats
    saving: Floats
    reach: Floats
    nominal: Floats
    channel: Floats
    window: Floats
    affinity: Floats

    def of_users(self, rows: NDArray[np.bool_]) -> PairFeatures:
        """The users where `rows` `(n,)` bool holds."""
        return self._replace(
            saving=self.saving[rows],
            reach=self.reach[rows],
            nominal=self.nominal[rows],
            affinity=self.affinity[rows],
        )

    def of_rows(self, offer: NDArray[np.int64]) -> Floats:
        """`(n, 8 + n_extra)` float64, row i with offer `offer[i]`; -1 = no offer, all 0."""
        rows = np.arange(len(offer))
        own = np.column_stack(
            [
                np.ones(len(offer)),
                self.mechanic[offer],
                self.depth[offer],
                self.saving[rows, offer],
                self.reach[rows, offer],
                self.channel[offer],
                self.window[offer],
                self.affinity[rows, offer],
            ]
        )
        own[offer < 0] = 0.0
        return own

    def of_offer(self, j: int) -> Floats:
        """`(n, 8 + n_extra)` float64 features of every row with offer `j`."""
        return self.of_rows(np.full(len(self.saving), j, dtype=np.int64))

    def basis(self) -> Floats:
        """`(n, m, n_basis)` float64 basis of the effect: contact, pull, three mechanics, more.

        More are the channels but the first, the window and the affinity, as far as they were
        tried. Pull is 1 - exp(-saving / 0.1), which saturates in depth, less its usual value, so
        that the coefficient of contact is the effect of a usual offer.
        """
        n, m = self.saving.shape
        is_bundle, is_priced = self.mechanic[:, 3], self.mechanic.any(axis=1)
        pull = np.where(
            is_bundle > 0,
            -np.expm1(-self.depth / _BUNDLE_SATURATION),
            -np.expm1(-self.saving / _SATURATION),
        )
        columns = [
            np.ones((n, m)),
            np.where(is_priced, pull, 0.0) - _TYPICAL_PULL,
            *(np.broadcast_to(self.mechanic[:, k], (n, m)) for k in (1, 2, 3)),
            *(np.broadcast_to(column, (n, m)) for column in self.channel.T[1:]),
            *(np.broadcast_to(column, (n, m)) for column in self.window.T),
            *self.affinity.transpose(2, 0, 1),
        ]
        return np.stack(columns, axis=2)


N_BASIS = 5  # of offers that differ in the terms of `OFFER_TERMS` alone
N_FEATURES = 4 + len(MECHANICS)
IS_MONOTONE = (0, 0, 0, 0, 0, 1, 1, 1)


def pair_features(x: Floats, basket: Floats, offers: pa.Table, scale: TermScale) -> PairFeatures:
    """Features of users and offers.

    Args:
        x: `(n, d)` float64 features of the users; only the columns of `scale.scopes` are read.
        basket: `(n,)` float64 median order value, currency units; the typical one stands in where
            it is NaN or not positive.
        offers: table `OFFER_TERMS`, m rows; it may also have `channel` and `window_days`.
        scale: what the terms are measured by.

    Raises:
        DataError: a share of the own spend outside of [0, 1].
    """
    basket = np.where(np.nan_to_num(basket) > 0, basket, scale.typical_basket)
    rows = offers.to_pylist()
    n, m = len(basket), len(rows)
    mechanic, depth = np.zeros((m, len(MECHANICS))), np.zeros(m)
    saving, nominal = np.zeros((n, m)), np.zeros((n, m))
    reach = np.ones((n, m))
    affinity = np.zeros((n, m, int(bool(scale.scopes))))
    for j, row in enumerate(rows):
        share = _scope_share(row["scope"], x, scale)
        if row["scope"] is not None:
            affinity[:, j] = np.broadcast_to(share, n)[:, None]
        if row["mechanic"] not in MECHANICS:
            continue
        mechanic[j, MECHANICS.index(row["mechanic"])] = 1.0
        saving[:, j], reach[:, j], nominal[:, j] = _terms(row, share, basket, scale.typical_basket)
        if row["mechanic"] in ("percent_off", "product_bundle"):
            depth[j] = row["depth_rate"] or 0.0
    return PairFeatures(mechanic, depth, saving, reach, nominal, *_delivery(rows, scale), affinity)


def _scope_share(scope: str | None, x: Floats, scale: TermScale) -> Floats | float:
    """Share of an order that an offer covers, of each user where it is known."""
    if scope is None:
        return 1.0
    if scope not in scale.scopes:
        return _UNKNOWN_SCOPE_SHARE
    share = x[:, scale.scopes[scope]]
    if len(share) and not 0 <= share.min() <= share.max() <= 1:
        raise DataError(f"must hold shares in [0, 1] of scope {scope!r}", where="x")
    return share


def _delivery(rows: list[dict[str, Any]], scale: TermScale) -> tuple[Floats, Floats]:
    """`(m, n_channels)` channel and `(m, 0 or 1)` window of each offer."""
    k = len(scale.channels)
    channel = np.full((len(rows), k), 1.0 / max(k, 1))
    window = np.zeros((len(rows), int(scale.window_days > 0)))
    for j, row in enumerate(rows):
        if row.get("channel") in scale.channels:
            channel[j] = np.arange(k) == scale.channels.index(row["channel"])
        if window.size and row.get("window_days"):
            log = np.log(float(row["window_days"]) / scale.window_days)
            window[j] = np.clip(log, -_MAX_LOG_WINDOW, _MAX_LOG_WINDOW)
    return channel, window


def _terms(
    row: dict[str, Any], scope: Floats | float, basket: Floats, typical: float
) -> tuple[Floats, Floats, Floats]:
    """Saving rate, chance to reach the threshold and nominal discount of one offer, `(n,)` each."""
    part, one = scope * basket, np.ones(len(basket))
    rate, amount = row["depth_rate"] or 0.0, row["amount"] or 0.0
    if row["mechanic"] == "percent_off":
        return rate * scope * one, one, rate * part
    if row["mechanic"] == "amount_off":
        off = np.minimum(amount, part)
        return off / basket, one, off
    if row["mechanic"] == "product_bundle":
        return 0.0 * one, one, rate * typical * one
    threshold = max(row["threshold"] or 0.0, 1e-9)
    with np.errstate(divide="ignore"):  # nothing bought in the scope: never reached
        reach = np.asarray(ndtr(np.log(part / (_STRETCH * threshold)) / _LOG_SPREAD))
    return np.minimum(amount / basket, 1.0) * reach, reach, amount * one
