"""What is left of caps while carts are priced one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from promo_ray.errors import DataError
from promo_ray.offers.cart import CapsLeft
from promo_ray.offers.cart_batch import CartBatch
from promo_ray.offers.customers import period_numbers
from promo_ray.offers.encode import EncodedOffers
from promo_ray.offers.offer import Offer

_FIELDS = ("budget", "uses", "user_uses", "user_money")
_NEVER = np.iinfo(np.int64).min  # no period has begun


class CapLedger:
    """Caps that carts of a batch draw down in its order; the kernel reads and writes its arrays.

    Budget and uses are kept per offer, the caps of a user per user and offer. They are full again
    when the next period of the offer begins. -1 = no cap.
    """

    NONE: ClassVar[dict[str, NDArray[Any] | None]] = dict.fromkeys(
        ("period", "left", "left_period", "user_left", "user_period")
    )

    def __init__(self, carts: CartBatch, offers: Sequence[Offer]) -> None:
        """Full caps.

        Raises:
            DataError: a cap per day or week and carts without times that rise, or a cap per user
                and carts without user.
        """
        is_sorted = carts.at is not None and bool((carts.at[1:] >= carts.at[:-1]).all())
        for offer in offers:
            caps = offer.caps
            if caps.period != "total" and not is_sorted:
                raise DataError("must rise to draw caps per period", where="carts.at")
            is_by_user = caps.uses_per_user is not None or caps.per_user_money is not None
            if is_by_user and carts.user is None:
                raise DataError("must be known to draw caps per user", where="carts.user")
        n = len(offers)
        self._carts, self._offers = carts, offers
        self._left = np.full((n, 2), -1, np.int64)
        self._left_period = np.full(n, _NEVER, np.int64)
        n_users = len(carts.users) if carts.user is not None else 0
        self._user_left = np.full((n_users, n, 2), -1, np.int64)
        self._user_period = np.full((n_users, n), _NEVER, np.int64)
        names = [(o.caps.period, o.window.timezone) for o in offers if o.caps.period != "total"]
        self._periods = list(dict.fromkeys(names))
        at = np.zeros(len(carts), "datetime64[us]") if carts.at is None else carts.at
        self._numbers = period_numbers(at, self._periods)

    def arrays(self, encoded: EncodedOffers) -> dict[str, NDArray[Any] | None]:
        """What the kernel works on."""
        order = [self._periods.index(period) for period in encoded.periods]
        return {
            "period": np.ascontiguousarray(self._numbers[order]),
            "left": self._left,
            "left_period": self._left_period,
            "user_left": self._user_left,
            "user_period": self._user_period,
        }

    def _begin(self, i: int, j: int) -> None:
        """Fill the caps of an offer if a period of it begins with cart i."""
        caps, zone = self._offers[j].caps, self._offers[j].window.timezone
        at = 0
        if caps.period != "total":
            at = int(self._numbers[self._periods.index((caps.period, zone)), i])
        if self._left_period[j] != at:
            self._left_period[j] = at
            self._left[j] = _given(caps.budget), _given(caps.uses)
        if self._carts.user is not None:
            user = self._carts.user[i]
            if self._user_period[user, j] != at:
                self._user_period[user, j] = at
                self._user_left[user, j] = _given(caps.uses_per_user), _given(caps.per_user_money)

    def left(self, i: int) -> dict[str, CapsLeft]:
        """What is left of caps before cart i, by offer id."""
        found = {}
        for j, offer in enumerate(self._offers):
            self._begin(i, j)
            user = [-1, -1]
            if self._carts.user is not None:
                user = self._user_left[self._carts.user[i], j].tolist()
            money = (None if left < 0 else left for left in (*self._left[j].tolist(), *user))
            found[offer.id] = CapsLeft(**dict(zip(_FIELDS, money, strict=True)))
        return found

    def book(self, i: int, j: int, money: int) -> None:
        """Draw one use and `money` minor units of offer j in cart i."""
        cells = [(self._left[j], (money, 1))]
        if self._carts.user is not None:
            cells.append((self._user_left[self._carts.user[i], j], (1, money)))
        for cell, drawn in cells:
            cell[:] = np.where(cell < 0, cell, cell - drawn)


def _given(cap: int | None) -> int:
    return -1 if cap is None else cap
