"""Which items an offer speaks of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from promo_ray.errors import DataError
from promo_ray.offers.fields import Count, Names, validate


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Items by what they are; an item is selected if any of the lists names it.

    Attributes:
        products: item ids.
        categories: category paths, parts split by " > "; a path covers all below it.
        brands: brands.
        tags: tags.
    """

    products: Names = ()
    categories: Names = ()
    brands: Names = ()
    tags: Names = ()

    def __post_init__(self) -> None:
        validate(self, "selection")

    @cached_property
    def marks(self) -> frozenset[str]:
        """The lists as one set; `CartLine.marks` of a selected item meets it."""
        lists = (("p", self.products), ("c", self.categories), ("b", self.brands), ("t", self.tags))
        return frozenset(f"{kind}:{name}" for kind, names in lists for name in names)

    def names(self) -> list[str]:
        """Plain words for what is selected; of a category path the last part."""
        paths = [path.rpartition(" > ")[2] for path in self.categories]
        return [*paths, *self.brands, *self.tags, *self.products]


class Item(Protocol):
    """What a scope looks at; a `CartLine` is one."""

    @property
    def marks(self) -> frozenset[str]:
        """What a `Selection` can know the item by."""
        ...

    @property
    def is_on_sale(self) -> bool:
        """Whether the list price is already a reduced one."""
        ...


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Units that an offer may touch.

    Attributes:
        include: what is in; empty = everything.
        exclude: what is out all the same; empty = nothing.
        skip_on_sale: leave out items whose price is already reduced.
        max_units: touch at most so many units per order, the cheapest first; None = all.
    """

    include: Selection = field(default_factory=Selection)
    exclude: Selection = field(default_factory=Selection)
    skip_on_sale: bool = False
    max_units: Count | None = None

    def __post_init__(self) -> None:
        validate(self, "scope")
        both = self.include.marks & self.exclude.marks
        if both and both == self.include.marks:
            raise DataError("must not exclude all that it includes", where="scope.exclude")

    @classmethod
    def of(
        cls,
        *,
        products: tuple[str, ...] = (),
        categories: tuple[str, ...] = (),
        brands: tuple[str, ...] = (),
        tags: tuple[str, ...] = (),
    ) -> Scope:
        """Scope that includes a selection and excludes nothing."""
        return cls(
            include=Selection(products=products, categories=categories, brands=brands, tags=tags)
        )

    @cached_property
    def is_all(self) -> bool:
        """Whether every item is in scope."""
        return not (self.include.marks or self.exclude.marks or self.skip_on_sale)

    def holds(self, item: Item) -> bool:
        """Whether an item is in scope."""
        inside = self.include.marks
        if inside and inside.isdisjoint(item.marks):
            return False
        if self.skip_on_sale and item.is_on_sale:
            return False
        return self.exclude.marks.isdisjoint(item.marks)

    def describe(self) -> str:
        """Plain words."""
        text = ", ".join(self.include.names()) or "everything"
        if names := self.exclude.names():
            text += f" except {', '.join(names)}"
        if self.skip_on_sale:
            text += ", items on sale excluded"
        if self.max_units is not None:
            text += f", at most {self.max_units} {'unit' if self.max_units == 1 else 'units'}"
        return text


class ScopeBits:
    """Many scopes at once; bit s of an int stands for scope s.

    Attributes:
        n: number of scopes.
        skip_on_sale: those that leave out items whose price is already reduced.
    """

    def __init__(self, scopes: Sequence[Scope]) -> None:
        """Bits by mark, so that an item costs as many steps as it has marks."""
        self.n = len(scopes)
        self.skip_on_sale = self._every = 0
        self._inside: dict[str, int] = {}
        self._outside: dict[str, int] = {}
        for s, scope in enumerate(scopes):
            include, exclude = scope.include.marks, scope.exclude.marks
            self.skip_on_sale |= scope.skip_on_sale << s
            self._every |= (not include) << s
            for bits, marks in ((self._inside, include), (self._outside, exclude)):
                for mark in marks:
                    bits[mark] = bits.get(mark, 0) | 1 << s

    def holding(self, marks: Iterable[str]) -> int:
        """Scopes that hold an item with these marks that is not on sale; see `Scope.holds`."""
        held, barred = self._every, 0
        for mark in marks:
            held |= self._inside.get(mark, 0)
            barred |= self._outside.get(mark, 0)
        return held & ~barred
