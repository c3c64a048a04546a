"""Value and cost of offers for a sample of users, one column per offer, made when it is needed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from promo_ray.errors import ConfigError, DataError
from promo_ray.offers import Window as OfferWindow
from promo_ray.response.model import EffectEstimate
from promo_ray.response.surface import SurfaceEffects

Floats = NDArray[np.float32]
_N_PROBED = 64  # users by whom two surfaces are told apart
Pair = tuple[Floats, Floats]


class Columns(Protocol):
    """A sample of users; picklable."""

    @property
    def n_users(self) -> int:
        """Users of the sample, at least 1."""
        ...

    @property
    def n_offers(self) -> int:
        """Offers there are."""
        ...

    def take(self, offers: NDArray[np.int64]) -> Pair:
        """Value and cost of offers, each `(k, n)` float32; value -inf = not eligible."""
        ...

    def users(self, rows: slice) -> Columns:
        """The same for a part of the users."""
        ...

    def digest(self) -> str:
        """Text that tells this sample from others."""
        ...


@dataclass(frozen=True, eq=False)
class Sample:
    """Users by offers, all known at once.

    Attributes:
        value: `(n, g)` float32 expected value net of all costs of the offer; -inf = not eligible.
        cost: `(n, g)` float32 expected use of the budget, finite and >= 0.

    Raises:
        DataError: shapes differ, no user or offer, NaN or +inf, or a cost negative or not finite.
    """

    value: Floats
    cost: Floats

    def __post_init__(self) -> None:
        value, cost = checked_sample(self.value, self.cost)
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "cost", cost)

    @property
    def n_users(self) -> int:
        """See `Columns`."""
        return len(self.value)

    @property
    def n_offers(self) -> int:
        """See `Columns`."""
        return int(self.value.shape[1])

    def take(self, offers: NDArray[np.int64]) -> Pair:
        """See `Columns`."""
        return self.value.T[offers], self.cost.T[offers]

    def users(self, rows: slice) -> Sample:
        """See `Columns`."""
        return Sample(self.value[rows], self.cost[rows])

    def digest(self) -> str:
        """See `Columns`."""
        return _digest_of(self.value, self.cost)


def checked_sample(value: ArrayLike, cost: ArrayLike) -> Pair:
    """Value and cost as float32 `(n, g)`.

    Raises:
        DataError: shapes differ, no user or offer, NaN or +inf, or a cost negative or not finite.
    """
    value, cost = np.asarray(value, dtype=np.float32), np.asarray(cost, dtype=np.float32)
    if value.ndim != 2 or value.shape != cost.shape or 0 in value.shape:
        raise DataError(
            f"must be (users, offers), alike and not empty; got {value.shape}, {cost.shape}",
            where="value and cost",
        )
    if np.isnan(value).any() or (value == np.inf).any():
        raise DataError("must be finite, or -inf for an offer not eligible", where="value")
    if not (np.isfinite(cost).all() and (cost >= 0).all()):
        raise DataError("must be finite and >= 0", where="cost")
    return value, cost


class Surface(Protocol):
    """What predicts effects of any offer: a `ResponseModel` or a `ResponseSurface`."""

    def effects(
        self, x: NDArray[np.float64], basket: NDArray[np.float64], offers: pa.Table
    ) -> SurfaceEffects | EffectEstimate:
        """Effects and discounts of `(n, m)` users and offers, see `ResponseSurface.effects`."""
        ...


@dataclass(frozen=True, eq=False)
class Predicted:
    """Users whose columns a response surface predicts when an offer is first met.

    Attributes:
        surfaces: one, or several fitted on resampled logs; their mean counts.
        x: `(n, d)` float64 features as in the fit.
        basket: `(n,)` float64 median order value, currency units; NaN = unknown.
        terms: table `OFFER_TERMS` of all offers.
        is_money: the outcome is in currency units, so contact costs are taken off its value.
        robustness: standard deviations between surfaces that are taken off the value, >= 0:
            what the surfaces do not agree on is not counted on.
    """

    surfaces: tuple[Surface, ...]
    x: NDArray[np.float64]
    basket: NDArray[np.float64]
    terms: pa.Table
    is_money: bool = True
    robustness: float = 0.0

    def __post_init__(self) -> None:
        if not self.surfaces:
            raise ConfigError("surfaces must hold at least one; got none")
        if not self.robustness >= 0:
            raise ConfigError(f"robustness must be >= 0; got {self.robustness}")
        if self.robustness > 0 and len(self.surfaces) < 2:
            raise ConfigError("robustness needs at least two surfaces; got 1")
        if not len(self.x) or np.shape(self.basket) != (len(self.x),):
            raise DataError(
                f"must hold at least one user, and a basket for each; got {len(self.x)} and "
                f"{np.shape(self.basket)}",
                where="users",
            )

    @property
    def n_users(self) -> int:
        """See `Columns`."""
        return len(self.x)

    @property
    def n_offers(self) -> int:
        """See `Columns`."""
        return int(self.terms.num_rows)

    def take(self, offers: NDArray[np.int64]) -> Pair:
        """See `Columns`."""
        terms = self.terms.take(pa.array(offers))
        contact = terms["contact_cost"].to_numpy()
        values, discounts = [], []
        for surface in self.surfaces:
            found = surface.effects(self.x, self.basket, terms)
            is_gross = isinstance(found, SurfaceEffects)
            values.append(found[0] - found.discount if is_gross else found[0])
            discounts.append(found.discount)
        value = np.mean(values, axis=0)
        if self.robustness:
            value = value - self.robustness * np.std(values, axis=0, ddof=1)
        if self.is_money:
            value = value - contact
        cost = np.maximum(np.mean(discounts, axis=0), 0.0) + contact
        value, cost = checked_sample(value, cost)
        return np.ascontiguousarray(value.T), np.ascontiguousarray(cost.T)

    def users(self, rows: slice) -> Predicted:
        """See `Columns`."""
        return replace(self, x=self.x[rows], basket=self.basket[rows])

    def digest(self) -> str:
        """See `Columns`; by what the surfaces say of some users and of every offer."""
        at = np.unique(np.linspace(0, self.n_users - 1, _N_PROBED).astype(np.int64))
        some = replace(self, x=self.x[at], basket=self.basket[at])
        return _digest_of(self.x, self.basket, *some.take(np.arange(self.n_offers)))


@dataclass(frozen=True)
class Window:
    """When an offer holds.

    Attributes:
        name: a few plain words.
        share: part of the outcome window's effect and discount that falls into it, in (0, 1].
        holds: the dates, days and hours of it, for executing the offer.
    """

    name: str = "any time"
    share: float = 1.0
    holds: OfferWindow = field(default_factory=OfferWindow)

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ConfigError(f"share of window {self.name!r} must be in (0, 1]; got {self.share}")


@dataclass(frozen=True)
class Channel:
    """How an offer reaches users.

    Attributes:
        name: a few plain words.
        contact_cost: currency units per user, beside the offer's own.
    """

    name: str = "any channel"
    contact_cost: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.contact_cost) and self.contact_cost >= 0):
            raise ConfigError(
                f"contact_cost of channel {self.name!r} must be finite and >= 0; "
                f"got {self.contact_cost}"
            )


@dataclass(frozen=True, eq=False)
class Variants:
    """Columns of offers by segment, window and channel, from those of the bare offers.

    Variant number ((offer * segments + segment) * windows + window) * channels + channel.

    Attributes:
        base: columns of the bare offers.
        contact: `(g,)` contact cost of each bare offer.
        members: `(n, segments)` bool, who belongs to a segment.
        reach: `(n, channels)` bool, whom a channel reaches.
        windows: windows.
        channels: channels.
        is_money: values are net of contact costs.
    """

    base: Columns
    contact: NDArray[np.float64]
    members: NDArray[np.bool_]
    reach: NDArray[np.bool_]
    windows: Sequence[Window]
    channels: Sequence[Channel]
    is_money: bool = True

    @property
    def n_users(self) -> int:
        """See `Columns`."""
        return self.base.n_users

    @property
    def n_offers(self) -> int:
        """See `Columns`."""
        n_kinds = len(self.windows) * len(self.channels)
        return self.base.n_offers * int(self.members.shape[1]) * n_kinds

    def take(self, offers: NDArray[np.int64]) -> Pair:
        """See `Columns`."""
        rest, channel = np.divmod(np.asarray(offers), len(self.channels))
        rest, window = np.divmod(rest, len(self.windows))
        row, segment = np.divmod(rest, self.members.shape[1])
        rows, place = np.unique(row, return_inverse=True)
        value, cost = self.base.take(rows)
        share = np.array([w.share for w in self.windows])[window][:, None]
        contact = self.contact[row][:, None]
        more = contact + np.array([c.contact_cost for c in self.channels])[channel][:, None]
        before, after = (contact, more) if self.is_money else (0.0, 0.0)
        is_open = self.members.T[segment] & self.reach.T[channel]
        net = share * (value[place] + before) - after
        used = np.maximum(share * (cost[place] - contact), 0.0) + more
        return np.where(is_open, net, -np.inf).astype(np.float32), used.astype(np.float32)

    def users(self, rows: slice) -> Variants:
        """See `Columns`."""
        return replace(
            self, base=self.base.users(rows), members=self.members[rows], reach=self.reach[rows]
        )

    def digest(self) -> str:
        """See `Columns`."""
        kinds = repr((tuple(self.windows), tuple(self.channels), self.is_money))
        return self.base.digest() + _digest_of(self.contact, self.members, self.reach) + kinds


def _digest_of(*arrays: NDArray[np.generic]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
