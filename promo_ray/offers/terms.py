"""What goes with a mechanic: on what condition, for whom, when, with what limits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from promo_ray.errors import DataError
from promo_ray.offers.fields import Between, Count, Money, Name, Names, OneOf, SomeMoney, validate
from promo_ray.offers.money import FULL_BP
from promo_ray.offers.reasons import Reason
from promo_ray.offers.scope import Scope

LAYERS = ("item", "order", "shipping")
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MAX_SALT = 64  # bytes of UTF-8

Layer = Annotated[str, OneOf(LAYERS)]
Weekday = Annotated[str, OneOf(WEEKDAYS)]


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """What the customer or the cart must show before the offer applies.

    Attributes:
        kind: `automatic`, `shared_code` (one code for all), `unique_code` (a code per customer,
            checked by the shop, see `Context.unlocked`) or `member`.
        code: the code of `shared_code`; case and blanks around it do not count.
        min_spend: smallest spend on `required_scope`, minor units.
        min_units: smallest number of units in `required_scope`.
        required_scope: what must be in the cart; None = the whole cart counts. Not to be confused
            with the scope of the offer, which says what gets cheaper.
        spend_basis: spend at `list` prices, or at prices `after_item` offers. It also holds for
            the tiers of mechanic `tiered`.
    """

    kind: Annotated[str, OneOf(("automatic", "shared_code", "unique_code", "member"))] = "automatic"
    code: Name | None = None
    min_spend: SomeMoney | None = None
    min_units: Count | None = None
    required_scope: Scope | None = None
    spend_basis: Annotated[str, OneOf(("list", "after_item"))] = "after_item"

    def __post_init__(self) -> None:
        validate(self, "trigger")
        if (self.kind == "shared_code") != (self.code is not None):
            raise DataError(
                f"must be given for kind shared_code and for no other; got {self.code!r}",
                where="trigger.code",
            )
        if self.code is not None and not self.code.strip():
            raise DataError("must not be blank", where="trigger.code")
        if self.required_scope is not None and self.required_scope.max_units is not None:
            raise DataError(
                "must have no max_units; use trigger.min_units", where="trigger.required_scope"
            )


@dataclass(frozen=True, kw_only=True)
class Audience:
    """Who may get the offer; empty tuples and None ask for nothing.

    Attributes:
        segments_any: the user must be in one of these segments.
        segments_none: the user must be in none of these.
        members_only: the user must be a member.
        first_order: the user must not have ordered before.
        min_orders: smallest number of earlier orders.
        max_orders: largest number of earlier orders, included.
        channels: sales channels.
        countries: ISO 3166 codes of two letters.
        user_ids_ref: name of a list of users kept elsewhere; see `Context.lists`.
        holdout_bp: share of users who never get the offer, basis points, for measuring it.
        salt: key of the holdout; offers with one salt hold out the same users. Empty = offer id.
    """

    segments_any: Names = ()
    segments_none: Names = ()
    members_only: bool = False
    first_order: bool = False
    min_orders: Annotated[int, Between((0, 10**9))] | None = None
    max_orders: Annotated[int, Between((0, 10**9))] | None = None
    channels: Names = ()
    countries: Names = ()
    user_ids_ref: Name | None = None
    holdout_bp: Annotated[int, Between((0, FULL_BP - 1))] = 0
    salt: str = ""

    def __post_init__(self) -> None:
        validate(self, "audience")
        if self.segments_any and set(self.segments_any) <= set(self.segments_none):
            raise DataError(
                "audience must not be empty; segments_none bars every one of segments_any",
                where="audience.segments_none",
            )
        low, high = self.min_orders or 0, self.max_orders
        if (high is not None and low > high) or (self.first_order and low > 0):
            raise DataError(
                f"audience must not be empty; no user has {low} or more earlier orders and at "
                f"most {0 if self.first_order else high}",
                where="audience.min_orders",
            )
        if len(self.salt.encode()) > _MAX_SALT:
            raise DataError(f"must have at most {_MAX_SALT} bytes", where="audience.salt")
        for i, country in enumerate(self.countries):
            if len(country) != 2 or not country.isascii() or not country.isupper():
                raise DataError(
                    f"must be two capital letters; got {country!r}",
                    where=f"audience.countries[{i}]",
                )

    def holds_out(self, user_id: str, offer_id: str) -> bool:
        """Whether a user belongs to the holdout; the same in every process.

        BLAKE2b of the user id, keyed by the salt, as a fraction of 2^64 against `holdout_bp`.
        """
        key = _holdout_key(self.salt or offer_id)
        digest = hashlib.blake2b(user_id.encode(), digest_size=8, key=key).digest()
        return int.from_bytes(digest, "little") * FULL_BP >> 64 < self.holdout_bp


@lru_cache(4096)
def _holdout_key(salt: str) -> bytes:
    return hashlib.blake2b(salt.encode(), digest_size=32).digest()


@dataclass(frozen=True, kw_only=True)
class Window:
    """Time in which an offer holds.

    Attributes:
        start_at: first instant; None = open. Kept in UTC.
        end_at: first instant after; None = open. Kept in UTC.
        weekdays: days of the local week, of `mon` to `sun`; empty = all.
        from_hour: first local hour of the day, 0 to 23.
        to_hour: local hour from which it no longer holds, 1 to 24; before `from_hour` = over
            midnight, and then the weekday is that of the instant, not of the evening before.
        timezone: IANA name of the zone of weekdays and hours.
    """

    start_at: datetime | None = None
    end_at: datetime | None = None
    weekdays: tuple[Weekday, ...] = ()
    from_hour: Annotated[int, Between((0, 23))] = 0
    to_hour: Annotated[int, Between((1, 24))] = 24
    timezone: Name = "UTC"

    def __post_init__(self) -> None:
        validate(self, "window")
        for name in ("start_at", "end_at"):
            if (at := getattr(self, name)) is None:
                continue
            try:
                object.__setattr__(self, name, at.astimezone(UTC))
            except OverflowError as error:
                raise DataError(
                    f"must lie in the years 1 to 9999 in UTC; got {at}", where=f"window.{name}"
                ) from error
        if self.start_at and self.end_at and self.start_at >= self.end_at:
            raise DataError(f"must be after start_at; got {self.end_at}", where="window.end_at")
        if self.from_hour == self.to_hour:
            raise DataError(
                f"must differ from from_hour; got {self.to_hour}", where="window.to_hour"
            )
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise DataError(
                f"must be an IANA time zone; got {self.timezone!r}", where="window.timezone"
            ) from error

    def reason(self, at: datetime) -> Reason | None:
        """Why the offer does not hold at a time; None if it does."""
        if self.start_at is not None and at < self.start_at:
            return Reason.NOT_STARTED
        if self.end_at is not None and at >= self.end_at:
            return Reason.ENDED
        all_day = self.from_hour == 0 and self.to_hour == 24
        if all_day and not self.weekdays:
            return None
        local = at.astimezone(ZoneInfo(self.timezone))
        if self.weekdays and WEEKDAYS[local.weekday()] not in self.weekdays:
            return Reason.WRONG_WEEKDAY
        is_after, is_before = local.hour >= self.from_hour, local.hour < self.to_hour
        over_midnight = self.from_hour > self.to_hour
        holds = is_after or is_before if over_midnight else is_after and is_before
        return None if holds else Reason.WRONG_HOUR


@dataclass(frozen=True, kw_only=True)
class Stacking:
    """How an offer combines with others.

    Attributes:
        layer: `item`, `order` (after all item offers) or `shipping` (last); None = what the
            mechanic says.
        priority: lower comes first within a layer; ties by offer id.
        group: name of a set of offers of one layer that are chosen among; None = in no group.
        in_group: `best` = the member that saves most, `smallest` = the one that saves least, but
            something, `first` = the first that saves, `all`. The members of a group must agree.
        exclusive: item offer: touches only units that no other offer touched, and closes them to
            all others. Order or shipping offer: applies only as the first of its layer that
            saves, and closes the layer.
        stop: once it saved something, later offers of its layer skip the units it touched.
        combines_with: layers whose offers may apply beside it; must hold for both of a pair.
        base: percentages and prices of the `running` price or of the `initial` list price.
    """

    layer: Layer | None = None
    priority: Annotated[int, Between((-(10**9), 10**9))] = 0
    group: Name | None = None
    in_group: Annotated[str, OneOf(("best", "smallest", "first", "all"))] = "all"
    exclusive: bool = False
    stop: bool = False
    combines_with: tuple[Layer, ...] = LAYERS
    base: Annotated[str, OneOf(("running", "initial"))] = "running"

    @property
    def is_compared(self) -> bool:
        """Whether the members of its group are judged against each other."""
        return self.in_group in ("best", "smallest")

    def __post_init__(self) -> None:
        validate(self, "stacking")
        if self.in_group != "all" and self.group is None:
            raise DataError("must be all without a group", where="stacking.in_group")


@dataclass(frozen=True, kw_only=True)
class Caps:
    """Limits of an offer; None = none. What is left of them is told by `Context.left`.

    Attributes:
        budget: minor units of discount and gifts over all orders of a period.
        uses: orders of a period.
        uses_per_user: orders of one user of a period.
        per_user_money: minor units of discount and gifts for one user of a period.
        per_order_money: minor units of discount per order.
        floor_price: the offer takes no unit below this price, minor units.
        min_margin_bp: the offer takes no unit below this margin on its price, basis points; units
            whose cost is not known are not touched.
        period: what budget and uses are counted over.
    """

    budget: SomeMoney | None = None
    uses: Count | None = None
    uses_per_user: Count | None = None
    per_user_money: SomeMoney | None = None
    per_order_money: SomeMoney | None = None
    floor_price: Money | None = None
    min_margin_bp: Annotated[int, Between((0, FULL_BP - 1))] | None = None
    period: Annotated[str, OneOf(("total", "day", "week"))] = "total"

    def __post_init__(self) -> None:
        validate(self, "caps")


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """What a model expects of the offer, per user who gets it; currency units.

    Attributes:
        uplift: expected incremental margin.
        lo: lower end of its interval.
        hi: upper end of its interval.
        cost: expected cost of discounts and gifts.
    """

    uplift: float
    lo: float
    hi: float
    cost: float

    def __post_init__(self) -> None:
        validate(self, "predicted")
        if not self.lo <= self.uplift <= self.hi:
            raise DataError(
                f"must lie in [lo, hi] = [{self.lo}, {self.hi}]; got {self.uplift}",
                where="predicted.uplift",
            )


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where an offer comes from; changes no price.

    Attributes:
        campaign: campaign it belongs to.
        model_version: model that proposed it.
        predicted: what that model expects.
        reason: why it was proposed, in plain words.
    """

    campaign: str = ""
    model_version: str = ""
    predicted: Predicted | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        validate(self, "provenance")
