"""The four kinds of genes and the numbers that stand for their values."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Number
from typing import Any

import numpy as np

from promo_ray.errors import ConfigError


@dataclass(frozen=True)
class Real:
    """A real number in `[lower, upper]`."""

    lower: float
    upper: float
    name: str = ""

    def __post_init__(self) -> None:
        require_interval(self.lower, self.upper, self.name)


@dataclass(frozen=True)
class Integer:
    """A whole number from `lower` to `upper`, both included, whose order means something."""

    lower: int
    upper: int
    name: str = ""

    def __post_init__(self) -> None:
        require_interval(self.lower, self.upper, self.name)
        if self.lower != int(self.lower) or self.upper != int(self.upper):
            raise ConfigError(f"bounds must be whole; gene {self.name!r} has {self}")


@dataclass(frozen=True)
class Choice:
    """One of several values without order; JSON values, so that spaces can be told apart."""

    values: tuple[Any, ...]
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        if not self.values:
            raise ConfigError(f"a choice needs at least one value; gene {self.name!r} has none")
        _require_different(self.values, self.name)


@dataclass(frozen=True)
class Subset:
    """`size` different items of a pool; their order does not matter."""

    items: tuple[Any, ...]
    size: int
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", tuple(self.items))
        if not 1 <= self.size <= len(self.items):
            raise ConfigError(
                f"size must be in [1, {len(self.items)}]; subset {self.name!r} has {self.size}"
            )
        _require_different(self.items, self.name)


Gene = Real | Integer | Choice | Subset


def require_interval(lower: float, upper: float, name: str) -> None:
    """Refuse bounds that are no numbers, not finite or the wrong way round."""
    is_number = isinstance(lower, Number) and isinstance(upper, Number)
    if not (is_number and np.isfinite(lower) and np.isfinite(upper) and lower <= upper):
        raise ConfigError(
            f"lower <= upper must hold and be finite; gene {name or '?'} has [{lower}, {upper}]"
        )


def _require_different(values: tuple[Any, ...], name: str) -> None:
    for i, value in enumerate(values):
        if values.index(value) != i:
            raise ConfigError(f"values must differ; gene {name!r} has {value!r} twice")


def n_numbers(gene: Gene) -> int:
    """Numbers that a gene takes in an individual."""
    return gene.size if isinstance(gene, Subset) else 1


def bounds_of(gene: Gene) -> list[tuple[float, float]]:
    """Bounds of each of them."""
    if isinstance(gene, Choice):
        return [(0.0, len(gene.values) - 1.0)]
    if isinstance(gene, Subset):
        return [(0.0, len(gene.items) - 1.0)] * gene.size
    return [(float(gene.lower), float(gene.upper))]


def numbers_of(gene: Gene, value: Any, index: int) -> list[float]:
    """The numbers that stand for a value of a gene."""
    try:
        if isinstance(gene, Choice):
            return [float(gene.values.index(value))]
        if isinstance(gene, Subset):
            numbers = sorted({float(gene.items.index(v)) for v in value})
            if len(numbers) != gene.size:
                raise ConfigError(f"gene {index} needs {gene.size} different items; got {value!r}")
            return numbers
    except ValueError:
        raise ConfigError(f"gene {index} must be of its values; got {value!r}") from None
    if isinstance(gene, Integer) and value != int(value):
        raise ConfigError(f"gene {index} must be whole; got {value!r}")
    return [float(value)]
