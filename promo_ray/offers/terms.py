"""What goes with a mechanic: where it applies, when, and how it stacks with others."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from promo_ray.errors import DataError
from promo_ray.offers.money import check_int


@dataclass(frozen=True)
class Scope:
    """Items an offer applies to; empty = all.

    Attributes:
        categories: category paths, parts split by " > "; a path covers all below it.
        item_ids: items by id; an item is in scope if its id or its category is.
    """

    categories: tuple[str, ...] = ()
    item_ids: tuple[str, ...] = ()

    def covers(self, item_id: str, category: str) -> bool:
        """Whether an item is in scope."""
        if not self.categories and not self.item_ids:
            return True
        return item_id in self.item_ids or any(
            category == path or category.startswith(f"{path} > ") for path in self.categories
        )

    def describe(self) -> str:
        """Plain words."""
        names = [path.rpartition(" > ")[2] for path in self.categories] + list(self.item_ids)
        return ", ".join(names) if names else "everything"


@dataclass(frozen=True)
class Window:
    """Time in which an offer holds: `start_at <= t < end_at`, UTC; None = open."""

    start_at: datetime | None = None
    end_at: datetime | None = None

    def __post_init__(self) -> None:
        for name in ("start_at", "end_at"):
            at = getattr(self, name)
            if at is not None:
                if at.tzinfo is None:
                    raise DataError(f"must have a time zone; got {at}", where=f"window.{name}")
                object.__setattr__(self, name, at.astimezone(UTC))
        if self.start_at and self.end_at and self.start_at >= self.end_at:
            raise DataError(f"must start before its end; got {self.start_at}", where="window")

    def reason(self, at: datetime) -> str | None:
        """Reason code why the offer does not hold at a time; None if it does."""
        if self.start_at is not None and at < self.start_at:
            return "not_started"
        if self.end_at is not None and at >= self.end_at:
            return "ended"
        return None


@dataclass(frozen=True)
class Stacking:
    """How an offer combines with others.

    Attributes:
        layer: `item` or `order` (after all item offers); None = what the mechanic says.
        priority: lower comes first within a layer; ties by offer id.
        base: percentages of the `running` price or of the `initial` list price.
    """

    layer: str | None = None
    priority: int = 0
    base: str = "running"

    def __post_init__(self) -> None:
        if self.layer not in (None, "item", "order"):
            raise DataError(f"must be item or order; got {self.layer!r}", where="stacking.layer")
        check_int(self.priority, -(10**9), 10**9, "stacking.priority")
        if self.base not in ("running", "initial"):
            raise DataError(f"must be running or initial; got {self.base!r}", where="stacking.base")
