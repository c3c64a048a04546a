"""What a mechanic is: given the units in its scope, which it touches and what it takes off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Self, TypeAlias

from promo_ray.errors import DataError
from promo_ray.offers.cart import CartLine
from promo_ray.offers.fields import Count, validate
from promo_ray.offers.money import FULL_BP
from promo_ray.offers.reasons import Reason
from promo_ray.offers.scope import Scope

# What offers took off a unit, the last one first: what went before it, offer id, minor units.
Taken: TypeAlias = "tuple[Taken | None, str, int]"


class Units(NamedTuple):
    """A run of equal units; money in minor units.

    Attributes:
        line: a cart line that holds the item.
        quantity: units in the run, >= 1.
        price: price of one unit after the offers so far.
        item_price: price of one unit after the item offers so far.
        room: the most that the offer at hand may take off one unit, 0 to `price`.
        item: number of the item in the canonical order.
        taken: what offers took off each unit.
        marks: what offers left on the units, see `promo_ray.offers.units`.
    """

    line: CartLine
    quantity: int
    price: int
    item_price: int
    room: int
    item: int = 0
    taken: Taken | None = None
    marks: int = 0

    def basis(self, base: str) -> int:
        """Price that a reward is computed on: `initial` or `running`."""
        return self.line.list_price if base == "initial" else self.price


class Reward(NamedTuple):
    """What a mechanic gives.

    Attributes:
        reduced: units of each run that get cheaper, the first of the run.
        off: exact minor units off each of them, times `den`; at most `room * den`.
        den: denominator of `off`, >= 1.
        used: units of each run that the offer needs besides, those after the reduced ones.
        limit: largest saving in minor units; None = none.
    """

    reduced: tuple[int, ...]
    off: tuple[int, ...]
    den: int = 1
    used: tuple[int, ...] = ()
    limit: int | None = None

    @classmethod
    def share(
        cls, units: Sequence[Units], reduced: Sequence[int], bp: int, base: str, **others: Any
    ) -> Self:
        """`bp` basis points off each reduced unit."""
        off = tuple(min(bp * u.basis(base), FULL_BP * u.room) for u in units)
        return cls(tuple(reduced), off, FULL_BP, **others)

    @classmethod
    def spread(cls, units: Sequence[Units], reduced: Sequence[int], amount: int) -> Self:
        """`amount` over all reduced units, in proportion to what may be taken off them."""
        room = sum(u.room * n for u, n in zip(units, reduced, strict=True))
        total = min(amount, room)
        return cls(tuple(reduced), tuple(total * u.room for u in units), max(room, 1))


@dataclass(frozen=True)
class Mechanic:
    """A registered kind of reward; frozen, of ints, texts and records of them."""

    method: ClassVar[str]
    layers: ClassVar[tuple[str, ...]]  # where it may stand; the first is the default
    by_unit: ClassVar[bool] = False  # whether each unit is reduced on its own: `max_units` may hold
    terms_name: ClassVar[str | None] = None  # name in the table of offer terms, which has but some

    def reward(self, units: Sequence[Units], base: str, spend_basis: str) -> Reward | Reason:
        """Reward on the units in scope, or the reason why there is none.

        Args:
            units: open units in scope in canonical order, at least one run.
            base: `running` or `initial`, see `Stacking.base`.
            spend_basis: `list` or `after_item`, see `Trigger.spend_basis`.
        """
        return Reason.NO_PRICE_CHANGE

    def describe(self, money: Callable[[int], str], place: str) -> str:
        """Plain words; `money` words an amount, `place` the scope."""
        raise NotImplementedError

    @classmethod
    def from_terms(cls, row: Mapping[str, Any], minor: Callable[[float], int]) -> Mechanic:
        """Mechanic of a row of offer terms; `minor` turns currency units into minor units."""
        raise NotImplementedError

    def to_terms(self, major: Callable[[int], float]) -> dict[str, Any]:
        """Columns of offer terms; `major` turns minor units into currency units.

        Raises:
            DataError: the table cannot hold the mechanic.
        """
        raise DataError(f"offer terms cannot hold {self.method}", where="mechanic")


@dataclass(frozen=True, kw_only=True)
class Slot:
    """`quantity` units out of a scope."""

    scope: Scope = field(default_factory=Scope)
    quantity: Count = 1

    def __post_init__(self) -> None:
        validate(self, "slot")
        if self.scope.max_units is not None:
            raise DataError("must have no max_units; use quantity", where="slot.scope")

    def holds(self, line: CartLine) -> bool:
        """Whether the units of a line fit."""
        return self.scope.holds(line)

    def describe(self) -> str:
        """Plain words."""
        place = self.scope.describe()
        return place if self.quantity == 1 else f"{self.quantity} x {place}"


def percent(bp: int) -> str:
    """Basis points in plain words, for example `12.5%`."""
    return f"{bp / 100:g}%"


def is_null(value: Any) -> bool:
    """Whether a table value is null; NaN counts as null."""
    return value is None or (isinstance(value, float) and value != value)


def given(row: Mapping[str, Any], column: str) -> Any:
    """Value of a column that the mechanic needs.

    Raises:
        DataError: the column is missing or null.
    """
    value = row.get(column)
    if is_null(value):
        raise DataError(
            f"{row.get('mechanic')} needs column {column!r}; got null",
            where=f"offer {row.get('offer_id')!r}",
        )
    return value
