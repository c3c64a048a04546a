"""What an offer means to a user, from its terms and the user's own basket: no past trial needed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import ndtr

Floats = NDArray[np.float64]

MECHANICS = ("percent_off", "amount_off", "spend_threshold", "product_bundle")
_LOG_SPREAD = 0.45  # of a user's order values around the median, as in grocery and general retail
_STRETCH = 0.75  # an order of this share of the threshold may be raised to it
_SATURATION = 0.1  # saving, as a share of the basket, at which two thirds of the pull is reached
_BUNDLE_SATURATION = 0.2  # the same for the depth of a bundle, whose size beside the basket varies
_TYPICAL_PULL = 0.75  # pull at the depth of a usual offer; slopes are taken around it
_UNKNOWN_SCOPE_SHARE = 0.25  # share of a basket that a scope covers when nothing is known of it


class PairFeatures(NamedTuple):
    """Features of `n` users times `m` offers.

    Attributes:
        mechanic: `(m, 4)` float64 one-hot of `MECHANICS`; all 0 for a message.
        depth: `(m,)` float64 nominal depth in [0, 1] of percent_off and product_bundle, else 0.
        saving: `(n, m)` float64 expected saving of an order over the order's value; 0 for bundles.
        reach: `(n, m)` float64 chance that an order reaches the threshold; 1 without one.
        nominal: `(n, m)` float64 discount of an order that redeems, currency units.
    """

    mechanic: Floats
    depth: Floats
    saving: Floats
    reach: Floats
    nominal: Floats

    def of_rows(self, offer: NDArray[np.int64]) -> Floats:
        """`(n, 8)` float64 features of row i with offer `offer[i]`; -1 = no offer, all 0."""
        rows = np.arange(len(offer))
        own = np.column_stack(
            [
                np.ones(len(offer)),
                self.mechanic[offer],
                self.depth[offer],
                self.saving[rows, offer],
                self.reach[rows, offer],
            ]
        )
        own[offer < 0] = 0.0
        return own

    def of_offer(self, j: int) -> Floats:
        """`(n, 8)` float64 features of every row with offer `j`."""
        return self.of_rows(np.full(len(self.saving), j, dtype=np.int64))

    def basis(self) -> Floats:
        """`(n, m, N_BASIS)` float64 basis of the effect: contact, pull, and three mechanics.

        Pull is 1 - exp(-saving / 0.1), which saturates in depth, less its usual value, so that
        the coefficient of contact is the effect of a usual offer.
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
        ]
        return np.stack(columns, axis=2)


N_BASIS = 5
N_FEATURES = 4 + len(MECHANICS)
IS_MONOTONE = (0, 0, 0, 0, 0, 1, 1, 1)  # columns of `of_rows` that grow with the depth of an offer


def pair_features(basket: Floats, offers: pa.Table, typical: float) -> PairFeatures:
    """Features of users and offers.

    Args:
        basket: `(n,)` float64 median order value, currency units; the typical one stands in where
            it is NaN or not positive.
        offers: table `OFFER_TERMS`, m rows.
        typical: median order value over users, currency units, > 0; what a bundle is taken to
            cost, since its prices are not among the terms.
    """
    basket = np.where(np.nan_to_num(basket) > 0, basket, typical)
    rows = offers.to_pylist()
    n, m = len(basket), len(rows)
    mechanic, depth = np.zeros((m, len(MECHANICS))), np.zeros(m)
    saving, nominal = np.zeros((n, m)), np.zeros((n, m))
    reach = np.ones((n, m))
    for j, row in enumerate(rows):
        if row["mechanic"] not in MECHANICS:
            continue
        mechanic[j, MECHANICS.index(row["mechanic"])] = 1.0
        saving[:, j], reach[:, j], nominal[:, j] = _terms(row, basket, typical)
        if row["mechanic"] in ("percent_off", "product_bundle"):
            depth[j] = row["depth_rate"] or 0.0
    return PairFeatures(mechanic, depth, saving, reach, nominal)


def _terms(row: dict[str, Any], basket: Floats, typical: float) -> tuple[Floats, Floats, Floats]:
    """Saving rate, chance to reach the threshold and nominal discount of one offer, `(n,)` each."""
    scope = 1.0 if row["scope"] is None else _UNKNOWN_SCOPE_SHARE
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
    reach = np.asarray(ndtr(np.log(part / (_STRETCH * threshold)) / _LOG_SPREAD))
    return np.minimum(amount / basket, 1.0) * reach, reach, amount * one
