"""What a mechanic is: given the units in its scope, which it touches and what it saves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

from promo_ray.errors import DataError


class Units(NamedTuple):
    """A run of equal units in the scope of an offer; money in minor units.

    Attributes:
        item_id: item of the units.
        quantity: units in the run, >= 1.
        list_price: price of one unit before any offer.
        price: price of one unit after the offers that came first.
    """

    item_id: str
    quantity: int
    list_price: int
    price: int

    def basis(self, base: str) -> int:
        """Price that a reward is computed on: `initial` or `running`."""
        return self.list_price if base == "initial" else self.price


class Reward(NamedTuple):
    """What a mechanic gives.

    Attributes:
        touched: units touched in each run.
        saving: minor units off all touched units together, spread over them by price.
        per_unit: minor units off each unit of a run, instead of spreading; None to spread.
    """

    touched: tuple[int, ...]
    saving: int
    per_unit: tuple[int, ...] | None = None


class Mechanic(Protocol):
    """A registered kind of reward; frozen dataclass of ints and strings."""

    method: ClassVar[str]
    layer: ClassVar[str]

    def reward(self, units: Sequence[Units], base: str) -> Reward | str:
        """Reward on the units in scope, or the reason code why there is none."""
        ...

    def describe(self, money: Callable[[int], str], place: str) -> str:
        """Plain words; `money` words an amount, `place` the scope."""
        ...

    @classmethod
    def from_terms(cls, row: Mapping[str, Any], minor: Callable[[float], int]) -> Mechanic:
        """Mechanic of a row of offer terms; `minor` turns currency units into minor units."""
        ...

    def to_terms(self, major: Callable[[int], float]) -> dict[str, Any]:
        """Columns of offer terms; `major` turns minor units into currency units."""
        ...


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
