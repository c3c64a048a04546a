"""Who an offer or a plan is for: rules on columns of the users' profiles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from promo_ray.config import config_class
from promo_ray.errors import ConfigError, DataError


@config_class
class Rule:
    """Users by one column of their profiles; all conditions given must hold, null meets none.

    Attributes:
        column: name of the column.
        at_least: smallest value.
        below: values are smaller than this.
        above_column: name of a column whose value is exceeded.
        is_in: texts of which the value is one.
    """

    column: str
    at_least: float | None = None
    below: float | None = None
    above_column: str | None = None
    is_in: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.column.startswith("protected_"):
            raise ConfigError(
                f"column must be none of protected_*, which is for audits; got {self.column!r}"
            )
        limits = (self.at_least, self.below, self.above_column)
        if all(limit is None for limit in limits) and not self.is_in:
            raise ConfigError(
                f"rule on {self.column!r} must have at_least, below, above_column or is_in"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the rule reads."""
        return (self.column,) if self.above_column is None else (self.column, self.above_column)


def columns_of_rules(rules: Iterable[Rule]) -> tuple[str, ...]:
    """Columns that rules read, each once, in order."""
    return tuple(dict.fromkeys(name for rule in rules for name in rule.columns))


def members(rules: Sequence[Rule], profiles: pa.Table, where: str) -> NDArray[np.bool_]:
    """`(n,)` bool users for whom all rules hold; everyone without a rule.

    Args:
        rules: the rules.
        profiles: a row per user.
        where: what the rules are of, for errors.

    Raises:
        DataError: a column is missing, or holds no numbers where a number is asked for.
    """
    inside = np.ones(profiles.num_rows, dtype=bool)
    for rule in rules:
        values = _column(profiles, rule.column, where)
        if rule.is_in:
            texts = pc.is_in(pc.cast(values, pa.string()), pa.array(rule.is_in))
            inside &= texts.to_numpy(zero_copy_only=False)
        if rule.at_least is not None:
            inside &= _numbers(rule.column, values, where) >= rule.at_least
        if rule.below is not None:
            inside &= _numbers(rule.column, values, where) < rule.below
        if rule.above_column is not None:
            other = _column(profiles, rule.above_column, where)
            numbers = _numbers(rule.column, values, where)
            inside &= numbers > _numbers(rule.above_column, other, where)
    return inside


def _column(profiles: pa.Table, name: str, where: str) -> pa.Array:
    if name not in profiles.column_names:
        raise DataError(f"profiles must have the column {name!r}", where=where)
    column: Any = profiles[name].combine_chunks()
    return column


def _numbers(name: str, values: pa.Array, where: str) -> NDArray[np.float64]:
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise DataError(f"column {name!r} must hold numbers; got {kind}", where=where)
    found: NDArray[np.float64] = pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False)
    return found
